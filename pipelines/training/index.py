"""Which clips there are to train on: the shards of a tier, checked against the recipe and the clip table."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.curation.clip_table import clip_tables
from pipelines.curation.manifest import check_there, manifest_entries, precompute_fingerprint, shard_identity
from pipelines.curation.shards import decode_row
from pipelines.curation.verdicts import KEPT
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import OWN_CLIPS, Bucket, Recipe, StageSettings
from pipelines.recipe_file import load_recipe
from pipelines.storage import parquet_file, storage_path

INDEXED = ("clip_id", "split", "bucket", "motion_score", "verdict")  # of the clip table
PACKED = pa.schema([("clip_id", pa.large_string()), ("motion_score", pa.float64())])
PACKED_AT_ONCE = 100_000  # clips

Row = dict[str, Any]


class ShardError(ValueError):
    """Shards that cannot be trained on with this recipe; the message says what to do."""


class RowGroup(NamedTuple):
    path: str
    number: int  # within the shard


@dataclass(frozen=True)
class BucketClips:
    """Clips of one split in one bucket of a data set, in the order in which they lie in its shards."""

    dataset: str
    bucket: str
    fingerprint: str  # of the shards
    groups: list[RowGroup]
    spans: np.ndarray  # (groups, 2): first clip of each row group, and one past its last
    rows: np.ndarray  # (clips,): row within the row group
    clip_ids: pa.ChunkedArray
    motion_scores: pa.ChunkedArray

    @property
    def name(self) -> str:
        """What tells it apart: 16x320x512, or pexels/16x320x512 of another data set than the run's own."""
        return self.bucket if self.dataset == OWN_CLIPS else f"{self.dataset}/{self.bucket}"

    def __len__(self) -> int:
        return len(self.clip_ids)

    def at(self, clip: int) -> tuple[RowGroup, int, str, float | None]:
        """(row group, row within it, clip id, motion score) of a clip by its number."""
        group = int(np.searchsorted(self.spans[:, 1], clip, side="right"))
        clip_id, motion_score = self.clip_ids[clip].as_py(), self.motion_scores[clip].as_py()
        return self.groups[group], int(self.rows[clip]), clip_id, motion_score


class ClipsBuilder:
    """Makes BucketClips row group by row group, in 50 bytes a clip."""

    def __init__(self) -> None:
        self._groups: list[RowGroup] = []
        self._ends: list[int] = []  # of the groups
        self._rows = array("i")
        self._waiting: list[Row] = []
        self._packed: list[pa.Table] = []

    def add(self, group: RowGroup, clips: Sequence[tuple[int, Row]]) -> None:
        """clips: (row, row of the clip table) of those in the group; a group without any is left out."""
        if not clips:
            return
        self._groups.append(group)
        self._rows.extend(row for row, _ in clips)
        self._ends.append(len(self._rows))
        self._waiting += [clip for _, clip in clips]
        if len(self._waiting) >= PACKED_AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        self._packed.append(pa.Table.from_pylist(self._waiting, PACKED))
        self._waiting = []

    def clips(self, dataset: str, bucket: str, stamp: str) -> BucketClips:
        self._pack()
        table = pa.concat_tables(self._packed)
        ends = np.array(self._ends, np.int64)
        return BucketClips(
            dataset=dataset,
            bucket=bucket,
            fingerprint=stamp,
            groups=self._groups,
            spans=np.stack((np.concatenate(([0], ends))[:-1], ends), axis=1),
            rows=np.array(self._rows, np.int32),
            clip_ids=table["clip_id"],
            motion_scores=table["motion_score"],
        )


@dataclass(frozen=True)
class ClipIndex:
    """The clips of a tier by split, data set and bucket, and how to read them."""

    by_split: dict[str, list[BucketClips]]
    metadata: dict[str, Row]  # of each shard, by path
    shares: dict[str, float]  # of the samples, by data set, in any unit

    def clips(self, split: str) -> list[BucketClips]:
        """Buckets of a split that are not empty."""
        return [clips for clips in self.by_split.get(split, []) if len(clips)]

    @property
    def has_motion_scores(self) -> bool:
        """Whether curation computed one for every clip."""
        everything = (clips for buckets in self.by_split.values() for clips in buckets)
        return all(clips.motion_scores.null_count == 0 for clips in everything)

    def load(self, group: RowGroup) -> tuple[str, pa.Table]:
        return group.path, parquet_file(storage_path(group.path)).read_row_group(group.number)

    def decode(self, loaded: tuple[str, pa.Table], row: int) -> dict[str, Any]:
        path, table = loaded
        return decode_row(table.slice(row, 1).to_pylist()[0], self.metadata[path])


def read_index(recipe: Recipe, stage: StageSettings) -> ClipIndex:
    """The clips of a stage: the run's own, or those of the data sets that it mixes.

    Raises ShardError for kept clips that no shard holds, shards whose numbers mean something else than the
    recipe takes them for, and data sets without a clip of split `train` in the stage's tier.
    """
    shares = dict(stage.mix or {OWN_CLIPS: 1.0})
    by_split: dict[str, list[BucketClips]] = {}
    metadata: dict[str, Row] = {}
    for dataset in shares:
        curated = _curated(recipe, dataset)
        clips, found = _read_clips(curated, dataset, recipe.curation.tiers[stage.tier])
        if not any(len(bucket) for bucket in clips.get("train", [])):
            raise ShardError(
                f"tier {stage.tier!r} has no clip of split 'train' in {curated.run_directory}/data: run "
                "`dreamer curate`, and look at the reasons in its table if it kept none"
            )
        _check_shards(recipe, curated, found)
        metadata |= found
        for split, buckets in clips.items():
            by_split.setdefault(split, []).extend(buckets)
    return ClipIndex(by_split, metadata, shares)


def _curated(recipe: Recipe, dataset: str) -> Recipe:
    """The recipe that a data set was curated by. Raises ShardError where there is none."""
    if dataset == OWN_CLIPS:
        return recipe
    assert recipe.train is not None
    folder = storage_path(recipe.train.datasets[dataset])
    path = RunLayout(folder).recipe
    if not path.is_file():
        raise ShardError(
            f"train.datasets.{dataset}: {folder} is no run directory (no {path.name} in it); curate it "
            f"first: `dreamer curate RECIPE run_directory={folder}`"
        )
    return load_recipe(str(path)).model_copy(update={"run_directory": str(folder)})


def _read_clips(
    recipe: Recipe, dataset: str, buckets: Sequence[Bucket]
) -> tuple[dict[str, list[BucketClips]], dict[str, Row]]:
    """Clips by split, and metadata of shards by path, of a run directory's buckets.

    From the manifest and the clip table, of which one unit is in memory at a time; no shard is opened.
    """
    layout, splits = RunLayout.of(recipe), recipe.curation.precompute.splits
    readers = [_BucketReader(layout, str(bucket), splits) for bucket in buckets]
    for rows, shards in _units(layout):
        kept = [row for row in rows if row["verdict"] == KEPT]
        for reader in readers:
            reader.add(kept, shards)
    by_split: dict[str, list[BucketClips]] = {}
    metadata: dict[str, Row] = {}
    for reader in readers:
        for split, clips in reader.close(dataset).items():
            by_split.setdefault(split, []).append(clips)
        metadata |= reader.metadata
    return by_split, metadata


def _units(layout: RunLayout) -> Iterator[tuple[list[Row], list[Row]]]:
    """Of each unit its clips, and what the manifest says of its shards."""
    manifest = manifest_entries(layout)
    entry = next(manifest, None)
    for unit, table in clip_tables(layout, INDEXED):
        while entry is not None and entry["unit"] < unit:
            entry = next(manifest, None)
        yield table.to_pylist(), entry["shards"] if entry is not None and entry["unit"] == unit else []


class _BucketReader:
    """Gathers what there is of a bucket, unit by unit.

    metadata: of each shard, by path.
    """

    def __init__(self, layout: RunLayout, bucket: str, splits: Sequence[str]) -> None:
        self.layout, self.bucket = layout, bucket
        self.metadata: dict[str, Row] = {}
        self._builders = {split: ClipsBuilder() for split in splits}
        self._alike: dict[str, Row] = {}  # almost all shards have the same metadata
        self._sizes: dict[str, int] = {}  # of the shards in bytes, by name
        self._missing: list[str] = []

    def add(self, clips: Sequence[Row], shards: Sequence[Row]) -> None:
        """Of a unit: its kept clips, and what the manifest says of its shards."""
        wanted = {
            clip["clip_id"]: clip
            for clip in clips
            if clip["split"] in self._builders and self.bucket in (clip["bucket"] or "").split()
        }
        for shard in shards:
            if shard["bucket"] == self.bucket:
                self._add_shard(shard, wanted)
        self._missing += wanted

    def _add_shard(self, shard: Row, wanted: dict[str, Row]) -> None:
        """Takes those that it holds out of `wanted`."""
        path = str(self.layout.data / shard["file"])
        if "row_groups" not in shard:
            raise ShardError(f"{path} is of an earlier version: run `dreamer curate` again")
        self._sizes[path.rpartition("/")[2]] = shard["bytes"]
        self.metadata[path] = self._alike.setdefault(json.dumps(shard["metadata"]), shard["metadata"])
        for number, clip_ids in enumerate(shard["row_groups"]):
            found = [(row, wanted.pop(each)) for row, each in enumerate(clip_ids) if each in wanted]
            for split, builder in self._builders.items():
                of_split = [(row, clip) for row, clip in found if clip["split"] == split]
                builder.add(RowGroup(path, number), of_split)

    def close(self, dataset: str) -> dict[str, BucketClips]:
        """Clips by split.

        Raises ShardError for kept clips that are in no shard, and FileNotFoundError for shards that are gone
        or have another size.
        """
        check_there(self.layout.shards(self.bucket), self._sizes)
        if self._missing:
            raise ShardError(
                f"{len(self._missing)} kept clips of bucket {self.bucket} are in no shard, such as "
                f"{min(self._missing)}: run `dreamer curate` to finish them"
            )
        stamp = fingerprint(sorted({found["fingerprint"] for found in self.metadata.values()}))
        return {
            split: builder.clips(dataset, self.bucket, stamp) for split, builder in self._builders.items()
        }


def _check_shards(recipe: Recipe, curated: Recipe, metadata: dict[str, Row]) -> None:
    """Refuse shards that mean something else than the recipe takes them for, or are older than `curated`."""
    expected = shard_identity(recipe, precompute_fingerprint(curated))
    meaning = {
        "text_to_image_sha256": "VAE (hash of models.text_to_image)",
        "image_encoder_sha256": "image encoder (hash of models.image_encoder)",
        "fingerprint": "fingerprint of curation.precompute, fps and networks",
    }
    for path, found in metadata.items():
        wanted = {"bucket": Path(path).parent.name, **expected}
        wrong = [
            f"{meaning.get(key, key)} is {found.get(key)}, not {value}"
            for key, value in wanted.items()
            if found.get(key) != value
        ]
        if wrong:
            raise ShardError(
                f"{path} does not fit the recipe: {'; '.join(wrong)}. Run `dreamer curate` again."
            )
