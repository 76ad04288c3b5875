"""Which clips there are to train on: the shards of a tier, checked against the recipe and the clip table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from pipelines.curation.clip_table import read_clips
from pipelines.curation.manifest import list_shards
from pipelines.curation.shards import decode_row, shard_metadata
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.models import weights_sha256
from pipelines.recipe import OWN_CLIPS, Bucket, Recipe, StageSettings
from pipelines.recipe_file import load_recipe
from pipelines.storage import parquet_file, storage_path

INDEXED = ["clip_id", "source_id", "split", "bucket", "motion_score"]  # of the clip table


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
    clip_ids: list[str]
    motion_scores: list[float | None]

    @classmethod
    def of(
        cls,
        dataset: str,
        bucket: str,
        stamp: str,
        groups: Sequence[tuple[RowGroup, Sequence[tuple[int, str]]]],
        motion_scores: Mapping[str, float | None],
    ) -> Self:
        """From (row group, [(row, clip_id), …]) and scores by clip id; empty row groups are left out."""
        filled = [(group, rows) for group, rows in groups if rows]
        ends = np.cumsum([len(rows) for _, rows in filled], dtype=np.int64)
        spans = (
            np.stack((np.concatenate(([0], ends[:-1])), ends), axis=1)
            if filled
            else np.zeros((0, 2), np.int64)
        )
        clip_ids = [clip_id for _, rows in filled for _, clip_id in rows]
        return cls(
            dataset=dataset,
            bucket=bucket,
            fingerprint=stamp,
            groups=[group for group, _ in filled],
            spans=spans,
            rows=np.array([row for _, rows in filled for row, _ in rows], np.int64),
            clip_ids=clip_ids,
            motion_scores=[motion_scores.get(clip_id) for clip_id in clip_ids],
        )

    @property
    def name(self) -> str:
        """What tells it apart: 16x320x512, or pexels/16x320x512 of another data set than the run's own."""
        return self.bucket if self.dataset == OWN_CLIPS else f"{self.dataset}/{self.bucket}"

    def __len__(self) -> int:
        return len(self.clip_ids)

    def at(self, clip: int) -> tuple[RowGroup, int, str, float | None]:
        """(row group, row within it, clip id, motion score) of a clip by its number."""
        group = int(np.searchsorted(self.spans[:, 1], clip, side="right"))
        return self.groups[group], int(self.rows[clip]), self.clip_ids[clip], self.motion_scores[clip]


@dataclass(frozen=True)
class ClipIndex:
    """The clips of a tier by split, data set and bucket, and how to read them."""

    by_split: dict[str, list[BucketClips]]
    metadata: dict[str, dict[str, Any]]  # of each shard, by path
    shares: dict[str, float]  # of the samples, by data set, in any unit

    def clips(self, split: str) -> list[BucketClips]:
        """Buckets of a split that are not empty."""
        return [clips for clips in self.by_split.get(split, []) if len(clips)]

    @property
    def has_motion_scores(self) -> bool:
        """Whether curation computed one for every clip."""
        everything = (clips for buckets in self.by_split.values() for clips in buckets)
        return all(None not in clips.motion_scores for clips in everything)

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
    metadata: dict[str, dict[str, Any]] = {}
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
) -> tuple[dict[str, list[BucketClips]], dict[str, dict[str, Any]]]:
    """Clips by split, and metadata of shards by path, of a run directory's buckets."""
    layout = RunLayout.of(recipe)
    table = read_clips(layout, columns=INDEXED)
    ids = table["clip_id"].to_pylist()
    split_of, buckets_of, motion_scores = (
        dict(zip(ids, table[name].to_pylist(), strict=True)) for name in ("split", "bucket", "motion_score")
    )
    by_split: dict[str, list[BucketClips]] = {}
    metadata: dict[str, dict[str, Any]] = {}
    splits = recipe.curation.precompute.splits
    for bucket in map(str, buckets):
        paths = list_shards(layout, bucket)
        metadata |= {str(path): shard_metadata(path) for path in paths}
        stamp = fingerprint(sorted({metadata[str(path)]["fingerprint"] for path in paths}))
        wanted = {
            clip_id: split
            for clip_id, split in split_of.items()
            if split in splits and bucket in (buckets_of[clip_id] or "").split()
        }
        groups = [group for path in paths for group in _row_groups(path)]
        _check_complete(bucket, wanted, groups)
        for split in splits:
            chosen = [
                (group, [(row, clip_id) for row, clip_id in enumerate(held) if wanted.get(clip_id) == split])
                for group, held in groups
            ]
            clips = BucketClips.of(dataset, bucket, stamp, chosen, motion_scores)
            by_split.setdefault(split, []).append(clips)
    return by_split, metadata


def _row_groups(path: Path) -> list[tuple[RowGroup, list[str]]]:
    file = parquet_file(path)
    return [
        (RowGroup(str(path), i), file.read_row_group(i, columns=["clip_id"])["clip_id"].to_pylist())
        for i in range(file.num_row_groups)
    ]


def _check_shards(recipe: Recipe, curated: Recipe, metadata: dict[str, dict[str, Any]]) -> None:
    """Refuse shards that mean something else than the recipe takes them for, or are older than `curated`."""
    from pipelines.curation.manifest import precompute_fingerprint

    expected = {
        "fps": recipe.curation.fps,
        "text_to_image_sha256": weights_sha256(recipe.models.text_to_image),
        "image_encoder_sha256": weights_sha256(recipe.models.image_encoder),
        "fingerprint": precompute_fingerprint(curated),
    }
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


def _check_complete(
    bucket: str, wanted: dict[str, str], groups: Sequence[tuple[RowGroup, Sequence[str]]]
) -> None:
    held = {clip_id for _, ids in groups for clip_id in ids}
    if missing := sorted(wanted.keys() - held):
        raise ShardError(
            f"{len(missing)} kept clips of bucket {bucket} are in no shard, such as {missing[0]}: "
            "run `dreamer curate` to finish them"
        )
