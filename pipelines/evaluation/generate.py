"""Drawing videos with a trained pipeline: for held-out clips, and for a person's prompt."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from modeling.pipeline import FactorizedDreamerPipeline
from modeling.schedule import SchedulerKind, sampler_like
from pipelines.curation.captions import split_caption
from pipelines.evaluation.reference import EvaluationClip
from pipelines.layout import RunLayout
from pipelines.media import contact_sheet, write_gif, write_mp4
from pipelines.models import resolve_model
from pipelines.progress import track
from pipelines.recipe import Bucket, Recipe, SamplingSettings
from pipelines.recipe_file import load_recipe

IMAGE_STEPS = 30
SHOWN_PIXELS = 256  # tiny videos are shown enlarged to this height in GIFs
FRAMES_WITHOUT_RECIPE, FPS_WITHOUT_RECIPE = 16, 8.0


class GenerationError(ValueError):
    """A video that cannot be drawn as asked; the message says what to change."""


# ---------------------------------------------------------------- a pipeline


def load_pipeline(
    folder: Path | str, scheduler: SchedulerKind, device: str = "cpu"
) -> FactorizedDreamerPipeline:
    """A pipeline folder with the sampler that is asked for, over the betas that it was trained with."""
    pipeline = FactorizedDreamerPipeline.from_pretrained(resolve_model(str(folder)), use_safetensors=True)
    return ready(pipeline, scheduler, device)


def ready(
    pipeline: FactorizedDreamerPipeline, scheduler: SchedulerKind, device: str = "cpu"
) -> FactorizedDreamerPipeline:
    """Set a pipeline's sampler and device, and silence its progress bar."""
    pipeline.scheduler = sampler_like(pipeline.scheduler, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generator_of(seed: int, clip_id: str) -> torch.Generator:
    """All randomness of one clip: a function of the seed and the clip's id, whatever is drawn beside it."""
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw_clips(
    pipeline: FactorizedDreamerPipeline,
    clips: Sequence[EvaluationClip],
    images: Sequence[np.ndarray],
    sampling: SamplingSettings,
    seed: int,
) -> list[np.ndarray]:
    """Animate the first frames (H, W, 3) uint8 of clips of one size: a list of (T, H, W, 3) uint8."""
    if len({clip.size for clip in clips}) != 1:
        raise ValueError("clips of one batch must have one size")
    clip = clips[0]
    output = pipeline(
        prompt=[clip.appearance_caption for clip in clips],
        motion_prompt=[clip.motion_caption for clip in clips],
        image=np.stack(images).astype(np.float32) / 255,
        num_frames=clip.frames,
        fps=clip.fps,
        height=clip.height,
        width=clip.width,
        generator=[generator_of(seed, clip.clip_id) for clip in clips],
        output_type="np",
        **sampling_arguments(sampling),
    )
    return [to_uint8(frames) for frames in output.frames]


def sampling_arguments(sampling: SamplingSettings) -> dict[str, Any]:
    return {
        "num_inference_steps": sampling.steps,
        "guidance_scale_text": sampling.guidance_scale_text,
        "guidance_scale_image": sampling.guidance_scale_image,
        "guidance_rescale": sampling.guidance_rescale,
        "motion_score": sampling.motion_score,
    }


def to_uint8(frames: np.ndarray) -> np.ndarray:
    return (np.asarray(frames).clip(0, 1) * 255).round().astype(np.uint8)


# ---------------------------------------------------------------- a person's prompt


def generate(
    prompt: str,
    *,
    motion: str | None = None,
    image: Path | None = None,
    model: Path = Path("runs/demo"),
    out: Path = Path("runs/generated"),
    count: int = 1,
    steps: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Draw `count` videos: prompt → image → video, or image and motion caption → video.

    model: a pipeline folder, or a run directory (its last stage is taken). motion: default: what the prompt
    says about it. image: the first frame; without one the recipe's text-to-image model draws it.
    Writes NAME-SEED.mp4, NAME-SEED.gif and NAME.png (a contact sheet) to `out`; returns their paths and the
    captions that were used. Raises GenerationError, or FileNotFoundError when there is no model.
    """
    folder, recipe = find_model(model)
    sampling, bucket, fps = _settings(recipe)
    if steps is not None:
        sampling = sampling.model_copy(update={"steps": steps})
    if not prompt.strip():
        raise GenerationError("the prompt is empty: say what the video shows")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = load_pipeline(folder, sampling.scheduler, device)
    given = _read_image(image) if image is not None else None
    if given is None:
        pipeline.text_to_image = _text_to_image(recipe, folder).to(device)
    split = split_caption(prompt)
    appearance, moves = (split.appearance, split.motion) if motion is None else (prompt, motion)
    seeds = [seed + number for number in range(count)]
    size = (
        {"num_frames": bucket.frames, "height": bucket.height, "width": bucket.width}
        if bucket
        else {"num_frames": FRAMES_WITHOUT_RECIPE}
    )
    with track(sampling.steps, "generate: draw") as progress:

        def advance(*_: Any) -> dict[str, Any]:
            progress.advance()
            return {}

        output = pipeline(
            prompt=[appearance] * count,
            motion_prompt=[moves] * count,
            image=given,
            generator=[generator_of(one, prompt) for one in seeds],
            fps=fps,
            text_to_image_arguments={"num_inference_steps": IMAGE_STEPS, "guidance_rescale": 0.7},
            output_type="np",
            callback_on_step_end=advance,
            **size,
            **sampling_arguments(sampling),
        )
    videos = [to_uint8(frames) for frames in output.frames]
    return {
        "appearance": appearance,
        "motion": moves or "(none)",
        "model": str(folder),
        **_save(out, prompt, videos, seeds, fps),
    }


def find_model(model: Path) -> tuple[Path, Recipe | None]:
    """(pipeline folder, recipe of its run or None) of a pipeline folder or a run directory."""
    if (model / "model_index.json").is_file():
        recipes = (RunLayout(folder).recipe for folder in model.absolute().parents[:3])
        recipe_file = next((file for file in recipes if file.is_file()), None)  # of RUN/train/STAGE/model
        return model, load_recipe(str(recipe_file)) if recipe_file else None
    layout = RunLayout(model)
    if not layout.recipe.is_file():
        raise FileNotFoundError(
            f"no model in {model}: give a run directory or a folder with model_index.json"
        )
    recipe = load_recipe(str(layout.recipe))
    if recipe.train is None:
        raise FileNotFoundError(f"the run in {model} has no training: give --model a pipeline folder")
    folder = layout.model(recipe.train.stages[-1].name)
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"no trained model in {folder}: `dreamer run {layout.recipe}` makes it")
    return folder, recipe


def _settings(recipe: Recipe | None) -> tuple[SamplingSettings, Bucket | None, float]:
    """(sampling, frames and size, fps): of the tier that a recipe evaluates, or else trains last."""
    if recipe is None:
        return SamplingSettings(), None, FPS_WITHOUT_RECIPE
    sampling = recipe.evaluate.sampling if recipe.evaluate else SamplingSettings()
    stages = recipe.train.stages if recipe.train else ()
    tier = (
        recipe.evaluate.tier
        if recipe.evaluate
        else stages[-1].tier
        if stages
        else next(iter(recipe.curation.tiers))
    )
    return sampling, recipe.curation.tiers[tier][0], recipe.curation.fps


def _read_image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:  # PIL's own errors are OSErrors
        raise GenerationError(f"{path} is not a picture that can be read: {error}") from error


def _text_to_image(recipe: Recipe | None, folder: Path) -> Any:
    if recipe is None:
        raise GenerationError(
            f"{folder} belongs to no run, so no text-to-image model is known: "
            "give --image, or --model RUN_DIRECTORY"
        )
    from diffusers import StableDiffusionPipeline

    maker = StableDiffusionPipeline.from_pretrained(
        resolve_model(recipe.models.text_to_image), use_safetensors=True, safety_checker=None
    )
    maker.set_progress_bar_config(disable=True)
    return maker


def _save(out: Path, prompt: str, videos: list[np.ndarray], seeds: list[int], fps: float) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "video"
    written: dict[str, Any] = {}
    for frames, seed in zip(videos, seeds, strict=True):
        key = "" if len(videos) == 1 else f"_{seed}"
        shown = max(SHOWN_PIXELS, frames.shape[1])
        written[f"video{key}"] = str(write_mp4(out / f"{name}-{seed}.mp4", frames, fps))
        written[f"gif{key}"] = str(write_gif(out / f"{name}-{seed}.gif", frames, fps, height_pixels=shown))
    rows = [(f"{prompt} (seed {seed})", frames) for frames, seed in zip(videos, seeds, strict=True)]
    written["contact_sheet"] = str(contact_sheet(out / f"{name}.png", rows))
    return written
