"""What curation left, so that it can be compared with what another run left."""

import csv
import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq

DATA_SET = ("sources", "scores", "clips", "manifest", "shards")


def data_files(run: Path) -> list[Path]:
    """Files of the data set under their final names."""
    found = [path for name in DATA_SET for path in (run / "data" / name).rglob("*.*")]
    return [path for path in found if path.suffix in (".parquet", ".json") and path.is_file()]


def data_hashes(run: Path) -> dict[str, str]:
    return file_hashes(run, data_files(run))


def file_hashes(run: Path, files: list[Path]) -> dict[str, str]:
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_books(run: Path, table: Path, splits: tuple[str, ...] = ("train", "validation")) -> None:
    """Every source of the table has its rows, every clip has one, and the kept ones are in the shards."""
    with table.open(newline="") as stream:
        sources = {row["videoid"] for row in csv.DictReader(stream)}
    rows = [
        row for path in (run / "data" / "clips").glob("*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    assert {row["source_id"] for row in rows} == sources
    assert all(row["verdict"] for row in rows)
    clips = [row["clip_id"] for row in rows if row["clip_id"]]
    assert len(clips) == len(set(clips))
    manifests = [json.loads(path.read_text()) for path in (run / "data" / "manifest").glob("*.json")]
    in_shards = sorted(
        (clip, shard["bucket"])
        for manifest in manifests
        for shard in manifest["shards"]
        for clip in pq.read_table(run / "data" / shard["file"], columns=["clip_id"])["clip_id"].to_pylist()
    )
    kept = [row for row in rows if row["verdict"] == "kept" and row["split"] in splits]
    assert in_shards == sorted((row["clip_id"], bucket) for row in kept for bucket in row["bucket"].split())
