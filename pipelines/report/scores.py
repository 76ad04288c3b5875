"""Histograms of the clip table's scores, with the filters' thresholds: counted file by file, in one pass."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation.verdicts import KEPT, LIMITS, Limit
from pipelines.recipe import FilterSettings

KINDS = ("kept", "refused", "other")
"""Of a clip in a score's histogram: kept, dropped by a filter of this score, dropped for something else."""

Array = np.ndarray


def _decades(low: int, high: int) -> tuple[float, ...]:
    """Eight steps to each power of ten."""
    return tuple(float(10 ** (step / 8)) for step in range(8 * low, 8 * high + 1))


def _steps(high: float, count: int) -> tuple[float, ...]:
    return tuple(high * step / count for step in range(count + 1))


@dataclass(frozen=True)
class Score:
    """A column of scores and the edges that it is counted between: the same in every report.

    Scores without an upper end, or crowded near zero, have edges in equal ratios; what lies outside the
    edges is counted in a bin before and one behind them.
    """

    column: str
    title: str
    unit: str
    edges: tuple[float, ...]
    in_ratios: bool

    def bins(self, values: Array) -> Array:
        """(N,) bin of each value, 0 to len(edges): bin i holds edges[i−1] <= value < edges[i].

        The last edge itself counts with what is below it: a share of 1 is no outlier.
        """
        found = np.searchsorted(self.edges, values, side="right")
        return found - (values == self.edges[-1])

    def position(self, value: float) -> float:
        """Where a value lies on an axis on which bin i reaches from i to i + 1."""
        index = int(np.searchsorted(self.edges, value, side="right"))
        if index == 0:
            return 0.5
        if index == len(self.edges):
            return float(index) if value == self.edges[-1] else index + 0.5
        low, high = self.edges[index - 1 : index + 1]
        share = np.log(value / low) / np.log(high / low) if self.in_ratios else (value - low) / (high - low)
        return index + float(share)


SCORES = (
    Score("motion_score", "Motion", "mean flow, % of the diagonal per second", _decades(-2, 3), True),
    Score("static_score", "Stillness", "share of frame pairs without change", _steps(1, 20), False),
    Score("text_area", "Text", "share of the frame under text", _decades(-4, 0), True),
    Score(
        "scene_change",
        "Scene change",
        "share of the frame that a camera move does not explain",
        _decades(-4, 0),
        True,
    ),
    Score("watermark_area", "Watermark", "share of the frame under text that stays", _decades(-4, 0), True),
    Score("sharpness", "Sharpness", "Laplacian over gradient, 1/pixel", _steps(2, 40), False),
    Score("luminance", "Luminance", "mean grey value, 0 to 255", _steps(255, 51), False),
    Score("aesthetic_score", "Aesthetics", "rating of the middle frame", _steps(10, 40), False),
    Score("text_match", "Text match", "cosine of caption and middle frame", _steps(1, 50), False),
)


@dataclass
class Threshold:
    """One limit of the recipe, and how many clips lie on either side of it."""

    limit: Limit
    value: float
    passed: int = 0
    refused: int = 0


@dataclass
class Histogram:
    """Counts of one score, by bin and kind."""

    score: Score
    thresholds: list[Threshold]
    missing: int = 0
    counts: Array = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(KINDS), len(self.score.edges) + 1), np.int64)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def codes(self) -> list[str]:
        """Reasons that this score's filters give."""
        return [limit.code for limit in LIMITS if limit.score == self.score.column]

    def add(self, clips: pa.Table) -> None:
        """Count clips: a table with the score's column, `verdict` and `code`."""
        column = clips[self.score.column].to_numpy()
        there = np.isfinite(column)
        values = column[there]
        self.missing += int(len(column) - len(values))
        kept = _mask(pc.equal(clips["verdict"], KEPT))[there]
        refused = _mask(pc.is_in(clips["code"], pa.array(self.codes, pa.string())))[there]
        kinds = np.where(kept, 0, np.where(refused, 1, 2))
        bins = self.score.bins(values)
        flat = np.bincount(kinds * self.counts.shape[1] + bins, minlength=self.counts.size)
        self.counts += flat.reshape(self.counts.shape)
        for threshold in self.thresholds:
            out = int(threshold.limit.refuses(values, threshold.value).sum())
            threshold.refused += out
            threshold.passed += len(values) - out


def _mask(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.to_numpy(), bool)


def histograms(filters: FilterSettings) -> list[Histogram]:
    """An empty histogram of every score, with the thresholds that the recipe sets."""
    found = []
    for score in SCORES:
        thresholds = [
            Threshold(limit, value)
            for limit in LIMITS
            if limit.score == score.column and (value := getattr(filters, limit.setting)) is not None
        ]
        found.append(Histogram(score, thresholds))
    return found
