"""Videos that a stage draws on its way, of the same held-out clips every time.

    train/STAGE/samples/step-00000500.png   each clip: as drawn, and below it as it is, frame by frame
                       /step-00000500.mp4   the drawn ones, playing

They are drawn with the weights that train now, by the engine's own forward pass: the same call under ZeRO 0
to 3, in which every worker draws its share, and no second copy of the network. (The average, which a stage
leaves as its model, exists in pieces only until a checkpoint is read back.) Beside them the validation loss
is of the same weights.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who only looks for the files needs no torch
    from torch import Tensor

    from pipelines.training.index import BucketClips
    from pipelines.training.stage import StageRun
    from pipelines.training.stream import Sample

FOLDER = "samples"
GRID_COLUMNS = 4
DECODED_AT_ONCE_FRAMES = 16


def sample_files(stage: Path) -> Iterator[tuple[int, list[Path]]]:
    """(step, its files) of a stage's folder, in order of steps; only whole ones."""
    pattern = re.compile(r"step-(\d+)\.(png|mp4)")
    files = sorted(file for file in (stage / FOLDER).glob("step-*") if pattern.fullmatch(file.name))
    for step, group in groupby(files, key=lambda file: int(file.stem.removeprefix("step-"))):
        if len(found := list(group)) == 2:
            yield step, found


def draw_samples(run: "StageRun") -> None:
    """Draw `sample_clips` clips of split `validation` from their first frames; every worker calls this.

    Draws with generators of its own, so training goes on as if nothing had been drawn. Nothing is done when
    no clip is in that split, which is said before training starts.
    """
    import torch

    buckets = run.plan.index.clips("validation")
    if not buckets:
        return
    cuda = [run.group.device] if run.group.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=cuda):
        videos = run.group.all_of(_draw(run, _own_samples(run, buckets[0])))
    if run.group.rank == 0:
        count = min(run.settings.sample_clips, len(buckets[0]))  # beyond that they repeat
        _write(run, buckets[0].dataset, [video for own in videos for video in own][:count])


def _own_samples(run: "StageRun", clips: "BucketClips") -> list["Sample"]:
    """This worker's share: as many on each, for under ZeRO 3 all must call the network equally often."""
    from pipelines.training.stream import Sample

    count = min(run.settings.sample_clips, len(clips))
    share = -(-count // run.group.size)
    numbers = [(run.group.rank * share + i) % count for i in range(share)]
    return [Sample(number, clips.name, *clips.at(number)) for number in numbers]


def _draw(run: "StageRun", samples: list["Sample"]) -> list[tuple[str, Any, Any]]:
    """(clip id, drawn, real) of each sample, both (T, H, W, 3) uint8."""
    import torch

    from modeling.guidance import guidance_branches
    from modeling.pipeline import FactorizedDreamerPipeline, Inputs
    from pipelines.models import load_vae
    from pipelines.recipe import SamplingSettings

    sampling = run.recipe.evaluate.sampling if run.recipe.evaluate else SamplingSettings()
    conditions = _conditions(run, samples)
    latents = conditions["latents"]  # (B, C, T, h, w)
    clips = len(samples)
    score = sampling.motion_score
    inputs = Inputs(
        text=conditions["text_tokens"],
        empty_text=run.encoders.empty_text_tokens.to(run.dtype).expand(clips, -1, -1),
        motion=conditions.get("motion_tokens"),
        motion_mask=conditions.get("motion_mask"),
        image_tokens=conditions["image_tokens"],
        image_latents=latents[:, :, 0],
        fps=conditions["fps"],
        motion_score=None if score is None else torch.full((clips,), score, device=run.group.device),
    )
    vae = load_vae(run.recipe.models.text_to_image).to(run.group.device)
    scheduler = run.schedule.to_diffusers_scheduler(sampling.scheduler)
    pipeline = FactorizedDreamerPipeline(run.engine.module, vae, None, None, scheduler)
    pipeline.unet = run.engine  # whose forward gathers what ZeRO 3 has divided
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.stack([_noise(run, sample, latents.shape[1:]) for sample in samples]).to(latents)
    drawn = pipeline.denoise(
        noise,
        noise[:, :, :0],
        inputs,
        guidance_branches(
            sampling.guidance_scale_text, sampling.guidance_scale_image, has_image=inputs.has_image
        ),
        sampling.steps,
        sampling.guidance_rescale,
        None,
        None,
    )
    pictures = [_frames(vae, video) for video in (*drawn, *latents)]
    names = [sample.clip_id for sample in samples]
    return list(zip(names, pictures[:clips], pictures[clips:], strict=True))


def _conditions(run: "StageRun", samples: list["Sample"]) -> dict[str, Any]:
    """Latents and conditions of clips in the precision of training, nothing random done to them."""
    from pipelines.training.batch import prepare

    ready = prepare(
        samples,
        run.reader_of_validation.rows(samples),
        seed=0,
        drop_probability=0.0,
        motion_score_drop_probability=0.0,
        image_noise=0.0,
        num_train_timesteps=run.schedule.num_train_timesteps,
    )
    found = run.encoders.conditions(ready, fps=run.recipe.curation.fps, motion_scores=False)
    return {name: t.to(run.dtype) if t.is_floating_point() else t for name, t in found.items()}


def _noise(run: "StageRun", sample: "Sample", shape: tuple[int, ...]) -> "Tensor":
    """Noise (C, T, h, w) of a clip: the same at every step, whatever is drawn beside it."""
    import torch

    from pipelines.fingerprint import fingerprint

    seed = int(fingerprint("samples", run.recipe.seed, sample.clip_id)[:15], 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _frames(vae: Any, latents: "Tensor") -> Any:
    """(C, T, h, w) -> (T, H, W, 3) uint8."""
    from modeling.latents import decode_latents

    pixels = decode_latents(vae, latents.transpose(0, 1), DECODED_AT_ONCE_FRAMES)  # (T, 3, H, W)
    return (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _write(run: "StageRun", dataset: str, videos: list[tuple[str, Any, Any]]) -> None:
    from pipelines.media import contact_sheet, video_grid, write_mp4

    captions = _captions(run, dataset, [clip_id for clip_id, _, _ in videos])
    named = [(captions[clip_id], drawn, real) for clip_id, drawn, real in videos]
    folder = run.folder / FOLDER
    rows = [row for caption, drawn, real in named for row in ((caption, drawn), ("the clip itself", real))]
    grid = video_grid([(caption, drawn) for caption, drawn, _ in named], columns=GRID_COLUMNS)
    write_mp4(folder / f"step-{run.step:08d}.mp4", grid, run.recipe.curation.fps)
    contact_sheet(folder / f"step-{run.step:08d}.png", rows)  # last: the pair is whole when it is there


def _captions(run: "StageRun", dataset: str, clip_ids: list[str]) -> dict[str, str]:
    """What a clip of a data set was asked to be, by its id."""
    import pyarrow.compute as pc

    from pipelines.curation.clip_table import read_clips
    from pipelines.layout import RunLayout
    from pipelines.recipe import OWN_CLIPS
    from pipelines.storage import storage_path

    own = dataset == OWN_CLIPS
    folder = run.recipe.run_directory if own else run.settings.datasets[dataset]
    table = read_clips(RunLayout(storage_path(folder)), split="validation")
    rows = table.filter(pc.field("clip_id").isin(clip_ids)).to_pylist()
    return {row["clip_id"]: row["caption"] or "(no caption)" for row in rows}
