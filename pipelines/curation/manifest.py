"""The manifest: which clips a unit of work gives shards of, and which of its shards stand.

It is asked by every stage and every worker, most of which need no network: nothing here loads torch.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.curation import clip_table
from pipelines.curation.verdicts import KEPT
from pipelines.files import write_json
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.layout import RunLayout
from pipelines.models import weights_sha256
from pipelines.recipe import Recipe
from pipelines.storage import file_sizes, read_many, read_table

PRECOMPUTE_VERSION = 5  # raise when the same settings give other bytes, or the manifest says something else
CLIP_COLUMNS = (
    "clip_id",
    "source_id",
    "source_uri",
    "split",
    "start_seconds",
    "bucket",
    "appearance_caption",
    "motion_caption",
    "verdict",
)

Row = dict[str, Any]


def precompute_fingerprint(recipe: Recipe) -> str:
    """All that a row of a shard depends on beside its clip."""
    settings = recipe.curation.precompute.model_dump(exclude={"splits", "max_upscale"})
    models = recipe.models
    weights = [
        weights_sha256(path) for path in (models.text_to_image, models.image_encoder, models.motion_encoder)
    ]
    flow = file_sha256(models.flow) if models.flow else None
    return fingerprint("shards", PRECOMPUTE_VERSION, recipe.curation.fps, settings, weights, flow)


def shard_identity(recipe: Recipe, stamp: str) -> dict[str, Any]:
    """What a shard's metadata says of the recipe that it was made by. stamp: precompute_fingerprint."""
    return {
        "fps": recipe.curation.fps,
        "text_to_image_sha256": weights_sha256(recipe.models.text_to_image),
        "image_encoder_sha256": weights_sha256(recipe.models.image_encoder),
        "fingerprint": stamp,
    }


def wanted_rows(layout: RunLayout, unit: int, recipe: Recipe) -> list[Row]:
    """Kept clips of a unit that get shards, sorted by clip id."""
    rows = read_table(clip_table.clips_path(layout, unit), columns=list(CLIP_COLUMNS)).to_pylist()
    splits = recipe.curation.precompute.splits
    kept = [row for row in rows if row["verdict"] == KEPT and row["split"] in splits]
    return sorted(kept, key=lambda row: row["clip_id"])


def unit_fingerprint(rows: list[Row], stamp: str) -> str:
    """Fingerprint of a unit's shards: of its settings and of which clips are in them."""
    return fingerprint(
        stamp, [[row["clip_id"], row["source_uri"], row["bucket"], caption_hash(row)] for row in rows]
    )


def caption_hash(row: Row) -> str:
    text = json.dumps([row["appearance_caption"], row["motion_caption"]], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def unit_manifest(
    unit: int,
    clips: list[Row],
    stamp: str,
    shards: list[dict[str, Any]],
    failed: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """What the manifest says of a unit.

    clips: its wanted rows. stamp: precompute_fingerprint. failed: verdict and reason of clips that could not
    be read again.
    """
    lost = dict(sorted((failed or {}).items()))
    return {
        "unit": unit,
        "fingerprint": unit_fingerprint(clips, stamp),
        "settings_fingerprint": stamp,
        "clips": len(clips) - len(lost),
        "failed": lost,
        "rows": sum(shard["rows"] for shard in shards),
        "bytes": sum(shard["bytes"] for shard in shards),
        "shards": shards,
    }


def manifest_path(layout: RunLayout, unit: int) -> Path:
    return layout.manifest / f"{unit:05d}.json"


def read_manifest(layout: RunLayout, unit: int) -> dict[str, Any] | None:
    path = manifest_path(layout, unit)
    return json.loads(path.read_text()) if path.is_file() else None


def write_manifest(layout: RunLayout, unit: int, manifest: dict[str, Any]) -> None:
    write_json(manifest_path(layout, unit), manifest)


def unit_is_current(layout: RunLayout, unit: int, rows: list[Row], stamp: str) -> bool:
    """Whether the unit's manifest is of these clips and settings, and its shards are there in full."""
    manifest = read_manifest(layout, unit)
    if manifest is None or manifest["fingerprint"] != unit_fingerprint(rows, stamp):
        return False
    paths = [(layout.data / shard["file"], shard["bytes"]) for shard in manifest["shards"]]
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def shards_of(layout: RunLayout, stem: str) -> Iterator[Path]:
    """Shards of all buckets whose names begin with `stem`.

    Asked bucket by bucket: object storage lists by the beginning of a name, and a pattern for the bucket as
    well would have it list all that there is.
    """
    for bucket in (layout.data / "shards").glob("*"):
        yield from bucket.glob(f"{stem}-*.parquet")


def list_shards(layout: RunLayout, bucket: str) -> list[Path]:
    """Shards of a bucket that finished units of work entered in the manifest, in order of units.

    Raises FileNotFoundError when one of them is gone; empty when the bucket has no clips.
    """
    entries = [shard for entry in manifest_entries(layout) for shard in entry["shards"]]
    sizes = {layout.data / shard["file"]: shard["bytes"] for shard in entries if shard["bucket"] == bucket}
    check_there(layout.shards(bucket), {path.name: size for path, size in sizes.items()})
    return list(sizes)


def check_there(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raises FileNotFoundError when one of these shards of a bucket is gone, or has not its size in bytes."""
    there = file_sizes(folder)
    if missing := [name for name, size in sizes.items() if there.get(name) != size]:
        raise FileNotFoundError(
            f"{len(missing)} shards of the manifest are gone or others, such as {folder / missing[0]}: run "
            "`dreamer curate` again"
        )


def manifest_entries(layout: RunLayout) -> Iterator[dict[str, Any]]:
    """What each finished unit of work left, in order of units."""
    yield from map(
        json.loads, read_many(sorted(layout.manifest.glob("*.json"), key=lambda path: int(path.stem)))
    )
