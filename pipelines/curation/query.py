"""The query between the passes: verdict, reason and bucket of every clip. It decodes nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.curation import clip_table
from pipelines.curation.captions import split_caption
from pipelines.curation.clip_table import clips_path, write_table
from pipelines.curation.precompute import (
    mark_failed,
    precompute_fingerprint,
    read_manifest,
    unit_is_current,
    wanted_rows,
)
from pipelines.curation.score import scores_path, scoring_fingerprint
from pipelines.curation.sources import unit_sources
from pipelines.curation.verdicts import FAILED, FILTERED, KEPT, QUARANTINED, code_of, reason
from pipelines.curation.video import cover_scale
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import Bucket, CurationSettings, FilterSettings, Recipe

HASH_BITS = 64
NAMED_SOURCES = 10  # of those that could not be read, in the summary; the clip table has all
Row = dict[str, Any]


def query_fingerprint(recipe: Recipe) -> str:
    """Fingerprint of the clip table's rows: scores, thresholds, buckets."""
    curation = recipe.curation
    return fingerprint(
        scoring_fingerprint(curation), curation.filters, curation.tiers, curation.precompute.max_upscale
    )


# ---------------------------------------------------------------- one clip


def filter_reason(clip: Row, filters: FilterSettings) -> str | None:
    """The first filter that refuses a clip, with score and threshold; None when all let it pass."""
    above = [
        ("static", "static_score", filters.max_static),
        ("text_overlay", "text_area", filters.max_text_area),
        ("watermark", "watermark_area", filters.max_watermark_area),
        ("high_motion", "motion_score", filters.max_motion),
        ("too_bright", "luminance", filters.max_luminance),
    ]
    below = [
        ("slideshow", "scene_change", filters.min_scene_change),
        ("low_motion", "motion_score", filters.min_motion),
        ("blurred", "sharpness", filters.min_sharpness),
        ("too_dark", "luminance", filters.min_luminance),
    ]
    for code, score, limit in above:
        if limit is not None and clip[score] > limit:
            return reason(code, f"{clip[score]:.3g} > {limit:g}")
    for code, score, limit in below:
        if limit is not None and clip[score] < limit:
            return reason(code, f"{clip[score]:.3g} < {limit:g}")
    return None


def best_buckets(width: int, height: int, frames: int, curation: CurationSettings) -> list[Bucket]:
    """The best-fitting bucket of each tier: nearest in aspect ratio, then the longest, then the largest.

    Buckets with more frames than the clip, and those that would enlarge it by more than `max_upscale`, are
    out; a tier may have none left.
    """
    chosen = []
    for buckets in curation.tiers.values():
        fitting = [
            b
            for b in buckets
            if b.frames <= frames and cover_scale(width, height, b) <= curation.precompute.max_upscale
        ]
        if fitting:
            chosen.append(
                min(
                    fitting,
                    key=lambda b: (_aspect_distance(width, height, b), -b.frames, -b.height * b.width),
                )
            )
    return list(dict.fromkeys(chosen))


def _aspect_distance(width: int, height: int, bucket: Bucket) -> float:
    return round(abs(float(np.log((width / height) / (bucket.width / bucket.height)))), 6)


def judge(clip: Row, recipe: Recipe) -> Row:
    """A row of pass 1 with its source's columns → the row with captions, bucket, verdict and reason."""
    split = split_caption(clip["caption"])
    clip = clip | {"appearance_caption": split.appearance, "motion_caption": split.motion}
    if clip["verdict"] is not None:
        return clip
    if not clip["caption"]:
        return clip | {"verdict": FILTERED, "reason": reason("no_caption")}
    refused = filter_reason(clip, recipe.curation.filters)
    frames = round((clip["end_seconds"] - clip["start_seconds"]) * recipe.curation.fps)
    buckets = best_buckets(clip["width"], clip["height"], frames, recipe.curation)
    if refused is None and not buckets:
        refused = reason("too_small", f"{clip['width']}x{clip['height']}")
    if refused:
        return clip | {"verdict": FILTERED, "reason": refused}
    return clip | {"bucket": " ".join(map(str, buckets)), "verdict": KEPT}


# ---------------------------------------------------------------- a unit of work


def judge_unit(unit: int, recipe: Recipe, layout: RunLayout) -> None:
    """Write data/clips/UNIT.parquet from the unit's sources and scores; duplicates are not yet known."""
    sources = {source["source_id"]: source for source in unit_sources(layout, unit)}
    stamp = query_fingerprint(recipe)
    scores = pq.read_table(scores_path(layout, unit, scoring_fingerprint(recipe.curation))).to_pylist()
    rows = [judge({**row, **sources[row["source_id"]]}, recipe) | {"fingerprint": stamp} for row in scores]
    write_table(clips_path(layout, unit), pa.Table.from_pylist(rows, clip_table.SCHEMA))


def settle_unit(unit: int, recipe: Recipe, layout: RunLayout, duplicates: dict[str, str]) -> dict[str, Any]:
    """Enter duplicates ({clip_id: the clip that stands for it}) and say what the unit holds.

    Returns counts, `current` (whether its shards are there already) and how many clips they are to hold,
    `wanted` in all and `wanted_buckets` in each bucket.
    """
    path = clips_path(layout, unit)
    table = pq.read_table(path, schema=clip_table.SCHEMA)
    found = {clip: duplicates[clip] for clip in table["clip_id"].to_pylist() if clip in duplicates}
    if found:
        rows = table.to_pylist()
        for row in rows:
            if row["clip_id"] in found:
                twin = found[row["clip_id"]]
                row |= {
                    "verdict": FILTERED,
                    "reason": reason("duplicate", f"of {twin}"),
                    "duplicate_of": twin,
                }
                row["bucket"] = None
        write_table(path, pa.Table.from_pylist(rows, clip_table.SCHEMA))
    wanted = wanted_rows(layout, unit, recipe)
    current = unit_is_current(layout, unit, wanted, precompute_fingerprint(recipe))
    manifest = read_manifest(layout, unit)
    if current and manifest and manifest["failed"]:
        mark_failed(layout, unit, manifest["failed"])
    buckets = Counter(name for row in wanted for name in row["bucket"].split())
    return {
        "current": current,
        "wanted": len(wanted),
        "wanted_buckets": dict(buckets),
        **count_unit(layout, unit),
    }


def count_unit(layout: RunLayout, unit: int) -> dict[str, Any]:
    """Clips, reasons, buckets and the books of a unit's sources.

    A source is kept if any of its clips is, else quarantined, failed or filtered, in this order.
    """
    columns = ["source_id", "clip_id", "verdict", "reason", "bucket"]
    rows = pq.read_table(clips_path(layout, unit), columns=columns).to_pylist()
    verdicts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        verdicts[row["source_id"]].add(row["verdict"])
    books = Counter(source_verdict(found) for found in verdicts.values())
    asked = {source["source_id"] for source in unit_sources(layout, unit)}
    return {
        "sources": len(asked),
        "books": dict(books),
        "missing": sorted(asked - set(verdicts))[:5],
        "unknown": sorted(set(verdicts) - asked)[:5],
        "clips": sum(row["verdict"] == KEPT for row in rows),
        "reasons": dict(Counter(code_of(row["reason"]) for row in rows if row["verdict"] != KEPT)),
        "unreadable": [
            [row["source_id"], row["reason"]] for row in rows if row["verdict"] in (FAILED, QUARANTINED)
        ][:NAMED_SOURCES],
        "buckets": dict(
            Counter(name for row in rows if row["verdict"] == KEPT for name in row["bucket"].split())
        ),
    }


def source_verdict(verdicts: set[str]) -> str:
    return next(verdict for verdict in (KEPT, QUARANTINED, FAILED, FILTERED) if verdict in verdicts)


# ---------------------------------------------------------------- near-duplicates


def duplicate_pairs(band: int, bits: int, units: int, layout: RunLayout) -> list[tuple[str, str]]:
    """Pairs of kept clips of different sources whose hashes differ in at most `bits` bits.

    Two such hashes agree in at least one of `bits` + 1 bands (pigeonhole); this looks at one of them, so
    that bands are tasks of their own. Memory: 8 bytes and an id per kept clip.
    """
    ids, sources, hashes = _kept_hashes(units, layout)
    if not len(ids):
        return []
    edges = np.linspace(0, HASH_BITS, bits + 2).round().astype(int)
    low, width = int(edges[band]), int(edges[band + 1] - edges[band])
    keys = (hashes >> np.uint64(low)) & np.uint64((1 << width) - 1)
    order = np.lexsort((ids, keys))
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1], True])
    pairs = []
    for first, last in pairwise(starts.tolist()):
        pairs += list(_close(order[first:last], ids, sources, hashes, bits))
    return pairs


def _kept_hashes(units: int, layout: RunLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) clip ids, (N,) hashes of source ids, (N,) perceptual hashes as uint64."""
    ids, sources, hashes = [], [], []
    for unit in range(units):
        columns = ["clip_id", "source_id", "phash", "verdict"]
        for row in pq.read_table(clips_path(layout, unit), columns=columns).to_pylist():
            if row["verdict"] == KEPT:
                ids.append(row["clip_id"])
                sources.append(row["source_id"])
                hashes.append(int(row["phash"], 16))
    return np.array(ids), np.array(sources), np.array(hashes, np.uint64)


def _close(
    group: np.ndarray, ids: np.ndarray, sources: np.ndarray, hashes: np.ndarray, bits: int
) -> Iterator[tuple[str, str]]:
    """Close pairs within a group; equal hashes are compared once, through their first clip."""
    if len(group) < 2:
        return
    for position, one in enumerate(group[:-1]):
        others = group[position + 1 :]
        near = others[np.bitwise_count(hashes[others] ^ hashes[one]) <= bits]
        for other in near[sources[near] != sources[one]]:
            yield str(ids[one]), str(ids[other])


def stand_ins(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{duplicate: smallest clip id of its group}, for groups connected by the pairs."""
    parent: dict[str, str] = {}

    def root(clip: str) -> str:
        parent.setdefault(clip, clip)
        while parent[clip] != clip:
            parent[clip] = parent[parent[clip]]
            clip = parent[clip]
        return clip

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {clip: root(clip) for clip in parent if root(clip) != clip}
