"""Source tables: where the videos are and what their captions say.

Every table is read as a stream of rows and divided into units of work by hash of the source id, so that
neither the order of rows nor the number of workers decides what is processed together.
"""

import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.curation.reach import Reach, reach_of, resolve_uri
from pipelines.curation.verdicts import CurationError
from pipelines.files import whole_folder, write_json
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import DataSettings, Recipe, RecipeError
from pipelines.storage import parquet_file, read_table, storage_path

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("source_id", "source_uri", "license", "split", "labels", "caption")]
)
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m4v")
UCF101_NAME = re.compile(r"v_(?P<name>[A-Za-z]+)_g\d+_c\d+$")
DIVISION_VERSION = 1  # raise when the same table and settings give other rows or another division
STAMP = "stamp.json"  # of data/sources; written last
PARTITIONS = 64
WRITE_ROWS = 1024
CSV_FIELD_CHARACTERS = 10_000_000

Row = dict[str, Any]


def read_sources(data: DataSettings) -> Iterator[Row]:
    """Rows of the source table in its own order: `SCHEMA`'s columns.

    Raises RecipeError when the table or one of its columns is missing, CurationError that names the row
    when a source has no id or no file, or the file of a caption that lies out of reach.
    """
    faults = table_faults(data)
    if faults:
        raise RecipeError("\n".join(faults))
    path = storage_path(data.table)
    rows = _folder_rows(path, reach_of(data)) if path.is_dir() else _table_rows(path, data)
    yield from islice(rows, data.limit)


def table_faults(data: DataSettings) -> list[str]:
    """What is wrong with the recipe's table, each with its mend; empty when it can be read."""
    path = storage_path(data.table)
    if path.is_dir():
        return [] if next(_videos_in(path), None) else [f"data.table: no video files in the folder {path}"]
    if not path.is_file():
        return [f"data.table: no table or folder {path}; give one with data.table=PATH"]
    try:
        present = _column_names(path)
    except (ValueError, pa.ArrowInvalid, CurationError) as error:
        return [f"data.table: {path} cannot be read: {error}"]
    columns = data.columns
    wanted = {
        "source_id": columns.source_id,
        "uri": columns.uri,
        "caption": columns.caption,
        "split": columns.split,
        "license": columns.license,
        **{f"labels.{index}": name for index, name in enumerate(columns.labels)},
    }
    return [
        f"data.columns.{key}: the table {path} has no column {name!r}; it has {', '.join(present)}"
        for key, name in wanted.items()
        if name is not None and name not in present
    ]


def table_stamp(data: DataSettings) -> str:
    """Changes when the source table does; of a folder, when a file comes, goes or is written."""
    table = storage_path(data.table)
    if table.is_file():
        with table.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    if table.is_dir():
        files = sorted(path for path in table.rglob("*") if path.is_file())
        stats = [(str(path.relative_to(table)), path.stat()) for path in files]
        return fingerprint([(name, stat.st_size, stat.st_mtime) for name, stat in stats])
    return data.table


def place_of(source_id: str) -> int:
    """Where a source stands among all: 32 bits, evenly spread, a function of its id alone."""
    return int.from_bytes(hashlib.sha256(source_id.encode()).digest()[:4], "big")


def unit_of(source_id: str, units: int) -> int:
    """Unit of work of a source; units are ranges of places."""
    return place_of(source_id) * units >> 32


# ---------------------------------------------------------------- division into units


def shrinking(recipe: Recipe) -> str | None:
    """What is wrong when a first look at a few sources would take the others out of a run that has them."""
    layout, limit = RunLayout.of(recipe), recipe.data.limit
    if limit is None:
        return None
    there = sum(parquet_file(file).metadata.num_rows for file in (layout.data / "sources").glob("*.parquet"))
    if there <= limit:
        return None
    return (
        f"data.limit={limit} would drop {there - limit} sources that {layout.root} holds already; take "
        "another run_directory for a first look"
    )


def divide_sources(data: DataSettings, layout: RunLayout, units: int) -> int:
    """Write data/sources/UNIT.parquet for every unit, each sorted by id; returns the number of sources.

    Nothing is written where they are whole and of the same table and settings.
    The table is streamed into `PARTITIONS` files by place, and these are cut into units one by one: memory
    holds a partition, and few files are open however many units there are.
    Raises CurationError when the table is empty or an id stands in several rows; nothing is changed then.
    """
    sources, stamp = layout.data / "sources", _division_fingerprint(data, units)
    total = _divided_already(sources, units, stamp)
    if total is not None:
        return total
    with whole_folder(sources, marker=STAMP) as folder:
        with TemporaryDirectory(dir=folder) as scratch:
            total = _partition(data, Path(scratch))
            if not total:
                raise CurationError(f"{data.table} has no rows")
            _cut_into_units(Path(scratch), folder, units, data)
        write_json(folder / STAMP, {"fingerprint": stamp, "sources": total})
    return total


def _division_fingerprint(data: DataSettings, units: int) -> str:
    """All that data/sources depends on."""
    settings = data.model_dump(include={"table", "columns", "limit"})
    return fingerprint("sources", DIVISION_VERSION, table_stamp(data), settings, units)


def _divided_already(sources: Path, units: int, stamp: str) -> int | None:
    """Number of sources in the folder if it is of that stamp and has a file for every unit, else None."""
    if not (sources / STAMP).is_file():
        return None
    there = json.loads((sources / STAMP).read_text())
    whole = sum(1 for _ in sources.glob("*.parquet")) == units
    return int(there["sources"]) if whole and there["fingerprint"] == stamp else None


def _partition(data: DataSettings, scratch: Path) -> int:
    """Rows with their `place`, into one file for each range of places; returns how many there are."""
    schema = SCHEMA.append(pa.field("place", pa.uint32()))
    paths = [scratch / f"{part}.parquet" for part in range(PARTITIONS)]
    buffers: list[list[Row]] = [[] for _ in paths]
    total = 0
    with ExitStack() as files:
        writers = [files.enter_context(pq.ParquetWriter(path, schema)) for path in paths]
        for row in read_sources(data):
            place = place_of(row["source_id"])
            part = place * PARTITIONS >> 32
            buffers[part].append(row | {"place": place})
            total += 1
            if len(buffers[part]) >= WRITE_ROWS:
                writers[part].write_table(pa.Table.from_pylist(buffers[part], schema))
                buffers[part].clear()
        for writer, rows in zip(writers, buffers, strict=True):
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return total


def _cut_into_units(scratch: Path, folder: Path, units: int, data: DataSettings) -> None:
    """UNIT.parquet in `folder` from the partitions; a unit may begin in one and end in a later one."""
    begun: list[pa.Table] = []
    done = 0
    for part in range(PARTITIONS):
        rows = pa.concat_tables([*begun, pq.read_table(scratch / f"{part}.parquet")])
        rows = rows.sort_by([("place", "ascending"), ("source_id", "ascending")])
        _refuse_repeated_ids(rows["source_id"], data)
        end = (part + 1) * units // PARTITIONS  # no later partition adds to the units before it
        of_unit = rows["place"].to_numpy().astype(np.uint64) * np.uint64(units) >> np.uint64(32)
        bounds = np.searchsorted(of_unit, np.arange(done, end + 1))
        for unit, (first, last) in enumerate(pairwise(bounds.tolist()), start=done):
            own = rows.slice(first, last - first).drop_columns("place").sort_by("source_id")
            pq.write_table(own, folder / f"{unit:05d}.parquet")
        begun, done = [rows.slice(int(bounds[-1]))], end


def unit_path(layout: RunLayout, unit: int) -> Path:
    return layout.data / "sources" / f"{unit:05d}.parquet"


def unit_sources(layout: RunLayout, unit: int) -> list[Row]:
    """Sources of a unit, sorted by id."""
    rows: list[Row] = read_table(unit_path(layout, unit)).to_pylist()
    return rows


def _refuse_repeated_ids(sorted_ids: pa.ChunkedArray, data: DataSettings) -> None:
    repeated = pc.filter(sorted_ids[1:], pc.equal(sorted_ids[1:], sorted_ids[:-1])).unique().to_pylist()
    if repeated:
        raise CurationError(
            f"{data.table}: {data.columns.source_id} must be unique, but {repeated[0]!r} stands in several "
            f"rows{f'; so do {len(repeated) - 1} other ids at least' if len(repeated) > 1 else ''}"
        )


# ---------------------------------------------------------------- tables


def _column_names(path: Path) -> list[str]:
    match path.suffix.lower():
        case ".parquet":
            return list(parquet_file(path).schema_arrow.names)
        case ".csv" | ".tsv":
            with path.open(newline="", encoding="utf-8-sig") as stream:
                return next(csv.reader(stream, delimiter=_delimiter(path)), [])
        case ".jsonl" | ".ndjson":
            with path.open(encoding="utf-8") as stream:
                first = next(((line, n) for n, line in enumerate(stream, 1) if line.strip()), ("{}", 1))
                return list(_json_row(*first))
        case suffix:
            raise ValueError(f"{suffix!r} is none of .csv, .tsv, .jsonl, .parquet")


def _table_rows(path: Path, data: DataSettings) -> Iterator[Row]:
    for number, row in enumerate(table_rows(path), start=1):
        yield _source(row, data, f"{path}, row {number}")


def table_rows(path: Path) -> Iterator[Row]:
    """Rows of a .parquet, .csv, .tsv or JSONL file as dictionaries, streamed.

    Raises CurationError that names the line of a JSONL file that is no JSON object.
    """
    match path.suffix.lower():
        case ".parquet":
            for batch in parquet_file(path).iter_batches():
                yield from batch.to_pylist()
        case ".csv" | ".tsv":
            csv.field_size_limit(CSV_FIELD_CHARACTERS)
            with path.open(newline="", encoding="utf-8-sig") as stream:
                yield from csv.DictReader(stream, delimiter=_delimiter(path))
        case _:
            with path.open(encoding="utf-8") as stream:
                yield from (_json_row(line, number) for number, line in enumerate(stream, 1) if line.strip())


def _json_row(line: str, number: int) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CurationError(f"line {number} is no JSON: {error}; mend or delete it") from error
    if not isinstance(row, dict):
        raise CurationError(f"line {number} is no JSON object, but {line.strip()[:40]!r}")
    return row


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _source(row: Row, data: DataSettings, where: str) -> Row:
    columns = data.columns
    labels = {name: _json_or_text(row.get(name)) for name in columns.labels}
    source = {
        "source_id": _text(row.get(columns.source_id)),
        "source_uri": _text(row.get(columns.uri)),
        "license": _text(row.get(columns.license)) if columns.license else None,
        "split": (_text(row.get(columns.split)) if columns.split else None) or "train",
        "labels": json.dumps(labels, sort_keys=True, ensure_ascii=False) if labels else None,
        "caption": _text(row.get(columns.caption)) or "",
    }
    for key, column in (("source_id", columns.source_id), ("source_uri", columns.uri)):
        if not source[key]:
            raise CurationError(f"{where}: column {column!r} is empty; every source needs an id and a file")
    return source


def _text(value: Any) -> str | None:
    """Trimmed NFC text; a number of a Parquet column as its digits."""
    return None if value is None else unicodedata.normalize("NFC", str(value)).strip()


def _json_or_text(value: Any) -> Any:
    """A label column may hold JSON (a list of objects) or plain words (a class)."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


# ---------------------------------------------------------------- folders


def _videos_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES)


def _folder_rows(folder: Path, reach: Reach) -> Iterator[Row]:
    """A folder of videos: UCF101's class is the caption, otherwise a .txt file beside the video."""
    for path in _videos_in(folder):
        relative = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        ucf101 = UCF101_NAME.match(path.stem)
        if ucf101:
            caption, labels = _words(ucf101["name"]), json.dumps({"class": ucf101["name"]})
        else:
            caption, labels = _sidecar_caption(path.with_suffix(".txt"), reach), None
        yield {
            "source_id": relative,
            "source_uri": relative,
            "license": None,
            "split": "train",
            "labels": labels,
            "caption": unicodedata.normalize("NFC", caption),
        }


def _sidecar_caption(path: Path, reach: Reach) -> str:
    if not path.is_file():
        return ""
    _, refused = resolve_uri(str(path), reach)
    if refused:
        raise CurationError(f"{path}: {refused}")
    return path.read_text(encoding="utf-8").strip()


def _words(class_name: str) -> str:
    """`ApplyEyeMakeup` → `apply eye makeup`; `YoYo` and `TaiChi` by the same rule."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name).lower()
