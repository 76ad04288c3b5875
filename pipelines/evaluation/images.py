"""Given images with motion captions, for an evaluation of image to video by itself."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.curation.captions import split_caption
from pipelines.curation.reach import Reach, is_remote, reach_of, resolve_uri
from pipelines.curation.sources import table_rows
from pipelines.curation.verdicts import CurationError
from pipelines.evaluation.motion import parse_objects
from pipelines.evaluation.reference import EvaluationClip, EvaluationError, evaluate_settings
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.recipe import EvaluationSet, Recipe

NEEDED = ("prompt", "image")


def image_clips(recipe: Recipe, wanted: EvaluationSet) -> list[EvaluationClip]:
    """The rows of a set's table of images, in its order, for the first bucket of the evaluated tier.

    Columns: `prompt` (what the image shows), `image` (relative to the table, or an address), `motion` (left
    out or empty: what the prompt says of it), and the labels of `evaluate.motion_labels`, a list as JSON
    (left out: motion accuracy is not measured). Raises EvaluationError that names table and row.
    """
    settings = evaluate_settings(recipe)
    bucket = recipe.curation.tiers[settings.tier][0]
    rows = read_table(recipe, wanted)
    declared = reach_of(recipe.data)
    reach = replace(declared, folders=(table_path(recipe, wanted).parent, *declared.folders))
    clips: dict[str, EvaluationClip] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{table_path(recipe, wanted)}, row {number}"
        appearance, motion = _captions(row, where)
        uri = _image(row, reach, where)
        key = file_sha256(uri) if not is_remote(uri) else uri
        clip_id = hashlib.sha256(f"{key}\n{appearance}\n{motion}".encode()).hexdigest()[:20]
        if clip_id in clips:
            raise EvaluationError(f"{where}: an earlier row has the same image and captions; delete one")
        clips[clip_id] = EvaluationClip(
            set=wanted.name,
            clip_id=clip_id,
            uri=uri,
            start_seconds=0.0,
            frames=bucket.frames,
            height=bucket.height,
            width=bucket.width,
            fps=recipe.curation.fps,
            caption=f"{appearance}. {motion}" if motion else appearance,
            appearance_caption=appearance,
            motion_caption=motion,
            objects=_labels(row, settings.motion_labels, where),
            given_image=True,
        )
    return list(clips.values())


def read_table(recipe: Recipe, wanted: EvaluationSet) -> list[dict[str, Any]]:
    """Rows of a set's table. Raises EvaluationError when it is missing, empty or lacks a column."""
    path = table_path(recipe, wanted)
    if not path.is_file():
        raise EvaluationError(
            f"evaluate.sets.{wanted.name}.images: no table {path}; it is relative to the folder of data.table"
        )
    try:
        rows = list(table_rows(path))
    except (UnicodeDecodeError, CurationError, pa.ArrowInvalid) as error:
        raise EvaluationError(
            f"evaluate.sets.{wanted.name}.images: {path} cannot be read: {error}"
        ) from error
    if not rows:
        raise EvaluationError(f"evaluate.sets.{wanted.name}.images: {path} has no rows")
    for column in NEEDED:
        if column not in rows[0]:
            raise EvaluationError(
                f"evaluate.sets.{wanted.name}.images: {path} has no column {column!r}; it has "
                f"{', '.join(map(str, rows[0]))}"
            )
    return rows


def table_path(recipe: Recipe, wanted: EvaluationSet) -> Path:
    """A set's table of images, which lies beside the recipe's own table unless its path is absolute."""
    assert wanted.images is not None
    table = Path(recipe.data.table).absolute()
    return (table if table.is_dir() else table.parent) / wanted.images


def image_table_stamp(recipe: Recipe, wanted: EvaluationSet) -> str:
    """Changes when the table or one of its images on this machine does, and when the table comes or goes."""
    if not table_path(recipe, wanted).is_file():
        return "no table"  # which keeps nobody from curating
    clips = image_clips(recipe, wanted)
    return fingerprint([(clip.clip_id, clip.uri, clip.objects) for clip in clips])


def _captions(row: dict[str, Any], where: str) -> tuple[str, str]:
    """(appearance, motion)"""
    prompt = str(row["prompt"] or "").strip()
    if not prompt:
        raise EvaluationError(f"{where}: the prompt is empty; say what the image shows")
    if motion := str(row.get("motion") or "").strip():
        return prompt, motion
    split = split_caption(prompt)
    return split.appearance, split.motion


def _image(row: dict[str, Any], reach: Reach, where: str) -> str:
    if not row["image"]:
        raise EvaluationError(f"{where}: no image is named")
    uri, refused = resolve_uri(str(row["image"]), reach)
    if refused:
        raise EvaluationError(f"{where}: {refused}")
    if not is_remote(uri) and not Path(uri).is_file():
        raise EvaluationError(f"{where}: no image {uri}")
    return uri


def _labels(row: dict[str, Any], column: str | None, where: str) -> tuple[dict[str, Any], ...]:
    found = row.get(column) if column is not None else None
    if not found:
        return ()
    try:
        labels = json.loads(found) if isinstance(found, str) else found
        parse_objects(labels)
    except (ValueError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{where}: the label {column!r} is no list of objects: {error}") from error
    return tuple(labels)
