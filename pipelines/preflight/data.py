"""Preflight of the data: is the table there, has it rows, and rows of every split that is used?"""

import difflib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pipelines.curation.sources import read_sources, shrinking, table_faults
from pipelines.curation.verdicts import CurationError
from pipelines.recipe import DataSettings, Recipe
from pipelines.storage import storage_path

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
Faults = Iterator[str]


def data_faults(recipe: Recipe, steps: tuple[str, ...]) -> Faults:
    """What is wrong with `data.table`, `data.root`, the columns and the splits that `steps` use."""
    data = recipe.data
    if data.root is not None and not storage_path(data.root).is_dir():
        yield f"data.root: no folder {data.root}; relative paths of the table are looked for there"
    if data.exclude_sources is not None and not Path(data.exclude_sources).is_file():
        yield f"data.exclude_sources: no file {data.exclude_sources}; give one with a source id on each line"
    table = storage_path(data.table)
    if not table.exists() and (near := _nearest_table(table)):
        yield f"data.table: no table or folder {table}; did you mean data.table={near}?"
        return
    if faults := table_faults(data):
        yield from faults
        return
    try:
        splits = sources_by_split(data)
    except CurationError as error:
        yield f"data.table: {error}"
        return
    if not splits:
        yield f"data.table: {table} has a header but no row"
        return
    yield from _split_faults(recipe, splits, steps)
    if loss := shrinking(recipe):
        yield loss


def sources_by_split(data: DataSettings) -> Counter[str]:
    """How many sources each split has; one pass over the table, nothing is held."""
    return _sources_by_split(data, storage_path(data.table).stat().st_mtime)


@lru_cache(maxsize=1)
def _sources_by_split(data: DataSettings, modified: float) -> Counter[str]:
    return Counter(row["split"] for row in read_sources(data))


def count_sources(data: DataSettings) -> int:
    """Sources that will be read; 0 when the table cannot be (its faults are said elsewhere)."""
    try:
        return 0 if table_faults(data) else sources_by_split(data).total()
    except CurationError:
        return 0


def _split_faults(recipe: Recipe, splits: Counter[str], steps: tuple[str, ...]) -> Faults:
    there = ", ".join(f"{name} ({count})" for name, count in sorted(splits.items()))
    why = f"the table has {there}"
    if recipe.data.columns.split is None:
        why = "every source is in 'train', for data.columns.split names no column"
    if not set(recipe.curation.precompute.splits) & set(splits):
        yield f"curation.precompute.splits: no source is in {list(recipe.curation.precompute.splits)}; {why}"
    if recipe.train is not None and "train" in steps and not splits["train"]:
        yield f"data.columns.split: no source is in split 'train', which is trained on; {why}"
    if recipe.evaluate is not None and "evaluate" in steps:
        for number, wanted in enumerate(recipe.evaluate.sets):
            if wanted.split is not None and not splits[wanted.split]:
                yield f"evaluate.sets.{number}.split: no source is in split {wanted.split!r}; {why}"


def _nearest_table(table: Path) -> Path | None:
    """The table beside the missing one that is spelled most like it."""
    if not table.parent.is_dir():
        return None
    beside = sorted(path.name for path in table.parent.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    near = difflib.get_close_matches(table.name, beside, n=1)
    return table.with_name(near[0]) if near else None
