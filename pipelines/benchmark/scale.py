"""Curation's planning and books at the size of a whole table, without a film: time, memory, bytes.

A table is made up, and later what films would have given: a score row for each source and a manifest for each
unit of work. All between them is curation's own code: reading and checking rows, division into units,
verdicts, near-duplicates over the whole table, captions, counts. And training's own look at what came out.
"""

import csv
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import psutil
import pyarrow as pa

from pipelines.cluster import start_ray
from pipelines.curation import clip_table
from pipelines.curation.forecast import forecast
from pipelines.curation.manifest import (
    manifest_entries,
    precompute_fingerprint,
    shard_identity,
    unit_manifest,
    wanted_rows,
    write_manifest,
)
from pipelines.curation.memory import Peaks, forget_peak, peak_memory_gb, with_peak
from pipelines.curation.run import (
    caption_units,
    check_books,
    fixed_units,
    query_units,
    score_units,
    summarise,
)
from pipelines.curation.score import SCHEMA, scores_path, scoring_fingerprint
from pipelines.curation.sources import divide_sources, unit_sources
from pipelines.curation.unit_tasks import over_units
from pipelines.curation.verdicts import FAILED, reason
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.recipe import CurationSettings, DataSettings, Recipe
from pipelines.training.index import read_index

NOBODY: frozenset[str] = frozenset()  # is excluded
FAILED_SHARE = 0.02
COPIED_SHARE = 0.05  # of the clips show one of the pictures that stand in the table about twice
CLIP_BYTES = 650_000  # what `dreamer plan paper` counts for a clip of 16x320x512
# Where scores lie; three of four clips pass the thresholds of stock.yaml, one by one.
SCORES = {
    "motion_score": (0.0, 10.0),
    "static_score": (0.0, 0.75),
    "scene_change": (0.0, 0.3),
    "text_area": (0.0, 0.032),
    "watermark_area": (0.0, 0.0042),
    "sharpness": (0.6, 2.0),
    "luminance": (0.0, 250.0),
}
WORDS = (
    ("A red", "An old", "A small", "One white", "A lonely", "A modern", "A young", "A tall"),
    ("car", "woman", "dog", "sailing boat", "tree", "train", "horse", "crowd of people", "drone", "river"),
    ("moves slowly to the left", "turns around", "waits in the rain", "runs away", "is seen from above"),
    ("on the coast road", "in a city street", "over green grass", "near the harbour", "at the market"),
    ("at sunset", "in winter", "on a foggy morning", "while the camera pans to the right", "in slow motion"),
)

T = TypeVar("T")


@dataclass
class Meter:
    """Does steps one after the other and writes down what each took."""

    rows: int
    steps: list[dict[str, Any]] = field(default_factory=list)
    baseline_gb: float = 0.0

    def __post_init__(self) -> None:
        forget_peak()
        self.baseline_gb = peak_memory_gb()

    def step(self, name: str, work: Callable[[], T], folder: Path | None = None) -> T:
        """folder: what the step writes."""
        before, started, core_before = _files(folder), time.monotonic(), core_seconds()
        result, peak_gb = with_peak(work)()
        seconds, core = time.monotonic() - started, core_seconds() - core_before
        written = [size for path, (size, at) in _files(folder).items() if before.get(path) != (size, at)]
        self.steps.append(
            {
                "step": name,
                "seconds": round(seconds, 3),
                "core_seconds": round(core, 3),
                "rows_per_second": round(self.rows / seconds, 1),
                "driver_peak_gb": round(peak_gb, 3),
                "driver_over_baseline_gb": round(max(0.0, peak_gb - self.baseline_gb), 3),
                "files": len(written),
                "bytes": sum(written),
            }
        )
        return result


def measure_scale(recipe: Recipe, rows: int, *, table_only: bool = False) -> dict[str, Any]:
    """Steps of curating a table of `rows` sources by the recipe's settings, in a folder of its own.

    Each with seconds, core-seconds (of this machine, driver and workers), rows/s, the driver's peak of
    resident memory, in all and over that before the first step, and files and bytes that it wrote.
    table_only: up to the division into units, which is all that the driver does row by row.
    """
    with TemporaryDirectory(prefix="dreamer-scale-") as scratch:
        data = DataSettings(table=f"{scratch}/table.csv")
        recipe = recipe.model_copy(update={"data": data, "run_directory": f"{scratch}/run"})
        meter = Meter(rows)
        units = _measure_table(recipe, meter)
        measured: dict[str, Any] = {}
        if not table_only:
            with start_ray():
                measured = _measure_units(recipe, units, meter)
    return {
        "rows": rows,
        "units": units,
        "steps": meter.steps,
        "driver_baseline_gb": round(meter.baseline_gb, 3),
        "driver_peak_gb": max(step["driver_peak_gb"] for step in meter.steps),
        **measured,
    }


def _measure_table(recipe: Recipe, meter: Meter) -> int:
    """From the table to data/sources; returns the number of units."""
    table, layout = Path(recipe.data.table), RunLayout.of(recipe)
    meter.step("made up: table", partial(write_table, table, meter.rows), table.parent)
    units = meter.step("count rows", partial(fixed_units, layout, recipe))
    divide = partial(divide_sources, recipe.data, layout, units)
    for name in ("divide", "divide again"):
        meter.step(name, divide, layout.data)
    return units


def _measure_units(recipe: Recipe, units: int, meter: Meter) -> dict[str, Any]:
    """From scores to the books; returns what `curate` would say at its end."""
    layout, stamp, peaks = RunLayout.of(recipe), scoring_fingerprint(recipe.curation), Peaks()
    make_up = partial(over_units, make_up_scores, range(units), recipe.curation, layout, stamp, meter.rows)
    meter.step("made up: scores", make_up, layout.scores)
    meter.step("look for unscored", partial(score_units, units, recipe, layout, NOBODY, peaks), layout.scores)
    query = partial(query_units, units, recipe, layout, NOBODY, peaks)
    settled = meter.step("query", query, layout.clips)
    _, counts = meter.step("captions", partial(caption_units, units, recipe, layout, peaks), layout.clips)
    stamp = precompute_fingerprint(recipe)
    make_up = partial(over_units, make_up_manifest, range(units), recipe, layout, stamp)
    meter.step("made up: manifest", make_up, layout.manifest)
    books = meter.step("books", partial(close_books, counts, settled, recipe.curation, layout))
    if recipe.train:
        of_tiers = {stage.tier: stage.model_copy(update={"mix": None}) for stage in recipe.train.stages}
        stages = list(of_tiers.values())
        meter.step("clips to train on", lambda: [read_index(recipe, stage) for stage in stages])
    return books | {"worker_peak_gb": round(peaks["query"], 3)}


def close_books(
    counts: list[dict[str, Any]], settled: list[dict[str, Any]], curation: CurationSettings, layout: RunLayout
) -> dict[str, Any]:
    """What `curate` does at its end, in the driver."""
    forecast(settled, curation)
    summary = summarise(counts)
    check_books(summary, counts)
    shards = {shard["file"] for entry in manifest_entries(layout) for shard in entry["shards"]}
    return {name: summary[name] for name in ("sources", "clips", "reasons")} | {"shards": len(shards)}


def core_seconds() -> float:
    """Time on a core of this process and of all that it started, also of those that have ended since."""
    this = psutil.Process()
    total = 0.0
    for process in [this, *this.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user and system, own and of children that ended
    return total


def _files(folder: Path | None) -> dict[str, tuple[int, int]]:
    """(bytes, when it was written in ns) of the files in a folder and its folders."""
    if folder is None or not folder.is_dir():
        return {}
    stats = ((entry.path, entry.stat()) for entry in _entries(folder))
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats}


def _entries(folder: Path | str) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _entries(entry.path)
            else:
                yield entry


# ---------------------------------------------------------------- what is made up


def write_table(path: Path, rows: int) -> None:
    """A table with WebVid's columns, some 140 bytes a row."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("videoid", "duration", "page_dir", "name", "contentUrl"))
        writer.writerows(
            (
                number,
                "PT00H00M15S",
                f"{number % 10_000:06d}",
                caption(number),
                f"https://films.example/videos/{number}/preview.mp4",
            )
            for number in range(1, rows + 1)
        )


def caption(number: int) -> str:
    """Neighbours share no caption, and 10,000 differ."""
    words, rest = [], number * 7919
    for some in WORDS:
        rest, chosen = divmod(rest, len(some))
        words.append(some[chosen])
    return " ".join(words)


def make_up_scores(unit: int, curation: CurationSettings, layout: RunLayout, stamp: str, rows: int) -> None:
    """The unit's score file: a clip of each source that did not fail. stamp: scoring_fingerprint."""
    random = np.random.default_rng(unit)
    made = [_score_row(source, random, curation, rows) for source in unit_sources(layout, unit)]
    table = pa.Table.from_pylist(made, SCHEMA.with_metadata({"fingerprint": stamp}))
    clip_table.write_table(scores_path(layout, unit, stamp), table)


def _score_row(
    source: dict[str, Any], random: np.random.Generator, curation: CurationSettings, rows: int
) -> dict[str, Any]:
    identity = {name: source[name] for name in ("source_id", "source_uri")}
    if random.random() < FAILED_SHARE:
        return identity | {"verdict": FAILED, "reason": reason("not_found")}
    span = {"start_seconds": 0.0, "end_seconds": curation.clip_seconds}
    shot = {
        "shot_start_seconds": 0.0,
        "shot_end_seconds": 15.0,
        "source_fps": 25.0,
        "width": 596,
        "height": 336,
    }
    values = random.random(len(SCORES)).tolist()
    scores = {
        name: low + value * (high - low)
        for (name, (low, high)), value in zip(SCORES.items(), values, strict=True)
    }
    return {
        **identity,
        **span,
        **shot,
        **scores,
        "clip_id": clip_table.clip_id(source["source_id"], *span.values()),
        "phash": f"{_picture(random, rows):016x}",
    }


def _picture(random: np.random.Generator, rows: int) -> int:
    """A perceptual hash: of a picture of its own, or, but for one bit, of one that others have too."""
    if random.random() >= COPIED_SHARE:
        return int(random.integers(2**64, dtype=np.uint64))
    picture = int(random.integers(1 + int(COPIED_SHARE * rows / 2)))
    shared = np.random.default_rng(picture).integers(2**64, dtype=np.uint64)
    return int(shared) ^ 1 << int(random.integers(64))


def make_up_manifest(unit: int, recipe: Recipe, layout: RunLayout, stamp: str) -> None:
    """The unit's manifest as precompute leaves it, and its shards as files with nothing in them.

    stamp: precompute_fingerprint.
    """
    clips = wanted_rows(layout, unit, recipe)
    held: dict[str, list[str]] = {}
    for clip in clips:
        for name in clip["bucket"].split():
            held.setdefault(name, []).append(clip["clip_id"])
    identity, size = shard_identity(recipe, stamp), recipe.curation.precompute.row_group_clips
    shards = []
    for bucket, clip_ids in sorted(held.items()):
        path = layout.shards(bucket) / f"{unit:05d}-{stamp[:8]}-000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as shard:
            shard.truncate(len(clip_ids) * CLIP_BYTES)  # which takes no room
        shards.append(
            {
                "bucket": bucket,
                "file": path.relative_to(layout.data).as_posix(),
                "rows": len(clip_ids),
                "bytes": len(clip_ids) * CLIP_BYTES,
                "sha256": fingerprint(bucket, unit),
                "metadata": {"bucket": bucket, **identity},
                "row_groups": [clip_ids[first : first + size] for first in range(0, len(clip_ids), size)],
            }
        )
    write_manifest(layout, unit, unit_manifest(unit, clips, stamp, shards))
