"""Videos for a person's prompts: one from the command line, or a file of them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from modeling.windows import frame_windows
from pipelines.curation.captions import split_caption
from pipelines.curation.reach import Reach, is_remote, resolve_uri
from pipelines.curation.sources import table_rows
from pipelines.curation.verdicts import CurationError
from pipelines.evaluation.expander import PromptExpander
from pipelines.evaluation.generate import generator_of, load_pipeline, sampling_arguments, to_uint8
from pipelines.fingerprint import fingerprint, source_fingerprint
from pipelines.layout import RunLayout
from pipelines.media import contact_sheet, write_gif, write_mp4
from pipelines.models import resolve_model, weights_sha256
from pipelines.progress import track
from pipelines.recipe import Bucket, Recipe, SamplingSettings
from pipelines.recipe_file import load_recipe

IMAGE_STEPS = 30
SHOWN_PIXELS = 256  # tiny videos are shown enlarged to this height in GIFs
SHEET_ROWS = 32
OVERLAP_FRAMES = 2
FRAMES_WITHOUT_RECIPE, FPS_WITHOUT_RECIPE = 16, 8.0
COLUMNS = ("prompt", "motion", "image", "seed")
DRAWING_CODE = (
    "modeling",
    "pipelines.evaluation.prompts",
    "pipelines.evaluation.generate",
    "pipelines.media",
)


class GenerationError(ValueError):
    """A video that cannot be drawn as asked; the message says what to change."""


@dataclass(frozen=True)
class Request:
    """A video that is asked for. motion None: what the prompt says about it; image None: it is drawn."""

    prompt: str
    motion: str | None = None
    image: Path | None = None
    seed: int = 0

    @property
    def captions(self) -> tuple[str, str]:
        """(appearance, motion)"""
        if self.motion is not None:
            return self.prompt, self.motion
        split = split_caption(self.prompt)
        return split.appearance, split.motion


def read_requests(path: Path, seed: int = 0) -> list[Request]:
    """The requests of a .txt file with a prompt per line, or of a table with the columns of `COLUMNS`.

    Tables are .csv, .tsv, .jsonl or .parquet; only `prompt` must be there. Images are below the
    file's folder; a row without a seed has `seed`. Raises GenerationError that names the file and the row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of prompts {path}")
    try:
        if path.suffix.lower() == ".txt":
            rows = [{"prompt": line} for line in path.read_text("utf-8").splitlines() if line.strip()]
        else:
            rows = list(table_rows(path))
        requests = requests_of(rows, str(path), path.parent, seed)
    except (UnicodeDecodeError, CurationError, pa.ArrowInvalid) as error:
        raise GenerationError(f"{path} cannot be read: {error}") from error
    if not requests:
        raise GenerationError(f"{path} has no prompts")
    return requests


def requests_of(
    rows: Sequence[Mapping[str, Any]], where: str, images: Path = Path(), seed: int = 0
) -> list[Request]:
    """Requests of rows with the columns of `COLUMNS`, of which `prompt` must be there.

    where: what messages call the table. images: folder that the rows' images are in, and relative to. seed:
    of rows without one. Raises GenerationError that names the row.
    """
    return [_request(row, where, images, number, seed) for number, row in enumerate(rows, start=1)]


def _request(row: Mapping[str, Any], where: str, images: Path, number: int, seed: int) -> Request:
    if "prompt" not in row:
        raise GenerationError(f"{where} has no column 'prompt'; it has {', '.join(map(str, row))}")
    if not str(row["prompt"] or "").strip():
        raise GenerationError(f"{where}, row {number}: the prompt is empty; say what the video shows")
    given = _given_image(row, where, images, number)
    own_seed = row.get("seed")
    try:
        return Request(
            prompt=str(row["prompt"]),
            motion=row.get("motion") or None,
            image=given,
            seed=seed if own_seed in (None, "") else int(own_seed),
        )
    except ValueError as error:
        raise GenerationError(f"{where}, row {number}: the seed {own_seed!r} is no whole number") from error


def _given_image(row: Mapping[str, Any], where: str, images: Path, number: int) -> Path | None:
    """A table is made by others: it names no file outside its folder, also not by a link."""
    if not row.get("image"):
        return None
    folder = images.absolute()
    path, refused = resolve_uri(str(row["image"]), Reach((folder,)))
    if refused or is_remote(path):
        raise GenerationError(
            f"{where}, row {number}: the image {row['image']} is no file in {folder}; put it there"
        )
    return Path(path)


def generate(
    requests: Sequence[Request],
    *,
    model: Path = Path("runs/demo"),
    out: Path = Path("runs/generated"),
    steps: int | None = None,
    frames: int | None = None,
    expander: str | None = None,
    batch_videos: int = 4,
) -> dict[str, Any]:
    """Draw a video for each request: prompt → image → video, or image and motion caption → video.

    model: a pipeline folder, or a run directory (its last stage is taken). frames: more than the model was
    trained on are drawn in windows that continue each other. expander: folder of a language model that makes
    the appearance captions more descriptive. batch_videos: drawn at once; the videos do not depend on it.
    Writes NAME.mp4, NAME.gif of every video and a contact sheet of the first `SHEET_ROWS` to `out`, each as
    soon as it is drawn; returns their paths and the captions that were used.
    Raises GenerationError, ExpansionError, or FileNotFoundError when there is no model.
    """
    artist = Artist(*find_model(model), expander).at(steps, frames)
    return draw_requests(artist, requests, out, batch_videos)


def draw_requests(
    artist: "Artist", requests: Sequence[Request], out: Path, batch_videos: int = 4
) -> dict[str, Any]:
    """What `generate` does, by an artist that is there already."""
    names = _names(requests)
    videos: list[dict[str, Any]] = []
    sheet: list[tuple[str, np.ndarray]] = []
    for index, (appearance, motion), video in drawn_videos(artist, requests, batch_videos, "generate: draw"):
        request = requests[index]
        shown = max(SHOWN_PIXELS, video.shape[1])
        mp4 = write_mp4(out / f"{names[index]}.mp4", video, artist.fps)
        gif = write_gif(out / f"{names[index]}.gif", video, artist.fps, height_pixels=shown)
        videos.append(
            {"prompt": request.prompt, "appearance": appearance, "motion": motion}
            | {"seed": request.seed, "video": str(mp4), "gif": str(gif)}
        )
        if len(sheet) < SHEET_ROWS:
            sheet.append((f"{request.prompt} (seed {request.seed})", video))
    title = "prompts" if len({request.prompt for request in requests}) > 1 else _slug(requests[0].prompt)
    return {
        "model": str(artist.folder),
        "videos": videos,
        "contact_sheet": str(contact_sheet(out / f"{title}.png", sheet)),
    }


def drawn_videos(
    artist: "Artist", requests: Sequence[Request], batch_videos: int, description: str
) -> Iterator[tuple[int, tuple[str, str], np.ndarray]]:
    """(index of the request, (appearance, motion), (T, H, W, 3) uint8) of every request, as it is drawn.

    description: of the progress that is shown. What cannot be read is said before anything is drawn.
    """
    if any(request.image is None for request in requests):
        artist.load_text_to_image()
    for image in {request.image for request in requests if request.image is not None}:
        _read_image(image)
    captions = [artist.captions(request) for request in requests]
    batches = _batches(requests, batch_videos)
    with track(len(batches) * artist.total_steps, description) as progress:
        for batch in batches:
            drawn = artist.draw([requests[i] for i in batch], [captions[i] for i in batch], progress.advance)
            for index, video in zip(batch, drawn, strict=True):
                yield index, captions[index], video


class Artist:
    """A loaded pipeline and how it draws: size, frames, sampling."""

    def __init__(self, folder: Path, recipe: Recipe | None, expander: str | None = None) -> None:
        """folder: of a pipeline. recipe: of its run, if it belongs to one."""
        self.folder, self.recipe, self.expander = folder, recipe, expander
        self.sampling, self.bucket, self.fps = _settings(recipe)
        self.window = self.bucket.frames if self.bucket else FRAMES_WITHOUT_RECIPE
        self.frames, self.overlap = self.window, min(OVERLAP_FRAMES, self.window - 1)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipeline = load_pipeline(self.folder, self.sampling.scheduler, self.device)
        self.expand = None if expander is None else PromptExpander(expander)

    def at(self, steps: int | None, frames: int | None) -> "Artist":
        """The same networks with other sampling steps and length; None: as they are."""
        other = copy(self)
        if steps is not None:
            other.sampling = self.sampling.model_copy(update={"steps": steps})
        other.frames = frames or self.frames
        return other

    def load_text_to_image(self) -> None:
        """What draws the first frame of a request that brings none; loaded once, for all copies by `at`."""
        if self.pipeline.text_to_image is None:
            self.pipeline.text_to_image = _text_to_image(self.recipe, self.folder).to(self.device)

    def fingerprint(self) -> str:
        return drawing_fingerprint(self.folder, self.recipe, self.sampling, self.frames, self.expander)

    @property
    def total_steps(self) -> int:
        """Sampling steps of a batch."""
        return len(frame_windows(self.frames, self.window, self.overlap)) * self.sampling.steps

    def captions(self, request: Request) -> tuple[str, str]:
        if not request.prompt.strip():
            raise GenerationError("the prompt is empty: say what the video shows")
        appearance, motion = request.captions
        if request.motion is None and self.recipe and self.recipe.curation.captions.motion == "whole":
            motion = request.prompt  # as in the clips that the model was trained on
        return self.expand(appearance) if self.expand is not None else appearance, motion

    def draw(
        self,
        requests: Sequence[Request],
        captions: Sequence[tuple[str, str]],
        advance: Callable[[], object],
    ) -> list[np.ndarray]:
        """Videos (T, H, W, 3) uint8 of requests that all have an image, or all have none."""

        def step(*_: Any) -> dict[str, Any]:
            advance()
            return {}

        size = {"height": self.bucket.height, "width": self.bucket.width} if self.bucket else {}
        images = [_read_image(request.image) for request in requests if request.image is not None]
        output = self.pipeline(
            prompt=[appearance for appearance, _ in captions],
            motion_prompt=[motion for _, motion in captions],
            image=images or None,
            generator=[generator_of(request.seed, request.prompt) for request in requests],
            num_frames=self.frames,
            window_frames=self.window,
            overlap_frames=self.overlap,
            fps=self.fps,
            text_to_image_arguments={"num_inference_steps": IMAGE_STEPS, "guidance_rescale": 0.7},
            output_type="np",
            callback_on_step_end=step,
            **size,
            **sampling_arguments(self.sampling),
        )
        return [to_uint8(frames) for frames in output.frames]


def _batches(requests: Sequence[Request], size: int) -> list[list[int]]:
    """Indices of requests, in order; a batch has images or has none."""
    batches = []
    for _, group in groupby(range(len(requests)), lambda index: requests[index].image is None):
        members = list(group)
        batches += [members[start : start + size] for start in range(0, len(members), size)]
    return batches


def repeated(request: Request, count: int) -> Iterator[Request]:
    """`count` requests of one video, each with a seed of its own."""
    return (replace(request, seed=request.seed + number) for number in range(count))


def _names(requests: Sequence[Request]) -> list[str]:
    """File names without their ends: PROMPT-SEED, with the row in front when two would be the same."""
    names = [f"{_slug(request.prompt)}-{request.seed}" for request in requests]
    if len(set(names)) == len(names):
        return names
    return [f"{number:05d}-{name}" for number, name in enumerate(names, start=1)]


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "video"


# ---------------------------------------------------------------- a model, and what goes with it


def drawing_fingerprint(
    folder: Path, recipe: Recipe | None, sampling: SamplingSettings, frames: int, expander: str | None = None
) -> str:
    """Of all that a request's video depends on beside the request and its split into captions."""
    _, bucket, fps = _settings(recipe)
    text_to_image = None if recipe is None else recipe.models.text_to_image
    # Read anew: a folder's weights change with each training.
    weights = [path and weights_sha256.__wrapped__(path) for path in (str(folder), text_to_image, expander)]
    return fingerprint(weights, sampling, frames, bucket, fps, source_fingerprint(*DRAWING_CODE))


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
        with path.open("rb") as file, Image.open(file) as image:
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
