"""`curate`: two Ray Data streams over units of work with a query between them, and books that balance."""

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.cluster import start_ray
from pipelines.curation.decode import DecoderProcess
from pipelines.curation.forecast import forecast, show_forecast
from pipelines.curation.query import (
    NAMED_SOURCES,
    count_unit,
    duplicate_pairs,
    judge_unit,
    settle_unit,
    stand_ins,
)
from pipelines.curation.score import forget_failures, score_unit, scores_path, scoring_fingerprint
from pipelines.curation.shards import manifest_entries
from pipelines.curation.sources import divide_sources, shrinking, unit_sources
from pipelines.curation.verdicts import KEPT, REASONS, VERDICTS, CurationError
from pipelines.layout import RunLayout
from pipelines.progress import track
from pipelines.recipe import DecodeSettings, Recipe, with_absolute_paths

POLL_SECONDS = 0.5
DECODERS_PER_GPU = 4
CLIPS_WORTH_A_WORKER = 128  # loading the networks takes as long as that many small clips
TELL_EVERY_SECONDS = 1.0

Summary = dict[str, Any]


def curate(recipe: Recipe, *, retry_failed: bool = False) -> Summary:
    """Source table → clip table and shards in the run directory.

    Work that is there and current is not done again. `retry_failed` takes up sources that failed or were
    quarantined. Returns counts of sources by verdict, clips, reasons, buckets and seconds.

    Raises RecipeError (no table, no column), FileNotFoundError (no model folder), CurationError (repeated
    ids, nothing kept, books that do not balance).
    """
    recipe = with_absolute_paths(recipe)
    layout = RunLayout(Path(recipe.run_directory))
    seconds: dict[str, float] = {}
    with _timed(seconds, "divide"):
        units = fixed_units(layout, recipe)
        if loss := shrinking(recipe):
            raise CurationError(loss)
        divide_sources(recipe.data, layout, units)
    if retry_failed:
        _forget_failures(recipe, layout, units)
    unscored = [unit for unit in range(units) if not _is_scored(unit, recipe, layout)]
    with start_ray():
        with _timed(seconds, "score"):
            decoded = _score(unscored, recipe, layout)
        with _timed(seconds, "query"):
            settled = _query(recipe, layout, units)
        _refuse_nothing(settled, recipe)
        told = forecast(settled, recipe.curation)
        show_forecast(told)
        stale = [unit for unit, counts in enumerate(settled) if not counts["current"]]
        with _timed(seconds, "precompute"):
            computed = _precompute(stale, settled, recipe, layout)
    counts = [count_unit(layout, unit) for unit in range(units)]
    summary = summarise(counts)
    check_books(summary, counts)
    shards = {shard["file"] for entry in manifest_entries(layout) for shard in entry["shards"]}
    return summary | {
        "forecast": told,
        "decoded_sources": decoded,
        "computed_clips": computed,
        "shards": len(shards),
        "stale_files": _stale_files(layout, recipe, shards),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def fixed_units(layout: RunLayout, recipe: Recipe) -> int:
    """Number of units of work: the recipe's at the first run of a run directory, that one ever after."""
    path = layout.data / "units.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"units": recipe.curation.units}) + "\n")
    return int(json.loads(path.read_text())["units"])


# ---------------------------------------------------------------- the streams


def _score(units: list[int], recipe: Recipe, layout: RunLayout) -> int:
    """Pass 1 over units; returns how many sources were decoded."""
    if not units:
        return 0
    import ray

    total = sum(pq.read_metadata(layout.data / "sources" / f"{unit:05d}.parquet").num_rows for unit in units)
    with _progress(total, "curate: score sources") as counter:
        work = partial(_score_row, recipe=recipe, layout=layout, counter=counter)
        stream = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units)).map(
            work, num_cpus=1, num_gpus=recipe.curation.shots.gpus_per_task
        )
        return sum(row["decoded"] for row in stream.iter_rows())


def _score_row(row: dict[str, int], *, recipe: Recipe, layout: RunLayout, counter: str) -> dict[str, int]:
    with _telling(counter) as advance:
        return row | score_unit(row["unit"], recipe, layout, _decoder(recipe.curation.decode), advance)


@cache
def _decoder(settings: DecodeSettings) -> DecoderProcess:
    """This worker process's decoder; it lives as long as the worker."""
    return DecoderProcess(settings)


def _query(recipe: Recipe, layout: RunLayout, units: int) -> list[Summary]:
    """Judge every unit, find duplicates over all of them, settle every unit."""
    import ray

    judged = ray.remote(judge_unit)
    paired = ray.remote(duplicate_pairs)
    settled = ray.remote(settle_unit)
    with track(2 * units, "curate: query") as step:
        for reference in [judged.remote(unit, recipe, layout) for unit in range(units)]:
            ray.get(reference)
            step.advance()
        pairs: list[tuple[str, str]] = []
        bits = recipe.curation.filters.max_phash_distance
        if bits is not None:
            for reference in [paired.remote(band, bits, units, layout) for band in range(bits + 1)]:
                pairs += ray.get(reference)
        duplicates = ray.put(stand_ins(pairs))
        counts = []
        for reference in [settled.remote(unit, recipe, layout, duplicates) for unit in range(units)]:
            counts.append(ray.get(reference))
            step.advance()
    return counts


def _precompute(units: list[int], settled: list[Summary], recipe: Recipe, layout: RunLayout) -> int:
    """Pass 2 over the units whose shards are not current; returns how many clips were computed."""
    if not units:
        return 0
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    clips = sum(settled[unit]["wanted"] for unit in units)
    workers = min(len(units), gpus or cpus, 1 + clips // CLIPS_WORTH_A_WORKER)
    decoders = min(DECODERS_PER_GPU, max(1, cpus // workers)) if gpus else 1
    with _progress(clips, "curate: precompute clips") as counter:
        stream = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units)).map(
            PrecomputeActor,
            fn_constructor_args=(recipe, layout, decoders, counter),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=decoders,
            num_gpus=1 if gpus else 0,
        )
        return sum(row["computed"] for row in stream.iter_rows())


class PrecomputeActor:
    """Holds the networks and decoders of one worker of pass 2."""

    def __init__(self, recipe: Recipe, layout: RunLayout, decoders: int, counter: str) -> None:
        from pipelines.curation.precompute import Networks

        self.recipe, self.layout, self.counter = recipe, layout, counter
        self.networks = Networks(recipe)
        self.decoders = [DecoderProcess(recipe.curation.decode) for _ in range(decoders)]

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        from pipelines.curation.precompute import UnitPrecompute

        work = UnitPrecompute(row["unit"], self.recipe, self.layout, self.networks)
        with _telling(self.counter) as advance:
            return row | work.run(self.decoders, advance)


# ---------------------------------------------------------------- progress across workers


@contextmanager
def _progress(total: int, description: str) -> Iterator[str]:
    """The name of a counter that workers add to; a thread shows it on the driver's progress bar."""
    import ray

    name = f"count-{uuid.uuid4().hex}"
    counter = ray.remote(num_cpus=0)(Count).options(name=name).remote()
    stop = threading.Event()

    def show() -> None:
        while not stop.wait(POLL_SECONDS):
            step.update(ray.get(counter.value.remote()))

    with track(total, description) as step:
        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield name
            step.update(total)
        finally:
            stop.set()
            thread.join()
            ray.kill(counter)


class Count:
    """How many sources or clips the workers have finished."""

    def __init__(self) -> None:
        self.done = 0

    def add(self, amount: int) -> None:
        self.done += amount

    def value(self) -> int:
        return self.done


@contextmanager
def _telling(name: str) -> Iterator[Callable[[int], None]]:
    """`advance(n)` that tells the counter of that name about once a second, and the rest at the end."""
    import ray

    counter = ray.get_actor(name)
    pending, told_at = 0, time.monotonic()

    def advance(amount: int) -> None:
        nonlocal pending, told_at
        pending += amount
        if time.monotonic() - told_at > TELL_EVERY_SECONDS:
            counter.add.remote(pending)
            pending, told_at = 0, time.monotonic()

    yield advance
    counter.add.remote(pending)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


# ---------------------------------------------------------------- what is there already


def _is_scored(unit: int, recipe: Recipe, layout: RunLayout) -> bool:
    """Whether the unit's score file of these settings has exactly the sources that the table has."""
    path = scores_path(layout, unit, scoring_fingerprint(recipe.curation))
    if not path.is_file():
        return False
    scored = pq.read_table(path, columns=["source_id", "source_uri"]).to_pylist()
    have = {(row["source_id"], row["source_uri"]) for row in scored}
    return have == {(row["source_id"], row["source_uri"]) for row in unit_sources(layout, unit)}


def _forget_failures(recipe: Recipe, layout: RunLayout, units: int) -> None:
    for unit in range(units):
        path = scores_path(layout, unit, scoring_fingerprint(recipe.curation))
        if path.is_file():
            forget_failures(path)


def _stale_files(layout: RunLayout, recipe: Recipe, current: set[str]) -> int:
    """Score files and shards of other settings; they are left alone."""
    stamp = scoring_fingerprint(recipe.curation)[:8]
    scores = [path for path in layout.scores.glob("*.parquet") if not path.stem.endswith(stamp)]
    shards = [
        path
        for path in (layout.data / "shards").glob("*/*.parquet")
        if path.relative_to(layout.data).as_posix() not in current
    ]
    return len(scores) + len(shards)


# ---------------------------------------------------------------- the books


def summarise(counts: list[Summary]) -> Summary:
    """Sums over units: sources by verdict, kept clips, reasons, buckets."""
    books: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    buckets: Counter[str] = Counter()
    for unit in counts:
        books.update(unit["books"])
        reasons.update(unit["reasons"])
        buckets.update(unit["buckets"])
    return {
        "sources": sum(unit["sources"] for unit in counts),
        **{verdict: books[verdict] for verdict in VERDICTS},
        "clips": sum(unit["clips"] for unit in counts),
        "reasons": {code: reasons[code] for code in REASONS if code in reasons},
        "unreadable": sorted(row for unit in counts for row in unit["unreadable"])[:NAMED_SOURCES],
        "buckets": dict(sorted(buckets.items())),
    }


def check_books(summary: Summary, counts: list[Summary]) -> None:
    """sources = kept + filtered + failed + quarantined, or CurationError that names what is missing."""
    ended = sum(summary[verdict] for verdict in VERDICTS)
    missing = [source for unit in counts for source in unit["missing"]]
    unknown = [source for unit in counts for source in unit["unknown"]]
    if ended != summary["sources"] or missing or unknown:
        raise CurationError(
            f"the books do not balance: {summary['sources']} sources, but {ended} verdicts; without a "
            f"verdict: {', '.join(missing) or 'none'}; not in the table: {', '.join(unknown) or 'none'}"
        )


def _refuse_nothing(settled: list[Summary], recipe: Recipe) -> None:
    """Stop before anything expensive when there is nothing to precompute."""
    if any(unit["wanted"] for unit in settled):
        return
    summary = summarise(settled)
    if summary[KEPT]:
        splits = ", ".join(recipe.curation.precompute.splits)
        raise CurationError(
            f"{summary['clips']} clips are kept, but none is in curation.precompute.splits ({splits}); "
            "set them, or data.columns.split, to what the table has"
        )
    causes = ", ".join(f"{count} {code} ({REASONS[code]})" for code, count in summary["reasons"].items())
    raise CurationError(
        f"no clip is kept of {summary['sources']} sources: {causes}. "
        "Loosen curation.filters for what is filtered; look at `reason` in data/clips for what failed"
    )
