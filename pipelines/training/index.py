"""Which clips there are to train on: the shards of a tier, checked against the recipe and the clip table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.curation.clip_table import read_clips
from pipelines.curation.manifest import list_shards
from pipelines.curation.shards import decode_row, shard_metadata
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.models import weights_sha256
from pipelines.recipe import Recipe


class ShardError(ValueError):
    """Shards that cannot be trained on with this recipe; the message says what to do."""


class RowGroup(NamedTuple):
    path: str
    number: int  # within the shard


@dataclass(frozen=True)
class BucketClips:
    """Clips of one split in one bucket, in the order in which they lie in its shards."""

    bucket: str
    fingerprint: str  # of the shards
    groups: list[RowGroup]
    spans: np.ndarray  # (groups, 2): first clip of each row group, and one past its last
    rows: np.ndarray  # (clips,): row within the row group
    clip_ids: list[str]

    @classmethod
    def of(
        cls, bucket: str, stamp: str, groups: Sequence[tuple[RowGroup, Sequence[tuple[int, str]]]]
    ) -> Self:
        """From (row group, [(row, clip_id), …]); row groups without clips are left out."""
        filled = [(group, rows) for group, rows in groups if rows]
        ends = np.cumsum([len(rows) for _, rows in filled], dtype=np.int64)
        spans = (
            np.stack((np.concatenate(([0], ends[:-1])), ends), axis=1)
            if filled
            else np.zeros((0, 2), np.int64)
        )
        return cls(
            bucket=bucket,
            fingerprint=stamp,
            groups=[group for group, _ in filled],
            spans=spans,
            rows=np.array([row for _, rows in filled for row, _ in rows], np.int64),
            clip_ids=[clip_id for _, rows in filled for _, clip_id in rows],
        )

    def __len__(self) -> int:
        return len(self.clip_ids)

    def at(self, clip: int) -> tuple[RowGroup, int, str]:
        """(row group, row within it, clip id) of a clip by its number."""
        group = int(np.searchsorted(self.spans[:, 1], clip, side="right"))
        return self.groups[group], int(self.rows[clip]), self.clip_ids[clip]


@dataclass(frozen=True)
class ClipIndex:
    """The clips of a tier by split and bucket, and how to read them."""

    by_split: dict[str, list[BucketClips]]
    metadata: dict[str, dict[str, Any]]  # of each shard, by path
    motion_scores: dict[str, float] | None  # by clip id; None if curation computed none

    def clips(self, split: str) -> list[BucketClips]:
        """Buckets of a split that are not empty."""
        return [clips for clips in self.by_split.get(split, []) if len(clips)]

    def load(self, group: RowGroup) -> tuple[str, pa.Table]:
        return group.path, pq.ParquetFile(group.path).read_row_group(group.number)

    def decode(self, loaded: tuple[str, pa.Table], row: int) -> dict[str, Any]:
        path, table = loaded
        return decode_row(table.slice(row, 1).to_pylist()[0], self.metadata[path])

    @classmethod
    def read(cls, recipe: Recipe, tier: str) -> Self:
        """Index the shards of a tier; `check_shards` looks at what they were made with.

        Raises ShardError for kept clips that no shard holds, and when there is no clip of split `train`.
        """
        layout = RunLayout(Path(recipe.run_directory))
        table = read_clips(layout)
        split_of = dict(zip(table["clip_id"].to_pylist(), table["split"].to_pylist(), strict=True))
        buckets_of = dict(zip(table["clip_id"].to_pylist(), table["bucket"].to_pylist(), strict=True))
        by_split: dict[str, list[BucketClips]] = {}
        metadata: dict[str, dict[str, Any]] = {}
        splits = recipe.curation.precompute.splits
        for bucket in map(str, recipe.curation.tiers[tier]):
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
                    (
                        group,
                        [(row, clip_id) for row, clip_id in enumerate(ids) if wanted.get(clip_id) == split],
                    )
                    for group, ids in groups
                ]
                by_split.setdefault(split, []).append(BucketClips.of(bucket, stamp, chosen))
        if not any(len(clips) for clips in by_split.get("train", [])):
            raise ShardError(
                f"tier {tier!r} has no clip of split 'train' in {layout.data}: run `dreamer curate`, and "
                "look at the reasons in its table if it kept none"
            )
        scores = dict(zip(table["clip_id"].to_pylist(), table["motion_score"].to_pylist(), strict=True))
        known = None not in scores.values()
        return cls(by_split, metadata, scores if known else None)


def _row_groups(path: Path) -> list[tuple[RowGroup, list[str]]]:
    file = pq.ParquetFile(path)
    return [
        (RowGroup(str(path), i), file.read_row_group(i, columns=["clip_id"])["clip_id"].to_pylist())
        for i in range(file.num_row_groups)
    ]


def check_shards(recipe: Recipe, index: ClipIndex) -> None:
    """Refuse shards whose numbers mean something else than the recipe takes them for. Raises ShardError."""
    from pipelines.curation.manifest import precompute_fingerprint

    expected = {
        "fps": recipe.curation.fps,
        "text_to_image_sha256": weights_sha256(recipe.models.text_to_image),
        "image_encoder_sha256": weights_sha256(recipe.models.image_encoder),
        "fingerprint": precompute_fingerprint(recipe),
    }
    meaning = {
        "text_to_image_sha256": "VAE (hash of models.text_to_image)",
        "image_encoder_sha256": "image encoder (hash of models.image_encoder)",
        "fingerprint": "fingerprint of curation.precompute, fps and networks",
    }
    for path, found in index.metadata.items():
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
