"""The runs in a folder: how far each is, how much room it takes, when it last changed."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.curation.clip_table import clip_tables
from pipelines.curation.verdicts import KEPT
from pipelines.layout import RunLayout
from pipelines.storage import is_remote
from pipelines.training.log import tail_log

DEPTH = 3  # folders below the one that is asked about


@dataclass(frozen=True)
class RunState:
    """One run directory. clips: kept by curation, None before it; size in bytes, links counted once."""

    run: str
    recipe: str
    clips: int | None
    stages: list[dict[str, Any]]  # {"name", "steps", "of", "finished"}
    evaluated: list[str]
    bytes: int
    changed: float  # seconds since 1970, of the file that was written last

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_runs(folder: Path) -> list[RunState]:
    """States of the runs in a folder, or of the folder itself; the one that changed last first.

    Raises FileNotFoundError when there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: name the one that holds your runs, such as runs")
    states = [run_state(found) for found in find_runs(folder)]
    return sorted(states, key=lambda state: state.changed, reverse=True)


def find_runs(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Folders with a recipe.yaml; nothing is looked for within a run."""
    if RunLayout(folder).recipe.is_file():
        yield folder
    elif depth:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from find_runs(inner, depth - 1)


def run_state(folder: Path) -> RunState:
    layout = RunLayout(folder)
    # As a plain tree: a run of an older recipe is listed too.
    recipe = yaml.safe_load(layout.recipe.read_text("utf-8")) or {}
    stages = (recipe.get("train") or {}).get("stages") or ()
    evaluations = (layout.root / "evaluate").glob("*/metrics.json")
    size, changed = occupied(folder)
    return RunState(
        run=str(folder),
        recipe=str(recipe.get("name")),
        clips=_kept_clips(layout),
        stages=[_stage_state(layout, stage) for stage in stages],
        evaluated=sorted(path.parent.name for path in evaluations),
        bytes=size,
        changed=changed,
    )


def _kept_clips(layout: RunLayout) -> int | None:
    with suppress(FileNotFoundError):
        return sum(table["verdict"].to_pylist().count(KEPT) for _, table in clip_tables(layout, ["verdict"]))
    return None


def _stage_state(layout: RunLayout, stage: dict[str, Any]) -> dict[str, Any]:
    marker = layout.model(stage["name"]) / "training.json"
    made = json.loads(marker.read_text())["step"] if marker.is_file() else 0
    done = max(made, tail_log(layout.log(stage["name"])).get("step", 0))
    return {"name": stage["name"], "steps": done, "of": stage["steps"], "finished": made >= stage["steps"]}


def occupied(folder: Path) -> tuple[int, float]:
    """(bytes of all files, a file with several names once; time of the last change)."""
    if is_remote(folder):
        stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
        return sum(found.st_size for found in stats), max(found.st_mtime for found in stats)
    sizes: dict[tuple[int, int], int] = {}
    changed = folder.stat().st_mtime
    for parent, _, names in os.walk(folder):
        for name in names:
            found = os.lstat(os.path.join(parent, name))
            sizes[found.st_dev, found.st_ino] = found.st_size
            changed = max(changed, found.st_mtime)
    return sum(sizes.values()), changed
