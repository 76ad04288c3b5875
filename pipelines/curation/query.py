"""The query between the passes: verdict, reason and bucket of every clip. It decodes nothing."""

from collections import Counter, defaultdict
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.curation import clip_table
from pipelines.curation.caption_splits import splitter_of, splitting_fingerprint
from pipelines.curation.clip_table import clips_path, write_table
from pipelines.curation.duplicates import stand_in_of
from pipelines.curation.image_scores import AestheticHead
from pipelines.curation.manifest import manifest_path, read_manifest, unit_is_current, wanted_rows
from pipelines.curation.score import forget_failed_sources, read_scores, scores_path, scoring_fingerprint
from pipelines.curation.sources import unit_sources
from pipelines.curation.verdicts import (
    EXCLUDED,
    FAILED,
    FILTERED,
    KEPT,
    LIMITS,
    PRECEDENCE,
    QUARANTINED,
    code_of,
    reason,
)
from pipelines.curation.video import cover_scale
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import Bucket, CurationSettings, FilterSettings, Recipe
from pipelines.storage import read_table

NAMED_SOURCES = 10  # of those that could not be read, in the summary; the clip table has all
Row = dict[str, Any]


def query_fingerprint(recipe: Recipe) -> str:
    """Fingerprint of the clip table's rows: scores, aesthetic head, caption splits, thresholds, buckets."""
    curation, head = recipe.curation, recipe.curation.image_scores.aesthetic_head
    return fingerprint(
        scoring_fingerprint(curation),
        splitting_fingerprint(curation.captions),
        curation.captions.motion,
        curation.filters,
        curation.tiers,
        curation.precompute.max_upscale,
        None if head is None else file_sha256(head),
    )


# ---------------------------------------------------------------- one clip


def filter_reason(clip: Row, filters: FilterSettings) -> str | None:
    """The first filter that refuses a clip, with score and threshold; None when all let it pass."""
    for limit in LIMITS:
        threshold = getattr(filters, limit.setting)
        if threshold is not None and limit.refuses(clip[limit.score], threshold):
            sign = ">" if limit.side == "above" else "<"
            return reason(limit.code, f"{clip[limit.score]:.3g} {sign} {threshold:g}")
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
    """A row of pass 1 with its source's columns → the row with bucket, verdict and reason."""
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


def judge_unit(
    unit: int,
    recipe: Recipe,
    layout: RunLayout,
    scoring_stamp: str,
    stamp: str,
    head: AestheticHead | None,
) -> None:
    """Write data/clips/UNIT.parquet from sources and scores; duplicates and split captions come later.

    Stamps: `scoring_fingerprint` and `query_fingerprint` of the recipe. head: rates the image embeddings;
    without one the aesthetic score is null.
    """
    sources = {source["source_id"]: source for source in unit_sources(layout, unit)}
    scores = read_scores(scores_path(layout, unit, scoring_stamp))
    ratings = head.scores(scores["image_embedding"]) if head else [None] * len(scores)
    clips = [
        {**row, "aesthetic_score": rating, **sources[row["source_id"]]}
        for row, rating in zip(scores.drop_columns("image_embedding").to_pylist(), ratings, strict=True)
    ]
    rows = [judge(clip, recipe) | {"fingerprint": stamp} for clip in clips]
    write_table(clips_path(layout, unit), pa.Table.from_pylist(rows, clip_table.SCHEMA))


def settle_unit(
    unit: int,
    recipe: Recipe,
    layout: RunLayout,
    excluded: frozenset[str],
    duplicates: np.ndarray | None,
) -> dict[str, Any]:
    """Enter duplicates (see find_duplicates) and excluded sources, and say what the unit holds.

    A clip that is taken down still stands for its copies: they do not come back in its place.
    Returns counts, and how many clips the unit's shards are to hold, `wanted` in all and `wanted_buckets` in
    each bucket.
    """
    path = clips_path(layout, unit)
    rows = read_table(path, schema=clip_table.SCHEMA).to_pylist()
    changes = [_change(row, excluded, duplicates) for row in rows]
    if any(changes):
        changed = [row | change for row, change in zip(rows, changes, strict=True)]
        write_table(path, pa.Table.from_pylist(changed, clip_table.SCHEMA))
    wanted = wanted_rows(layout, unit, recipe)
    buckets = Counter(name for row in wanted for name in row["bucket"].split())
    return {"wanted": len(wanted), "wanted_buckets": dict(buckets), **count_unit(unit, layout)}


def caption_unit(
    unit: int, recipe: Recipe, layout: RunLayout, splitting_stamp: str, precompute_stamp: str
) -> dict[str, Any]:
    """Enter the split captions, and look whether the unit's shards are there: `current`, beside counts.

    Stamps: `splitting_fingerprint` and `precompute_fingerprint` of the recipe. A language model is asked for
    kept clips only: the captions of others stay null.
    """
    split = cache(splitter_of(unit, recipe, layout, splitting_stamp))  # clips of a source share its caption
    whole = recipe.curation.captions.motion == "whole"
    path = clips_path(layout, unit)
    rows = read_table(path, schema=clip_table.SCHEMA).to_pylist()
    for row in rows:
        if found := split(row["caption"]):
            row["appearance_caption"] = found.appearance
            row["motion_caption"] = row["caption"] if whole else found.motion
    write_table(path, pa.Table.from_pylist(rows, clip_table.SCHEMA))
    current = unit_is_current(layout, unit, wanted_rows(layout, unit, recipe), precompute_stamp)
    manifest = read_manifest(layout, unit)
    if current and manifest and manifest["failed"]:
        clip_table.mark_failed(layout, unit, manifest["failed"])
    return {"current": current, **count_unit(unit, layout)}


def forget_failures(unit: int, layout: RunLayout, scoring_stamp: str) -> None:
    """Let the next passes take up what failed or was quarantined in either of them."""
    scores = scores_path(layout, unit, scoring_stamp)
    if scores.is_file():
        forget_failed_sources(scores)
    manifest = read_manifest(layout, unit)
    if manifest and manifest["failed"]:
        manifest_path(layout, unit).unlink()  # its shards stay, and their rows are taken over


def _change(row: Row, excluded: frozenset[str], duplicates: np.ndarray | None) -> Row:
    """What the whole table and the list of exclusions change in a row; empty when nothing."""
    if row["source_id"] in excluded:
        return {"verdict": FILTERED, "reason": EXCLUDED, "bucket": None}
    if duplicates is None or row["verdict"] != KEPT:
        return {}
    twin = stand_in_of(row["source_id"], row["phash"], duplicates)
    if twin is None:
        return {}
    why = reason("duplicate", f"of {twin}")
    return {"verdict": FILTERED, "reason": why, "duplicate_of": twin, "bucket": None}


def count_unit(unit: int, layout: RunLayout) -> dict[str, Any]:
    """Clips, reasons, buckets and the books of a unit's sources.

    A source is kept if any of its clips is, else quarantined, failed or filtered, in this order.
    """
    columns = ["source_id", "clip_id", "verdict", "reason", "bucket"]
    rows = read_table(clips_path(layout, unit), columns=columns).to_pylist()
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
    return next(verdict for verdict in PRECEDENCE if verdict in verdicts)
