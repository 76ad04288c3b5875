"""`curate`: two Ray Data streams over units of work with a query between them, and books that balance."""

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from pipelines.cluster import start_ray
from pipelines.curation.caption_splits import split_captions, splitting_fingerprint
from pipelines.curation.decode import DecoderProcess
from pipelines.curation.duplicates import find_duplicates
from pipelines.curation.exclusions import excluded_sources, remember_exclusions
from pipelines.curation.forecast import forecast, show_forecast
from pipelines.curation.image_scores import load_aesthetic_head
from pipelines.curation.manifest import manifest_entries, precompute_fingerprint, shards_of
from pipelines.curation.memory import Peaks, forget_peak, peak_memory_gb, with_peak
from pipelines.curation.query import (
    NAMED_SOURCES,
    caption_unit,
    count_unit,
    forget_failures,
    judge_unit,
    query_fingerprint,
    settle_unit,
)
from pipelines.curation.score import score_unit, scoring_fingerprint, unscored_sources
from pipelines.curation.sources import divide_sources, read_sources, shrinking, unit_of
from pipelines.curation.unit_tasks import over_units, unit_stream
from pipelines.curation.verdicts import KEPT, REASONS, VERDICTS, CurationError
from pipelines.files import write_json
from pipelines.layout import RunLayout
from pipelines.node_types import joined_cluster
from pipelines.progress import track
from pipelines.recipe import DecodeSettings, Recipe, with_absolute_paths
from pipelines.schedulable import gpu_pool, remote_options, scoring_resources

POLL_SECONDS = 0.5
CLIPS_WORTH_A_WORKER = 128  # loading the networks takes as long as that many small clips
TELL_EVERY_SECONDS = 1.0
SOURCES_PER_UNIT = 256  # a unit's shards at 16x320x512 come to some 300 MB
LEAST_UNITS = 16  # with 8, one of two cores idled for the last 7 s of 48

Summary = dict[str, Any]


def curate(recipe: Recipe, *, retry_failed: bool = False) -> Summary:
    """Source table → clip table and shards in the run directory.

    Work that is there and current is not done again. `retry_failed` takes up sources that failed or were
    quarantined. Returns counts of sources by verdict, clips, reasons, buckets, seconds and peak memory by
    stage; stages that had nothing to do have no peak.

    Raises RecipeError (no table, no column), FileNotFoundError (no model folder), CurationError (repeated
    ids, nothing kept, books that do not balance).
    """
    recipe = with_absolute_paths(recipe)
    layout = RunLayout.of(recipe)
    seconds: dict[str, float] = {}
    peaks = Peaks()
    forget_peak()
    with _timed(seconds, "divide"):
        if loss := shrinking(recipe):
            raise CurationError(loss)
        recipe = remember_exclusions(recipe, layout)
        excluded = excluded_sources(layout)
        units = fixed_units(layout, recipe)
        divide_sources(recipe.data, layout, units)
    with start_ray():
        if retry_failed:
            over_units(forget_failures, range(units), layout, scoring_fingerprint(recipe.curation))
        with _timed(seconds, "score"):
            decoded = score_units(units, recipe, layout, excluded, peaks)
        with _timed(seconds, "query"):
            settled = query_units(units, recipe, layout, excluded, peaks)
        if not excluded:  # of which nothing may be left, and that has to leave the shards
            _refuse_nothing(settled, recipe)
        told = forecast(settled, recipe.curation)
        show_forecast(told)
        with _timed(seconds, "captions"):
            captions, counts = caption_units(units, recipe, layout, peaks)
        stale = [unit for unit, counted in enumerate(counts) if not counted["current"]]
        with _timed(seconds, "precompute"):
            computed = _precompute(stale, settled, recipe, layout, peaks)
        for unit, counted in zip(stale, over_units(count_unit, stale, layout), strict=True):
            counts[unit] = counted
    summary = summarise(counts)
    check_books(summary, counts)
    peaks.note("driver", peak_memory_gb())
    shards = {shard["file"] for entry in manifest_entries(layout) for shard in entry["shards"]}
    _remove_old_shards({unit_of(source, units) for source in excluded}, layout, shards)
    return summary | {
        **captions,
        "forecast": told,
        "decoded_sources": decoded,
        "computed_clips": computed,
        "shards": len(shards),
        "stale_files": _stale_files(layout, recipe, shards),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_memory_gb": {name: round(value, 3) for name, value in peaks.items()},
    }


def fixed_units(layout: RunLayout, recipe: Recipe) -> int:
    """Number of units of work: decided at the first run of a run directory, that one ever after.

    By default one for `SOURCES_PER_UNIT` rows of the whole table, also when a first look takes a few only.
    """
    path = layout.data / "units.json"
    if not path.is_file():
        units = recipe.curation.units
        if units is None:
            sources = sum(1 for _ in read_sources(recipe.data.model_copy(update={"limit": None})))
            units = max(LEAST_UNITS, -(-sources // SOURCES_PER_UNIT))
        write_json(path, {"units": units})
    return int(json.loads(path.read_text())["units"])


# ---------------------------------------------------------------- the streams


def score_units(units: int, recipe: Recipe, layout: RunLayout, excluded: frozenset[str], peaks: Peaks) -> int:
    """Pass 1 over the units that lack scores; returns how many sources were decoded."""
    stamp = scoring_fingerprint(recipe.curation)
    lacking = over_units(unscored_sources, range(units), recipe, layout, excluded, stamp)
    unscored = [unit for unit, count in enumerate(lacking) if count is not None]
    unscored.sort(key=lambda unit: -(lacking[unit] or 0))  # the longest first, or the last worker ends late
    if not unscored:
        return 0
    decoded = 0
    with _progress(sum(count or 0 for count in lacking), "curate: score sources") as counter:
        work = partial(
            _score_row, recipe=recipe, layout=layout, excluded=excluded, stamp=stamp, counter=counter
        )
        options = remote_options(scoring_resources(recipe, joined_cluster()))
        for row in unit_stream(unscored).map(work, **options).iter_rows():
            if row["stopped"]:
                raise CurationError(row["stopped"])
            decoded += row["decoded"]
            peaks.note("score", row["peak_gb"])
            peaks.note("decoder", row["decoder_peak_gb"])
    return decoded


def _score_row(
    row: dict[str, int],
    *,
    recipe: Recipe,
    layout: RunLayout,
    excluded: frozenset[str],
    stamp: str,
    counter: str,
) -> Summary:
    decoder = _decoder(recipe.curation.decode)
    counts, peak_gb, stopped = {"decoded": 0}, 0.0, ""
    with _telling(counter) as advance:
        try:
            counts, peak_gb = with_peak(score_unit)(
                row["unit"], recipe, layout, excluded, stamp, decoder, advance
            )
        except CurationError as error:  # Ray Data would wrap it and lose what it says
            stopped = str(error)
    peaks = {"peak_gb": peak_gb, "decoder_peak_gb": decoder.peak_memory_gb}
    return row | counts | peaks | {"stopped": stopped}


@cache
def _decoder(settings: DecodeSettings) -> DecoderProcess:
    """This worker process's decoder; it lives as long as the worker."""
    return DecoderProcess(settings)


def query_units(
    units: int, recipe: Recipe, layout: RunLayout, excluded: frozenset[str], peaks: Peaks
) -> list[Summary]:
    """Judge every unit, find duplicates over all of them, settle every unit."""
    head = recipe.curation.image_scores.aesthetic_head
    with track(2 * units, "curate: query") as step:
        judging = (
            recipe,
            layout,
            scoring_fingerprint(recipe.curation),
            query_fingerprint(recipe),
            load_aesthetic_head(head) if head else None,
        )
        over_units(judge_unit, range(units), *judging, peaks=peaks, advance=step.update)
        bits = recipe.curation.filters.max_phash_distance
        duplicates = None if bits is None else find_duplicates(units, bits, layout)
        settling = (recipe, layout, excluded, duplicates)
        return over_units(
            settle_unit,
            range(units),
            *settling,
            peaks=peaks,
            advance=lambda done: step.update(units + done),
        )


def caption_units(
    units: int, recipe: Recipe, layout: RunLayout, peaks: Peaks
) -> tuple[Summary, list[Summary]]:
    """Split the captions of what is kept: (what a model was asked, counts of every unit)."""
    stamp = splitting_fingerprint(recipe.curation.captions)
    asked = split_captions(units, recipe, layout, stamp)
    with track(units, "curate: enter captions") as step:
        entering = (recipe, layout, stamp, precompute_fingerprint(recipe))
        counts = over_units(caption_unit, range(units), *entering, peaks=peaks, advance=step.update)
    return asked, counts


def _precompute(
    units: list[int], settled: list[Summary], recipe: Recipe, layout: RunLayout, peaks: Peaks
) -> int:
    """Pass 2 over the units whose shards are not current; returns how many clips were computed."""
    if not units:
        return 0
    import ray

    pool = gpu_pool(joined_cluster())  # of nodes that are there or can come
    clips = sum(settled[unit]["wanted"] for unit in units)
    workers = min(len(units), pool.actors, 1 + clips // CLIPS_WORTH_A_WORKER)
    decoders = int(pool.resources["CPU"])
    with _progress(clips, "curate: precompute clips") as counter:
        stream = unit_stream(units).map(
            PrecomputeActor,
            fn_constructor_args=(recipe, layout, decoders, counter),
            compute=ray.data.ActorPoolStrategy(size=workers),
            **remote_options(pool.resources),
        )
        computed = 0
        for row in stream.iter_rows():
            computed += row["computed"]
            peaks.note("precompute", row["peak_gb"])
            peaks.note("decoder", row["decoder_peak_gb"])
        return computed


class PrecomputeActor:
    """Holds the networks and decoders of one worker of pass 2."""

    def __init__(self, recipe: Recipe, layout: RunLayout, decoders: int, counter: str) -> None:
        from pipelines.curation.precompute import Networks

        self.recipe, self.layout, self.counter = recipe, layout, counter
        self.networks = Networks(recipe)
        self.decoders = [DecoderProcess(recipe.curation.decode) for _ in range(decoders)]

    def __call__(self, row: dict[str, int]) -> Summary:
        from pipelines.curation.precompute import UnitPrecompute

        work = UnitPrecompute(row["unit"], self.recipe, self.layout, self.networks)
        with _telling(self.counter) as advance:
            counts, peak_gb = with_peak(work.run)(self.decoders, advance)
        decoder_peak_gb = max(decoder.peak_memory_gb for decoder in self.decoders)
        return row | counts | {"peak_gb": peak_gb, "decoder_peak_gb": decoder_peak_gb}


# ---------------------------------------------------------------- progress across workers


@contextmanager
def _progress(total: int, description: str) -> Iterator[str]:
    """The name of a counter that workers add to; a thread shows it on the driver's progress bar."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name = f"count-{uuid.uuid4().hex}"
    # On the driver's node: of another one the command would not outlive the end.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    counter = ray.remote(num_cpus=0, scheduling_strategy=here)(Count).options(name=name).remote()
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


def _remove_old_shards(units: set[int], layout: RunLayout, current: set[str]) -> None:
    """Shards of other settings are left alone, but not where they hold sources that were taken down."""
    for unit in units:
        for path in shards_of(layout, f"{unit:05d}"):
            if path.relative_to(layout.data).as_posix() not in current:
                path.unlink()


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
