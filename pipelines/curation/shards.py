"""Shards: Parquet files of one bucket with latents, flow, image features and token ids.

Arrays are raw little-endian bytes in uncompressed `large_binary` columns; shapes, dtypes and everything
else that reads them back stands in the schema's metadata under `dreamer` as JSON.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipelines.files import whole_file
from pipelines.layout import RunLayout
from pipelines.storage import parquet_file

ARRAYS = {
    "latents_mean": "float16",  # (C, T, h, w), scaled
    "latents_std": "float16",  # (C, T, h, w), scaled
    "flow": "float16",  # (2, T−1, h, w) as (dx, dy): right and down positive, latent pixels per frame
    "flow_valid": "uint8",  # (T−1, h, w), 1 where forward and backward flow agree
    "image_features": "float16",  # (N, D)
    "text_ids": "int32",  # (N,)
    "motion_ids": "int32",  # (N,), −1 is padding
}
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("source_uri", pa.string()),  # another file under the same id is another clip
        *((name, pa.large_binary()) for name in ARRAYS),
        ("caption_hash", pa.string()),
    ]
)
METADATA_KEY = b"dreamer"

Row = dict[str, Any]


# ---------------------------------------------------------------- reading


def shard_metadata(path: Path) -> dict[str, Any]:
    """Bucket, fps, fingerprint, hashes of the networks, and `arrays`: {column: {shape, dtype}}."""
    metadata: dict[str, Any] = json.loads(parquet_file(path).schema_arrow.metadata[METADATA_KEY])
    return metadata


def decode_row(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a shard with its blobs as tensors, shaped as `metadata` says; other columns as they are.

    `flow_valid` becomes bool. Columns that were not read are left out.
    """
    decoded = dict(row)
    for name, array in metadata["arrays"].items():
        if name not in row:
            continue
        values = torch.frombuffer(bytearray(row[name]), dtype=getattr(torch, array["dtype"]))
        decoded[name] = values.reshape(array["shape"])
    if "flow_valid" in decoded:
        decoded["flow_valid"] = decoded["flow_valid"].bool()
    return decoded


# ---------------------------------------------------------------- writing


def encode_row(clip_id: str, source_uri: str, arrays: Mapping[str, np.ndarray], caption_hash: str) -> Row:
    """A row to write; arrays are converted to the shard's dtypes."""
    blobs = {name: np.ascontiguousarray(arrays[name], dtype).tobytes() for name, dtype in ARRAYS.items()}
    return {"clip_id": clip_id, "source_uri": source_uri, **blobs, "caption_hash": caption_hash}


def array_shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: {"shape": list(arrays[name].shape), "dtype": dtype} for name, dtype in ARRAYS.items()}


@dataclass
class _Part:
    """A shard: `partial` is where it is written; of `row_groups` the clip ids."""

    path: Path
    partial: Path
    row_groups: list[list[str]] = field(default_factory=list)


class ShardWriter:
    """Writes the rows of one bucket and unit to shards of at most `shard_bytes`, under temporary names.

    `finish` gives the files their names, all at once when all are whole.
    """

    def __init__(self, layout: RunLayout, bucket: str, stem: str, *, row_group_clips: int, shard_bytes: int):
        self.layout = layout
        self.bucket = bucket
        self.stem = stem
        self.row_group_clips = row_group_clips
        self.shard_bytes = shard_bytes
        self.metadata: dict[str, Any] | None = None
        self._rows: list[Row] = []
        self._writer: pq.ParquetWriter | None = None
        self._written_bytes = 0
        self._parts: list[_Part] = []
        self._unfinished = ExitStack()  # of files that have not their names yet

    def add(self, row: Row, metadata: dict[str, Any]) -> None:
        """Append a row; `metadata` is the same for every row of a bucket and unit."""
        self.metadata = metadata
        self._rows.append(row)
        if len(self._rows) >= self.row_group_clips:
            self._write_row_group()

    def finish(self) -> list[dict[str, Any]]:
        """Give the shards their names; returns their manifest entries."""
        self._write_row_group()
        self._close_part()
        entries = [self._entry(part) for part in self._parts]  # while they are on this machine
        self._unfinished.close()
        return entries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.close()
        self._unfinished.__exit__(*error)

    def _write_row_group(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._open_part()
        assert self._writer is not None
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._writer.schema))
        self._written_bytes += sum(len(row[name]) for row in self._rows for name in ARRAYS)
        self._parts[-1].row_groups.append([row["clip_id"] for row in self._rows])
        self._rows.clear()
        if self._written_bytes >= self.shard_bytes:
            self._close_part()

    def _open_part(self) -> None:
        path = self.layout.shards(self.bucket) / f"{self.stem}-{len(self._parts):03d}.parquet"
        partial = self._unfinished.enter_context(whole_file(path))
        schema = SCHEMA.with_metadata({METADATA_KEY: self._metadata_json()})
        # Statistics and compression cost time on blobs and save nothing.
        self._writer = pq.ParquetWriter(
            partial, schema, compression="none", use_dictionary=False, write_statistics=["clip_id"]
        )
        self._parts.append(_Part(path, partial))

    def _close_part(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        self._written_bytes = 0

    def _metadata_json(self) -> str:
        return json.dumps(self.metadata, sort_keys=True)

    def _entry(self, part: _Part) -> dict[str, Any]:
        """All that training must know of a shard before it reads a row."""
        with part.partial.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {
            "bucket": self.bucket,
            "file": part.path.relative_to(self.layout.data).as_posix(),
            "rows": sum(map(len, part.row_groups)),
            "bytes": part.partial.stat().st_size,
            "sha256": digest,
            "metadata": json.loads(self._metadata_json()),  # in one order, whoever said it
            "row_groups": part.row_groups,
        }


class ShardRows:
    """Rows of a bucket and unit as they stand in older shards, taken in ascending order of clip ids."""

    def __init__(self, layout: RunLayout, bucket: str, stem: str, stamp: str) -> None:
        paths = sorted(layout.shards(bucket).glob(f"{stem}-*.parquet"))
        # The name holds a part of the fingerprint only.
        self._files = [path for path in paths if shard_metadata(path)["fingerprint"] == stamp]
        self._rows = self._read()
        self._next: Row | None = next(self._rows, None)
        self.metadata = shard_metadata(self._files[0]) if self._files else None

    def take(self, clip_id: str, source_uri: str) -> Row | None:
        """The row of a clip of that file, if it is there; earlier rows are passed over."""
        while self._next is not None and self._next["clip_id"] < clip_id:
            self._next = next(self._rows, None)
        if self._next is None or (self._next["clip_id"], self._next["source_uri"]) != (clip_id, source_uri):
            return None
        return self._next

    def _read(self) -> Iterator[Row]:
        for path in self._files:
            file = parquet_file(path)
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group).to_pylist()
