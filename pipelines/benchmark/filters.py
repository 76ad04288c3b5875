"""Precision and recall of every filter on the labelled test set, through the real pass 1 and judge."""

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.benchmark import copies, cuts, labelled
from pipelines.benchmark.files import write_film
from pipelines.benchmark.studio import Film, Studio
from pipelines.curation.decode import DecoderProcess
from pipelines.curation.query import filter_reason
from pipelines.curation.score import Row, ScoringSettings, score_video, scoring_settings
from pipelines.progress import track
from pipelines.recipe import CurationSettings, DecodeSettings, FilterSettings, ShotSettings

SHOTS, DUPLICATES = "shots", "duplicates"
FILM_ONLY = {"text": False, "clip": None}  # scoring settings without networks that nothing here asks
SPARE_SECONDS = 0.4  # a film is so much longer than the recipe's clip
NEAR_FRAMES = 1  # a cut found so close to a true one is that one

THRESHOLDS = {
    "motion": ("min_motion",),
    "static": ("max_static",),
    "slideshow": ("min_scene_change",),
    "text": ("max_text_area",),
    "watermark": ("max_watermark_area",),
    "sharpness": ("min_sharpness",),
    "too dark": ("min_luminance",),
    "too bright": ("max_luminance",),
    labelled.WEBVID: ("max_text_area", "max_watermark_area"),
}
SCORES = (
    "motion_score",
    "static_score",
    "scene_change",
    "text_area",
    "watermark_area",
    "sharpness",
    "luminance",
)
FILTERS = (SHOTS, *THRESHOLDS, DUPLICATES)


@dataclass(frozen=True)
class Trial:
    """One film, or pair of films, to be made, encoded, scored and judged."""

    filter: str
    kind: str
    number: int
    refuse: bool | None

    @property
    def name(self) -> str:
        return f"{self.filter}: {self.kind} {self.number}"

    def rng(self, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(f"{self.filter}/{self.kind}".encode()), self.number])


@dataclass(frozen=True)
class Outcome:
    """What a filter did with a trial: `right` and `wrong` say how many refusals (or cuts) were so."""

    trial: Trial
    row: str  # of the result: the filter, or one of several shot detectors
    wanted: int  # refusals (cuts) that there should be
    right: int
    wrong: int
    scores: str = ""


@dataclass
class FilterResult:
    """Precision and recall of one filter; `reported` holds kinds that are not counted."""

    filter: str
    threshold: str
    positives: int = 0
    negatives: int = 0
    right: int = 0
    wrong: int = 0
    misses: list[str] = field(default_factory=list)
    reported: dict[str, tuple[int, int]] = field(default_factory=dict)  # kind: (refused, all)

    def count(self, outcome: Outcome) -> None:
        trial = outcome.trial
        if trial.refuse is None:
            refused, tried = self.reported.get(trial.kind, (0, 0))
            self.reported[trial.kind] = refused + bool(outcome.right), tried + 1
            return
        self.positives += outcome.wanted
        self.negatives += not trial.refuse
        self.right += outcome.right
        self.wrong += outcome.wrong
        if outcome.wrong or outcome.right < outcome.wanted:
            self.misses.append(f"{trial.name}: {outcome.scores}")

    @property
    def precision(self) -> float | None:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def recall(self) -> float | None:
        return self.right / self.positives if self.positives else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "filter": self.filter,
            "threshold": self.threshold,
            "positives": self.positives,
            "negatives": self.negatives,
            "precision": self.precision,
            "recall": self.recall,
            "misses": self.misses,
            "reported": self.reported,
        }


@dataclass(frozen=True)
class Benchmark:
    """Settings under test: a recipe's curation, and the filters that it has for WebVid."""

    curation: CurationSettings
    webvid_filters: FilterSettings
    seed: int = 0
    clips: Sequence[np.ndarray] = field(default=(), repr=False)
    transnet: str | None = None  # weights, to try TransNetV2 beside PySceneDetect

    @property
    def studio(self) -> Studio:
        return Studio(self.curation.clip_seconds + SPARE_SECONDS, self.clips)

    @property
    def detectors(self) -> dict[str, ShotSettings]:
        """The recipe's own way to find cuts first, then the others."""
        own = self.curation.shots
        others = [ShotSettings(detector=name) for name in ("adaptive", "content") if name != own.detector]
        if self.transnet is not None and own.detector != "transnetv2":
            others.append(ShotSettings(detector="transnetv2", weights=self.transnet))
        return {f"{SHOTS}, {shots.detector}": shots for shots in (own, *others)}

    def filters(self, name: str) -> FilterSettings:
        """The thresholds of one filter alone, so that no other one hides what it does."""
        source = self.webvid_filters if name == labelled.WEBVID else self.curation.filters
        return FilterSettings(**{key: getattr(source, key) for key in THRESHOLDS[name]})


def measure_filters(
    benchmark: Benchmark, count: int, names: Sequence[str] = FILTERS, processes: int = 2
) -> list[FilterResult]:
    """Make `count` films that each filter must refuse and as many that it must keep, and let it judge.

    Raises ValueError that names the known filters for one that does not exist.
    """
    if unknown := sorted(set(names) - set(FILTERS)):
        raise ValueError(f"no filter {unknown[0]!r}; there are {', '.join(FILTERS)}")
    todo = [trial for name in names for trial in _trials(name, count)]
    rows = {name: [*benchmark.detectors] if name == SHOTS else [name] for name in names}
    results = {row: FilterResult(row, _threshold(name, benchmark)) for name in names for row in rows[name]}
    # Not forked: a child of a process that has used OpenVINO would wait for threads that it has not got.
    spawn = get_context("spawn")
    workers = ProcessPoolExecutor(processes, spawn, initializer=_start, initargs=(benchmark,))
    with workers as pool, track(len(todo), "benchmark: films") as step:
        for outcomes in pool.map(_try, todo, chunksize=2):
            for outcome in outcomes:
                results[outcome.row].count(outcome)
            step.advance()
    return list(results.values())


def _trials(name: str, count: int) -> Iterator[Trial]:
    """`count` trials to refuse and `count` to keep, the kinds in turn; uncounted kinds have a quarter."""
    kinds: list[tuple[str, bool | None]]
    if name == DUPLICATES:
        kinds = [(kind.name, kind.same) for kind in copies.KINDS]
    else:
        kinds = [(k.name, k.refuse) for k in (cuts.KINDS if name == SHOTS else labelled.KINDS[name])]
    for refuse in (True, False):
        side = [kind for kind, label in kinds if label is refuse]
        yield from (Trial(name, side[i % len(side)], i // len(side), refuse) for i in range(count))
    for kind in (kind for kind, label in kinds if label is None):
        yield from (Trial(name, kind, i, None) for i in range(max(1, count // 4)))


def _threshold(name: str, benchmark: Benchmark) -> str:
    if name == SHOTS:
        return f"±{NEAR_FRAMES} frame"
    if name == DUPLICATES:
        return f"max_phash_distance {benchmark.curation.filters.max_phash_distance}"
    values = benchmark.filters(name).model_dump(include=set(THRESHOLDS[name]))
    return ", ".join(f"{key} {value}" for key, value in values.items())


# ---------------------------------------------------------------- in a worker process

_benchmark: Benchmark | None = None


def _start(benchmark: Benchmark) -> None:
    import cv2

    global _benchmark
    _benchmark = benchmark
    cv2.setNumThreads(1)


@cache
def _decoder() -> DecoderProcess:
    return DecoderProcess(DecodeSettings())


def _try(trial: Trial) -> list[Outcome]:
    assert _benchmark is not None
    if trial.filter == SHOTS:
        return _try_shots(trial, _benchmark)
    return [(_try_pair if trial.filter == DUPLICATES else _try_filter)(trial, _benchmark)]


def _try_filter(trial: Trial, benchmark: Benchmark) -> Outcome:
    kind = next(kind for kind in labelled.KINDS[trial.filter] if kind.name == trial.kind)
    film = kind.make(benchmark.studio, trial.rng(benchmark.seed))
    alone = benchmark.filters(trial.filter)
    settings = scoring_settings(benchmark.curation).model_copy(update=FILM_ONLY | {"text": alone.reads_text})
    rows = _clips(_scored(film, settings))
    reasons = [filter_reason(row, alone) for row in rows]
    refused = all(reasons)
    scores = " ".join(f"{name} {rows[0][name]:.3g}" for name in SCORES if rows[0][name] is not None)
    should = trial.refuse is not False
    return Outcome(
        trial, trial.filter, int(should), int(refused and should), int(refused and not should), scores
    )


def _try_shots(trial: Trial, benchmark: Benchmark) -> list[Outcome]:
    kind = next(kind for kind in cuts.KINDS if kind.name == trial.kind)
    film = kind.make(benchmark.studio, trial.rng(benchmark.seed))
    spans = [(cut - NEAR_FRAMES, cut + NEAR_FRAMES) for cut in film.cuts] or list(film.dissolves)
    outcomes = []
    for name, shots in benchmark.detectors.items():
        settings = scoring_settings(benchmark.curation).model_copy(update=FILM_ONLY | {"shots": shots})
        rows = _scored(film, settings)
        found = sorted({round(row["shot_start_seconds"] * film.fps) for row in rows} - {0})
        right = sum(any(first <= cut <= last for cut in found) for first, last in spans)
        wrong = sum(not any(first <= cut <= last for first, last in spans) for cut in found)
        told = f"cuts {list(film.cuts)}, found {found}"
        outcomes.append(Outcome(trial, name, len(spans), right, wrong, told))
    return outcomes


def _try_pair(trial: Trial, benchmark: Benchmark) -> Outcome:
    kind = next(kind for kind in copies.KINDS if kind.name == trial.kind)
    settings = scoring_settings(benchmark.curation).model_copy(update=FILM_ONLY)
    one, other = (
        _clips(_scored(f, settings)) for f in kind.make(benchmark.studio, trial.rng(benchmark.seed))
    )
    bits = min(_distance(a["phash"], b["phash"]) for a in one for b in other)
    limit = benchmark.curation.filters.max_phash_distance
    same = limit is not None and bits <= limit
    should = trial.refuse is not False
    return Outcome(
        trial, trial.filter, int(should), int(same and should), int(same and not should), f"{bits} bits"
    )


def _scored(film: Film, settings: ScoringSettings) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Row] = _decoder().call(score_video, str(write_film(Path(folder) / "film", film)), settings)
    return rows


def _clips(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.get("verdict") is None]


def _distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


# ---------------------------------------------------------------- a user's own footage


def real_clips(data: Any, curation: CurationSettings, count: int = 48) -> list[np.ndarray]:
    """Shots of a user's table as base footage, (T, H, W, 3) at `FPS`: at most two of each source.

    They are taken to be good footage: in focus, moving, without text or marks.

    Raises CurationError when no source of the table can be read, or has a shot that is long enough.
    """
    from pipelines.curation.decode import DecoderError
    from pipelines.curation.reach import reach_of
    from pipelines.curation.remote import source_file
    from pipelines.curation.sources import read_sources
    from pipelines.curation.verdicts import CurationError

    settings = scoring_settings(curation).model_copy(update=FILM_ONLY)
    clips: list[np.ndarray] = []
    with DecoderProcess(DecodeSettings()) as decoder:
        for source in read_sources(data):
            if len(clips) >= count:
                break
            try:
                with source_file(source["source_uri"], reach_of(data)) as path:
                    clips += _long_shots(decoder, path, settings)
            except DecoderError:  # footage that cannot be read is no footage
                continue
    if not clips:
        least = settings.clip_seconds + SPARE_SECONDS
        raise CurationError(f"no source of {data.table} can be read and has a shot of {least:g} s")
    return clips[:count]


def _long_shots(decoder: DecoderProcess, path: str, settings: ScoringSettings) -> list[np.ndarray]:
    """The first two shots of a file that have room for a clip and some frames to spare."""
    from pipelines.benchmark.scenery import FPS

    shots: dict[float, np.ndarray] = {}
    for row in decoder.call(score_video, path, settings):
        start, length = row["shot_start_seconds"], row["shot_end_seconds"] - row["shot_start_seconds"]
        if length >= settings.clip_seconds + SPARE_SECONDS and start not in shots and len(shots) < 2:
            height, width = _even(row, 360)
            shots[start] = decoder.clip(path, start, min(48, int(length * FPS)), FPS, height, width)
    return list(shots.values())


def _even(row: Row, short_side: int) -> tuple[int, int]:
    scale = short_side / min(row["width"], row["height"])
    return 2 * round(row["height"] * scale / 2), 2 * round(row["width"] * scale / 2)
