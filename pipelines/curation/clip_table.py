"""The clip table: one row per clip, and one per source that gave none."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.files import whole_file
from pipelines.layout import RunLayout
from pipelines.storage import read_many, read_table

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),  # null for a source that gave no clip
        ("source_id", pa.string()),
        ("source_uri", pa.string()),
        ("license", pa.string()),
        ("split", pa.string()),
        ("labels", pa.string()),  # JSON
        ("caption", pa.string()),
        ("appearance_caption", pa.string()),
        ("motion_caption", pa.string()),
        ("shot_start_seconds", pa.float64()),
        ("shot_end_seconds", pa.float64()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("source_fps", pa.float64()),
        ("width", pa.int32()),  # as displayed, after rotation
        ("height", pa.int32()),
        ("bucket", pa.string()),  # one per tier, separated by spaces
        ("motion_score", pa.float64()),  # scores that were not computed are null
        ("static_score", pa.float64()),
        ("scene_change", pa.float64()),
        ("text_area", pa.float64()),
        ("watermark_area", pa.float64()),
        ("sharpness", pa.float64()),
        ("luminance", pa.float64()),
        ("aesthetic_score", pa.float64()),
        ("text_match", pa.float64()),  # null too where there is no caption
        ("phash", pa.string()),
        ("duplicate_of", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("fingerprint", pa.string()),
    ]
)
JOINED_AT_ONCE = 500  # units; a table of a few rows takes 60 kB


def clip_id(source_id: str, start_seconds: float, end_seconds: float) -> str:
    """Hash of source id and span, to the millisecond: 20 hex digits."""
    span = f"{source_id}\n{start_seconds:.3f}\n{end_seconds:.3f}"
    return hashlib.sha256(span.encode()).hexdigest()[:20]


def clips_path(layout: RunLayout, unit: int) -> Path:
    return layout.clips / f"{unit:05d}.parquet"


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file whole or not at all."""
    with whole_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def complete(table: pa.Table, columns: Iterable[str]) -> pa.Table:
    """Some columns of the clip table; those that a file of an earlier version lacks are null."""
    missing = [SCHEMA.field(name) for name in columns if name not in table.column_names]
    for each in missing:
        table = table.append_column(each, pa.nulls(len(table), each.type))
    return table


def read_clips(
    layout: RunLayout,
    *,
    split: str | None = None,
    verdict: str | None = "kept",
    columns: list[str] | None = None,
) -> pa.Table:
    """The clip table sorted by clip id; `split`, `verdict` or `columns` None: all of them.

    columns: with `clip_id` and `source_id`, which it is sorted by.

    Raises FileNotFoundError when the run directory has none.
    """
    wanted = {name: value for name, value in (("split", split), ("verdict", verdict)) if value}
    names = columns or SCHEMA.names
    parts: list[pa.Table] = []
    tables: list[pa.Table] = []
    for _, table in clip_tables(layout, [*names, *(wanted.keys() - set(names))]):
        for name, value in wanted.items():
            table = table.filter(pc.equal(table[name], value))
        tables.append(table.select(names))
        if len(tables) == JOINED_AT_ONCE:
            parts.append(pa.concat_tables(tables).combine_chunks())
            tables.clear()
    table = pa.concat_tables([*parts, *tables])
    return table.sort_by([("clip_id", "ascending"), ("source_id", "ascending")])


def clip_tables(layout: RunLayout, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Some columns of the clip table by unit of work, in order.

    For any number of units: a pyarrow data set keeps 130 kB of every file. Raises FileNotFoundError when the
    run directory has none.
    """
    if not (paths := sorted(layout.clips.glob("*.parquet"), key=lambda path: int(path.stem))):
        raise FileNotFoundError(f"no clip table in {layout.clips}: run `dreamer curate` first")
    for path, content in zip(paths, read_many(paths), strict=True):
        file = pq.ParquetFile(pa.BufferReader(content))
        there = set(file.schema_arrow.names).intersection(columns)
        yield int(path.stem), complete(file.read(sorted(there), use_threads=False), columns)


def mark_failed(layout: RunLayout, unit: int, failed: Mapping[str, Sequence[str]]) -> None:
    """Enter clips that could not be read again in the clip table."""
    path = clips_path(layout, unit)
    table = read_table(path)
    rows = table.to_pylist()
    for row in rows:
        if row["clip_id"] in failed:
            row["verdict"], row["reason"] = failed[row["clip_id"]]
    write_table(path, table.from_pylist(rows, table.schema))
