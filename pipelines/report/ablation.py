"""The ablations of a recipe: what each change does to each metric, beside the recipe as it is."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.layout import RunLayout
from pipelines.report.intervals import Axis, Span, axis_over

BETTER, WORSE, UNCLEAR = "better", "worse", "unclear"


class AblationFileError(ValueError):
    """An ablation.json that is none; the message says what is wrong in it."""


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True)


class MetricName(_Read):
    name: str
    better: Literal["higher", "lower"]


class Result(_Read):
    """One metric of one arm. values: by seed; difference, low, high: to the base arm, paired by seed."""

    values: dict[str, float | None] = {}
    mean: float | None = None
    deviation: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def seeds(self) -> int:
        return sum(value is not None and math.isfinite(value) for value in self.values.values())

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    def verdict(self, better: str) -> str:
        """Better or worse than the base when the interval leaves out zero, and else unclear."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return UNCLEAR
        return BETTER if (self.interval[0] > 0) == (better == "higher") else WORSE


class Arm(_Read):
    """One change of the recipe. results: {metric: result}; a metric that is not there is not measured yet."""

    name: str
    title: str
    changes: tuple[str, ...] = ()
    results: dict[str, Result] = {}


@dataclass(frozen=True)
class ForestRow:
    arm: Arm
    result: Result | None
    verdict: str
    span: Span | None  # None: no difference is known


@dataclass(frozen=True)
class Forest:
    """Differences to the base in one metric, on one axis. zero: its place in percent."""

    metric: MetricName
    rows: list[ForestRow]
    axis: Axis

    @property
    def zero(self) -> float:
        return self.axis.place(0.0)


class Ablation(_Read):
    """`ablate/ablation.json`."""

    base: str
    seeds: tuple[int, ...]
    metrics: tuple[MetricName, ...]
    arms: tuple[Arm, ...]

    @cached_property
    def forests(self) -> list[Forest]:
        return [self._forest(metric) for metric in self.metrics]

    @property
    def missing(self) -> int:
        """How many values of a seed are still to come."""
        wanted = len(self.arms) * len(self.metrics) * len(self.seeds)
        return wanted - sum(result.seeds for arm in self.arms for result in arm.results.values())

    def _forest(self, metric: MetricName) -> Forest:
        others = [(arm, arm.results.get(metric.name)) for arm in self.arms if arm.name != self.base]
        values = [0.0]
        for _, result in others:
            if result and result.difference is not None:
                values += [result.difference, *(result.interval or ())]
        axis = axis_over(values)
        return Forest(metric, [_row(axis, metric, arm, result) for arm, result in others], axis)


def _row(axis: Axis, metric: MetricName, arm: Arm, result: Result | None) -> ForestRow:
    if result is None or result.difference is None:
        return ForestRow(arm, result, UNCLEAR, None)
    verdict = result.verdict(metric.better)
    title = f"{arm.title}: {result.difference:+.3g}"
    return ForestRow(arm, result, verdict, axis.span(verdict, title, result.difference, result.interval))


def read_ablation(layout: RunLayout) -> Ablation | None:
    """The ablation of a run, finished or not; None when there is none.

    Raises AblationFileError when its file is not what `dreamer ablate` writes.
    """
    path = layout.root / "ablate" / "ablation.json"
    if not path.is_file():
        return None
    try:
        return Ablation.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise AblationFileError(
            f"{path}: {where}: {first['msg']}; `dreamer ablate` writes it anew, or move it away"
        ) from error
