"""Differences between two runs over the same clips, from the measures of single videos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.report.evaluation import Metric

RESAMPLES = 2000
SAME = 1e-6  # relative; a metric and the mean of its measures agree to rounding

Row = dict[str, Any]
Key = tuple[str, str]
Shares = dict[Key, tuple[float, float]]
"""{(set, clip id): (sum, count)} of a metric that is the sum of sums over the sum of counts."""


@dataclass(frozen=True)
class Difference:
    """Of a metric, second run minus first, over the clips that both have; the interval is of 95 %."""

    value: float
    low: float
    high: float
    clips: int

    @property
    def is_clear(self) -> bool:
        return not self.low <= 0 <= self.high


def clip_shares(rows: Sequence[Row], name: str, metric: Metric, dynamic_threshold: float) -> Shares | None:
    """What each clip adds to a metric; None when the metric is not a mean over these rows.

    rows: measures of one set and variant. That the rows give the metric's own value is checked, so that a
    Fréchet distance, or a mean that leaves out some clips, is never taken for one.
    """
    share = _share_of(name, dynamic_threshold)
    if not rows or any(not _has(row, name) for row in rows):
        return None
    shares = {(row["set"], row["clip_id"]): share(row) for row in rows}
    sums, counts = np.array(list(shares.values()), float).T
    if not counts.sum() or not np.isclose(sums.sum() / counts.sum(), metric["value"], rtol=SAME, atol=SAME):
        return None
    return shares


def paired_difference(
    first: Mapping[Key, Any], second: Mapping[Key, Any], seed: int = 0
) -> Difference | None:
    """Percentile bootstrap over the clips of both, a clip's two values drawn together; None below two clips.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    both = sorted(first.keys() & second.keys())
    if len(both) < 2:
        return None
    table = np.array([(*first[key], *second[key]) for key in both], float)  # (N, 4)
    generator = np.random.default_rng(seed)
    draws = [_difference(table[generator.integers(len(both), size=len(both))]) for _ in range(RESAMPLES)]
    low, high = np.percentile(draws, (2.5, 97.5))
    return Difference(_difference(table), float(low), float(high), len(both))


def _difference(table: np.ndarray) -> float:
    sum_1, count_1, sum_2, count_2 = table.sum(0)
    return float(sum_2 / count_2 - sum_1 / count_1)


def _has(row: Row, name: str) -> bool:
    if name.startswith("motion_accuracy"):
        return bool(row.get("objects"))
    measure = row.get("motion_strength" if name == "dynamic_degree" else name)
    return isinstance(measure, (int, float)) and bool(np.isfinite(measure))


def _share_of(name: str, dynamic_threshold: float) -> Callable[[Row], tuple[float, float]]:
    if name == "motion_accuracy":
        return lambda row: (sum(_hits(row)), len(_hits(row)))
    if name == "motion_accuracy_whole_clips":
        return lambda row: (all(_hits(row)), 1)
    if name == "dynamic_degree":
        return lambda row: (row["motion_strength"] > dynamic_threshold, 1)
    return lambda row: (row[name], 1)


def _hits(row: Row) -> list[bool]:
    return [thing["asked"] == thing["seen"] for thing in row["objects"]]
