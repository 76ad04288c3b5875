"""What a run can do without: which files, how many bytes, and their removal.

Only what can be made again or is superseded goes, kind by kind as `KINDS` says; whatever is not named there
stays. A run is locked meanwhile as by a command that works on it, so neither meets the other.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.files import write_json
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.storage import file_system, is_remote, remove_tree
from pipelines.training.checkpoint import read_position, whole_checkpoints
from pipelines.uploads import Upload, end_upload, unfinished_uploads, uploaded_bytes

KINDS = {
    "old shards": "shards of other settings, of which the manifest knows nothing",
    "old scores": "scores of other settings, where those of today's are whole",
    "old caption splits": "caption splits by another model",
    "checkpoints": "of finished stages, all but the last (more steps go on from that one)",
    "trials": "folders of `dreamer train --limit-steps`, with their models",
    "unfinished files": "what a killed command was writing",
    "unfinished uploads": "parts of what a killed command was sending to a bucket",
}
# By folder; of checkpoints those that are not whole.
UNFINISHED = {
    "": (".*.partial",),
    "data": ("**/.*.partial",),
    "train": ("**/.*.partial", ".ray", "*/checkpoints/step-*"),
    "evaluate": ("**/.*.partial",),
}
# UNIT-STAMP[-PART]: a file with another name is not one that curation wrote.
OF_A_UNIT = re.compile(r"(?P<unit>\d{5})-(?P<stamp>[0-9a-f]{8})(-\d{3,})?")


class CleaningError(RuntimeError):
    """A folder that is not cleaned; the message says why."""


@dataclass(frozen=True)
class Removal:
    """A file or folder that may go, or an upload that has not become the file."""

    kind: str
    path: Path
    upload: Upload | None = None


def find_removals(run: Path) -> list[Removal]:
    """All that may go from a run directory, in order of `KINDS`.

    Raises CleaningError when it is none, and RecipeError or FileNotFoundError when its recipe, or a model
    that tells current files from old ones, cannot be read: then it is not known what is old.
    """
    layout = RunLayout(run)
    if not layout.recipe.is_file():
        raise CleaningError(f"{run} is no run directory: it has no recipe.yaml")
    recipe = load_recipe(str(layout.recipe))
    finders = {
        "old shards": old_shards(layout, recipe),
        "old scores": old_scores(layout, recipe),
        "old caption splits": old_caption_splits(layout, recipe),
        "checkpoints": spare_checkpoints(layout, recipe),
        "trials": trials(layout, recipe),
        "unfinished files": unfinished_files(layout),
    }
    removals: list[Removal] = []
    for kind, paths in finders.items():
        taken = {removal.path for removal in removals}
        removals += [Removal(kind, path) for path in sorted(paths) if not taken & {path, *path.parents}]
    return removals + [Removal("unfinished uploads", each.path, each) for each in unfinished_uploads(run)]


def old_shards(layout: RunLayout, recipe: Recipe) -> Iterator[Path]:
    """Of other settings and in no manifest. Those of today's settings are taken over by the next curation."""
    from pipelines.curation.manifest import manifest_entries, precompute_fingerprint

    current = {layout.data / shard["file"] for entry in manifest_entries(layout) for shard in entry["shards"]}
    files = [
        found for found in of_units((layout.data / "shards").glob("*/*.parquet")) if found[0] not in current
    ]
    if files:
        today = precompute_fingerprint(recipe)[:8]
        yield from (path for path, _, stamp in files if stamp != today)


def old_scores(layout: RunLayout, recipe: Recipe) -> Iterator[Path]:
    """Score files of units that have one of today's settings.

    Without one they are still needed: an excluded source's hashes are read from the last there are.
    """
    from pipelines.curation.score import scores_path, scoring_fingerprint

    files = list(of_units(layout.scores.glob("*.parquet")))
    if files:
        today = scoring_fingerprint(recipe.curation)
        for path, unit, stamp in files:
            if stamp != today[:8] and scores_path(layout, unit, today).is_file():
                yield path


def old_caption_splits(layout: RunLayout, recipe: Recipe) -> Iterator[Path]:
    from pipelines.curation.caption_splits import splitting_fingerprint

    files = list(of_units(layout.captions.glob("*.parquet")))
    if files:
        today = splitting_fingerprint(recipe.curation.captions)[:8]
        yield from (path for path, _, stamp in files if stamp != today)


def of_units(paths: Iterable[Path]) -> Iterator[tuple[Path, int, str]]:
    """(path, unit, first digits of the settings' fingerprint) of files that curation wrote."""
    for path in paths:
        if (name := OF_A_UNIT.fullmatch(path.stem)) is not None:
            yield path, int(name["unit"]), name["stamp"]


def trials(layout: RunLayout, recipe: Recipe) -> Iterator[Path]:
    stages = {stage.name for stage in recipe.train.stages} if recipe.train else set()
    for path in (layout.root / "train").glob("first-*-steps"):
        if path.is_dir() and path.name not in stages:
            yield path


def spare_checkpoints(layout: RunLayout, recipe: Recipe) -> Iterator[Path]:
    """Whole checkpoints of stages whose model is there, but for the one that the model was made from."""
    for stage in recipe.train.stages if recipe.train else ():
        marker = layout.model(stage.name) / "training.json"
        whole = whole_checkpoints(layout.checkpoints(stage.name))
        if marker.is_file() and whole:
            made = json.loads(marker.read_text())["step"]
            if read_position(whole[-1]).step == made == stage.steps:
                yield from whole[:-1]


def unfinished_files(layout: RunLayout) -> Iterator[Path]:
    """Files under the names that they have while they are written; nobody writes while the run is locked."""
    found = {
        path
        for folder, patterns in UNFINISHED.items()
        for pattern in patterns
        for path in (layout.root / folder).glob(pattern)
        if path.parent.name != "checkpoints" or path not in whole_checkpoints(path.parent)
    }
    return (path for path in sorted(found) if not found.intersection(path.parents))


def freed_bytes(removals: list[Removal]) -> dict[str, int]:
    """Bytes that each kind gives back: a file with another name elsewhere gives back none."""
    if removals and is_remote(removals[0].path):
        return _freed_objects(removals)
    files = [(removal.kind, found) for removal in removals for found in _stats(removal.path)]
    going: dict[tuple[int, int], int] = {}
    for _, found in files:
        key = (found.st_dev, found.st_ino)
        going[key] = going.get(key, 0) + 1
    freed: dict[str, int] = {}
    for kind, found in files:
        last = going.pop((found.st_dev, found.st_ino), 0) == found.st_nlink
        freed[kind] = freed.get(kind, 0) + (found.st_size if last else 0)
    return freed


def _freed_objects(removals: list[Removal]) -> dict[str, int]:
    freed: dict[str, int] = {}
    for removal in removals:
        freed[removal.kind] = freed.get(removal.kind, 0) + _remote_bytes(removal)
    return freed


def _remote_bytes(removal: Removal) -> int:
    if removal.upload is not None:
        return uploaded_bytes(removal.upload)
    fs, key = file_system(removal.path)
    return int(fs.du(key))


def _stats(path: Path) -> Iterator[os.stat_result]:
    if not path.is_dir() or path.is_symlink():
        yield path.lstat()
        return
    for parent, _, names in os.walk(path):
        for name in names:
            yield os.lstat(os.path.join(parent, name))


def remove(run: Path, removals: list[Removal]) -> None:
    """Delete them, after the run's books no longer count on them: killed in between, it is still whole."""
    for record in (run / "data" / "step.json", *(run / "evaluate").glob("*/step.json")):
        _forget_files(record, removals)
    for removal in removals:
        if removal.upload is not None:
            end_upload(removal.upload)
        elif removal.path.is_dir() and not removal.path.is_symlink():
            remove_tree(removal.path)
        else:
            removal.path.unlink(missing_ok=True)


def _forget_files(record: Path, removals: list[Removal]) -> None:
    """Take the files out of what a step found whole, or it would be done again."""
    if not record.is_file():
        return
    books: dict[str, Any] = json.loads(record.read_text())
    gone = {removal.path for removal in removals if removal.upload is None}
    left = {
        name: size
        for name, size in books["files"].items()
        if not gone & {record.parent / name, *(record.parent / name).parents}
    }
    if left != books["files"]:
        write_json(record, {**books, "files": left})
