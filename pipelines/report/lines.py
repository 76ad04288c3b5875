"""Geometry of line charts, in pixels of their view boxes; the template draws it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.report.charts import Mark

WIDTH, HEIGHT = 340, 186
LEFT, RIGHT, TOP, BASE = 42, 334, 22, 162  # of the plot within the view box
COLUMNS = 120  # a curve has a point in each
MOMENTS = 44  # places of a chart that a pointer can ask about
SMOOTHED_PART, LEAST_SMOOTHED = 15, 5  # a running mean is over a fifteenth of the points, of five at least
LOG_FROM_RATIO = 12.0
MOST_TICKS, TICK_DIGITS = 5, 4

Array = np.ndarray
Values = Sequence[float] | Array


@dataclass(frozen=True)
class Series:
    """One curve. kind: its CSS class; smooth: a running mean over what was measured, which is drawn too."""

    name: str
    kind: str
    x: Values
    y: Values
    smooth: bool = False

    def finite(self) -> tuple[Array, Array]:
        """(x, y) of the values that are numbers."""
        x, y = np.asarray(self.x, float), np.asarray(self.y, float)
        there = np.isfinite(y)
        return x[there], y[there]


@dataclass(frozen=True)
class Path:
    points: str
    kind: str


@dataclass(frozen=True)
class Moment:
    """A band of the chart, and what is told to the pointer that is over it."""

    left: float
    width: float
    text: str

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


@dataclass(frozen=True)
class LineChart:
    """over: what the axis counts; lines, areas: from back to front; levels: values that are drawn across."""

    title: str
    unit: str
    over: str
    lines: list[Path]
    across: list[Mark]
    down: list[Mark]
    moments: list[Moment]
    legend: list[tuple[str, str]]  # name, kind
    areas: list[Path] = field(default_factory=list)
    levels: list[Mark] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """What the chart shows, for whoever cannot see it."""
        names = ", ".join(name for name, _ in self.legend)
        return f"{self.title} ({self.unit}): {names}. {self.moments[-1].text}"


def line_chart(
    title: str,
    unit: str,
    series: Sequence[Series],
    *,
    over: str = "step",
    from_zero: bool = False,
    limits: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
) -> LineChart | None:
    """Curves over a common axis; None when none of them has a finite value.

    The axis is logarithmic when values are positive and LOG_FROM_RATIO apart, unless it is to start from
    zero or `limits` are given; what lies outside of those is drawn at them.
    levels: {label: value} that are drawn across when they are in range.
    """
    drawn = [(each, *each.finite()) for each in series]
    drawn = [each for each in drawn if len(each[1])]
    if not drawn:
        return None
    everything = np.concatenate([y for _, _, y in drawn])
    scale = _scale(everything, from_zero, limits)
    begin, end = min(x[0] for _, x, _ in drawn), max(x[-1] for _, x, _ in drawn)

    def across(x: Array) -> Array:
        return LEFT + (RIGHT - LEFT) * (x - begin) / (end - begin or 1)

    lines, shown = [], []
    for each, x, y in drawn:
        if each.smooth and len(y) > 2:
            lines.append(Path(_points(across, scale, *_outline(x, y)), f"raw {each.kind}"))
            y = running_mean(y, max(LEAST_SMOOTHED, len(y) // SMOOTHED_PART))
        lines.append(Path(_points(across, scale, *_thinned(x, y)), each.kind))
        shown.append((each.name, x, y))
    lines.sort(key=lambda line: not line.kind.startswith("raw "))
    return LineChart(
        title,
        f"{unit}, logarithmic" if scale.is_log else unit,
        over,
        lines,
        _across_ticks(begin, end),
        scale.ticks(),
        _moments(shown, begin, end, over),
        [(each.name, each.kind) for each, _, _ in drawn],
        levels=[
            Mark(scale.down(np.array(value)).item(), label)
            for label, value in (levels or {}).items()
            if scale.low <= value <= scale.high
        ],
    )


def stacked_chart(
    title: str, unit: str, x: Values, parts: Mapping[str, Values], kinds: Sequence[str]
) -> LineChart | None:
    """Parts of a whole over steps, one upon another, as means of neighbouring steps; None without any."""
    table = np.nan_to_num(np.array([list(part) for part in parts.values()], float))  # (P, N)
    if not table.any():
        return None
    groups = np.array_split(np.arange(table.shape[1]), min(MOMENTS, table.shape[1]))
    means = np.array([table[:, group].mean(1) for group in groups]).T  # (P, M)
    tops = np.vstack([np.zeros(means.shape[1]), means.cumsum(0)])
    scale = _scale(tops, True, None)
    edges = LEFT + (RIGHT - LEFT) * np.array([0, *(group[-1] + 1 for group in groups)]) / table.shape[1]
    across = np.repeat(edges, 2)[1:-1]  # steps, for a mean is of all of its group
    areas = []
    for number, kind in enumerate(kinds[: len(parts)]):
        upper, lower = (np.repeat(scale.down(tops[number + up]), 2) for up in (1, 0))
        areas.append(Path(_text(np.r_[across, across[::-1]], np.r_[upper, lower[::-1]]), kind))
    names, shares = list(parts), table.sum(1) / table.sum()
    moments = []
    for number, group in enumerate(groups):
        whole, most = means[:, number].sum(), int(means[:, number].argmax())
        share = means[most, number] / (whole or 1)
        text = f"step {int(x[group[0]]):,}: {whole:.3g} s, {share:.0%} of it {names[most]}"
        moments.append(Moment(round(edges[number], 1), round(edges[number + 1] - edges[number], 1), text))
    legend = [(f"{name} {_share(s)}", kind) for name, s, kind in zip(names, shares, kinds, strict=False)]
    ticks = _across_ticks(float(x[0]), float(x[-1]))
    return LineChart(title, unit, "step", [], ticks, scale.ticks(), moments, legend, areas)


def running_mean(values: Array, window: int) -> Array:
    """Mean of the `window` values around each, of as many as there are at the ends."""
    sums = np.r_[0.0, values.cumsum()]
    places = np.arange(len(values))
    first = np.maximum(places - (window - 1) // 2, 0)
    last = np.minimum(places + window // 2 + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


# ---------------------------------------------------------------- axes


@dataclass(frozen=True)
class Scale:
    """From values to heights in the view box."""

    low: float
    high: float
    is_log: bool

    def down(self, values: Array) -> Array:
        bent = np.log if self.is_log else np.asarray
        low, high = float(bent(np.array(self.low))), float(bent(np.array(self.high)))
        return BASE - (BASE - TOP) * (bent(np.clip(values, self.low, self.high)) - low) / (high - low)

    def ticks(self) -> list[Mark]:
        values = log_ticks(self.low, self.high) if self.is_log else even_ticks(self.low, self.high)
        return [
            Mark(round(self.down(np.array(value)).item(), 1), number(value, TICK_DIGITS)) for value in values
        ]


def _scale(values: Array, from_zero: bool, limits: tuple[float, float] | None) -> Scale:
    if limits is not None:
        return Scale(*limits, is_log=False)
    low, high = float(values.min()), float(values.max())
    if not from_zero and low > 0 and high / low >= LOG_FROM_RATIO:
        return Scale(low, high, is_log=True)
    low = min(low, 0.0) if from_zero else low
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return Scale(low if from_zero else low - room, high + room, is_log=False)


def even_ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between two, at most MOST_TICKS."""
    rough = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * count for count in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two positive numbers, and 2 and 5 times them when there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for times in ((1,), (1, 2, 5)):
        found = [t * 10.0**power for power in decades for t in times if low <= t * 10.0**power <= high]
        if len(found) >= 3:
            break
    return found[:: -(-len(found) // (MOST_TICKS + 1)) or 1]


def _across_ticks(begin: float, end: float) -> list[Mark]:
    values = even_ticks(begin, end) if end > begin else [begin]
    marks = []
    for value in values:
        place = LEFT + (RIGHT - LEFT) * (value - begin) / (end - begin or 1)
        marks.append(
            Mark(round(place, 1), number(value, TICK_DIGITS), "end" if place > RIGHT - 16 else "middle")
        )
    return marks


def number(value: float, digits: int = 3) -> str:
    """A tick's or a read-out's number, short: 0.05, 2e-5, 12k."""
    if value and abs(value) < 0.01:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g}e{int(power)}"
    for least, size, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 or not share else "under 1%"


# ---------------------------------------------------------------- points


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """Means of neighbouring points, at most COLUMNS; the ends stay where they are."""
    if len(x) <= COLUMNS:
        return x, y
    groups = np.array_split(np.arange(len(x)), COLUMNS)
    across, down = (np.array([values[group].mean() for group in groups]) for values in (x, y))
    across[0], across[-1] = x[0], x[-1]
    return across, down


def _outline(x: Array, y: Array) -> tuple[Array, Array]:
    """Lowest and highest value of neighbouring points in turn: what is thinned out hides no spike."""
    if len(x) <= 2 * COLUMNS:
        return x, y
    groups = np.array_split(np.arange(len(x)), COLUMNS)
    across = np.repeat([x[group].mean() for group in groups], 2)
    return across, np.array([f(y[group]) for group in groups for f in (np.min, np.max)])


def _points(across: Callable[[Array], Array], scale: Scale, x: Array, y: Array) -> str:
    if len(x) == 1:  # a line of no length, which round ends make a dot
        x, y = np.repeat(x, 2), np.repeat(y, 2)
    return _text(across(x), scale.down(y))


def _text(across: Iterable[float], down: Iterable[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))


def _moments(shown: list[tuple[str, Array, Array]], begin: float, end: float, over: str) -> list[Moment]:
    """Bands of equal width; in each, every curve's value that is nearest to its middle."""
    longest = max(len(x) for _, x, _ in shown)
    count = min(MOMENTS, longest)
    width = (RIGHT - LEFT) / count
    moments = []
    for place in range(count):
        middle = begin + (end - begin) * (place + 0.5) / count
        at = min((x[np.abs(x - middle).argmin()] for _, x, _ in shown), key=lambda x: abs(x - middle))
        told = []
        for name, x, y in shown:
            if x[0] - (end - begin) / count <= at <= x[-1] + (end - begin) / count:
                told.append(f"{name} {number(float(y[np.abs(x - at).argmin()]))}")
        place_told = number(at, TICK_DIGITS) if at >= 1e6 else f"{at:,.0f}"
        text = f"{over} {place_told}: {', '.join(told)}"
        moments.append(Moment(round(LEFT + width * place, 1), round(width, 1), text))
    return moments
