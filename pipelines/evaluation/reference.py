"""The clips of an evaluation: what goes into the model, and what its videos are compared with."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.curation.clip_table import read_clips
from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.reach import reach_of, resolve_uri
from pipelines.curation.remote import local_file
from pipelines.curation.video import crop_to
from pipelines.evaluation.motion import parse_objects
from pipelines.files import write_text
from pipelines.layout import RunLayout
from pipelines.recipe import Bucket, EvaluateSettings, EvaluationSet, Recipe
from pipelines.secrets import without_secrets


class EvaluationError(RuntimeError):
    """An evaluation that cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class EvaluationClip:
    """One clip of an evaluation set.

    objects: labelled objects as in the table, empty without labels. given_image: `uri` is a picture that
    takes the place of a real video's first frame; there is no real video.
    """

    set: str
    clip_id: str
    uri: str
    start_seconds: float
    frames: int
    height: int
    width: int
    fps: float
    caption: str
    appearance_caption: str
    motion_caption: str
    objects: tuple[dict[str, Any], ...] = ()
    untrained: bool = False
    given_image: bool = False

    @property
    def size(self) -> tuple[int, int, int]:
        return self.frames, self.height, self.width

    @property
    def asks_for_motion(self) -> bool:
        """By its labels where it has some, else by its motion caption."""
        if self.objects:
            return any(thing["motion"] != "still" for thing in self.objects)
        return bool(self.motion_caption.strip())


def select_clips(recipe: Recipe) -> list[EvaluationClip]:
    """The clips of every set, smallest clip ids first: a random choice that is the same every time.

    Given images come in their table's order. Raises EvaluationError when a set has no clip in the tier, or
    its images cannot be read.
    """
    from pipelines.evaluation.images import image_clips

    settings = evaluate_settings(recipe)
    chosen: list[EvaluationClip] = []
    for wanted in settings.sets:
        of_set = image_clips if wanted.images is not None else _split_clips
        chosen += of_set(recipe, wanted)[: wanted.clips]
    return _with_floor(chosen, settings)


def _split_clips(recipe: Recipe, wanted: EvaluationSet) -> list[EvaluationClip]:
    settings, layout = evaluate_settings(recipe), RunLayout.of(recipe)
    rows = read_clips(layout, split=wanted.split).to_pylist()
    clips = [clip for row in rows if (clip := _clip(recipe, settings, wanted, row)) is not None]
    if not clips:
        raise EvaluationError(
            f"evaluate.sets.{wanted.name}: the clip table has {len(rows)} kept clips of split "
            f"{wanted.split!r} and none in a bucket of tier {settings.tier!r}; "
            f"see the splits and buckets in {layout.clips}"
        )
    return clips


def evaluate_settings(recipe: Recipe) -> EvaluateSettings:
    if recipe.evaluate is None:
        raise EvaluationError("the recipe has no section `evaluate`: name its tier and sets")
    return recipe.evaluate


def _clip(
    recipe: Recipe, settings: EvaluateSettings, wanted: EvaluationSet, row: dict[str, Any]
) -> EvaluationClip | None:
    bucket = _bucket_of(recipe.curation.tiers[settings.tier], row["bucket"] or "")
    if bucket is None:
        return None
    uri, refused = resolve_uri(row["source_uri"], reach_of(recipe.data))
    if refused:
        raise EvaluationError(f"clip {row['clip_id']}: {refused}")
    return EvaluationClip(
        set=wanted.name,
        clip_id=row["clip_id"],
        uri=uri,
        start_seconds=row["start_seconds"],
        frames=bucket.frames,
        height=bucket.height,
        width=bucket.width,
        fps=recipe.curation.fps,
        caption=row["caption"],
        appearance_caption=row["appearance_caption"] or row["caption"],
        motion_caption=row["motion_caption"] or "",
        objects=_objects(row, settings.motion_labels),
    )


def _bucket_of(tier: tuple[Bucket, ...], column: str) -> Bucket | None:
    names = column.split()
    return next((bucket for bucket in tier if str(bucket) in names), None)


def _objects(row: dict[str, Any], column: str | None) -> tuple[dict[str, Any], ...]:
    if column is None:
        return ()
    labels = json.loads(row["labels"] or "{}")
    if column not in labels:
        known = ", ".join(sorted(labels)) or "none"
        raise EvaluationError(
            f"evaluate.motion_labels: clip {row['clip_id']} has no label {column!r} (it has: {known}); "
            "name the column in data.columns.labels too"
        )
    try:
        parse_objects(labels[column])
    except ValueError as error:
        raise EvaluationError(f"clip {row['clip_id']}: {error}") from error
    return tuple(labels[column])


def _with_floor(clips: list[EvaluationClip], settings: EvaluateSettings) -> list[EvaluationClip]:
    """The first clips of the first set are drawn by the untrained model too."""
    first = settings.sets[0].name
    seen: Counter[str] = Counter()
    marked = []
    for clip in clips:
        seen[clip.set] += 1
        untrained = clip.set == first and seen[first] <= settings.untrained_clips
        marked.append(EvaluationClip(**{**asdict(clip), "untrained": untrained}))
    return marked


def write_clips(path: Path, clips: Iterable[EvaluationClip]) -> None:
    """One JSON object a line: all that measuring needs to know beside the videos."""
    write_text(path, "".join(json.dumps(asdict(clip), ensure_ascii=False) + "\n" for clip in clips))


def read_evaluation_clips(path: Path) -> list[EvaluationClip]:
    if not path.is_file():
        raise EvaluationError(f"no {path}: `dreamer evaluate RECIPE` draws the videos first")
    return [clip_from_json(json.loads(line)) for line in path.read_text().splitlines()]


def clip_from_json(entry: dict[str, Any]) -> EvaluationClip:
    return EvaluationClip(**{**entry, "objects": tuple(entry["objects"])})


class ReferenceReader:
    """Reads clips from their sources as curation did: same frames, same size; and given images alike."""

    def __init__(self, recipe: Recipe) -> None:
        self.decoder = DecoderProcess(recipe.curation.decode)
        self.networks = recipe.data.private_networks

    def image(self, clip: EvaluationClip) -> np.ndarray:
        """(H, W, 3) uint8, cropped in the middle. Raises EvaluationError when it cannot be read any more."""
        from PIL import Image

        try:
            with local_file(clip.uri, self.networks) as path, Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:  # PIL's own errors are OSErrors
            raise EvaluationError(
                f"{without_secrets(clip.uri)} is not a picture that can be read: {error}"
            ) from error
        except DecoderError as error:
            raise EvaluationError(f"{without_secrets(clip.uri)} cannot be fetched: {error.reason}") from error
        return crop_to(pixels[None], clip.height, clip.width)[0]

    def read(self, clip: EvaluationClip) -> np.ndarray:
        """(T, H, W, 3) uint8. Raises EvaluationError when the source cannot be read any more."""
        try:
            with local_file(clip.uri, self.networks) as path:
                return self.decoder.clip(
                    path, clip.start_seconds, clip.frames, clip.fps, clip.height, clip.width
                )
        except DecoderError as error:
            raise EvaluationError(
                f"clip {clip.clip_id} of {without_secrets(clip.uri)} cannot be read: {error.reason}"
            ) from error
