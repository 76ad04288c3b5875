"""Geometry of the page's charts, in pixels of their view boxes; the template draws it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.report.scores import KINDS, Histogram, Score

WIDTH, HEIGHT = 340, 158
LEFT, RIGHT, TOP, BASE = 4, 336, 32, 136  # of the plot within the view box
LABEL_LINE = 13
FEWEST_BINS = 12
MOST_TICKS = 6
BAR_GAP = 1.2
LABEL_ROOM = 90
CURVE_POINTS = 60
WORDS = ("kept", "dropped by this score", "dropped for other reasons")  # for KINDS


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Mark:
    """A place on an axis; `anchor` is that of its text, `line` the line that the text stands on."""

    position: float
    text: str
    anchor: str = "middle"
    line: int = 0


@dataclass(frozen=True)
class BarChart:
    bars: list[Bar]
    ticks: list[Mark]
    thresholds: list[Mark]


def histogram_chart(histogram: Histogram) -> BarChart:
    """Stacked bars between the outermost bins that hold a clip or a threshold."""
    score, counts = histogram.score, histogram.counts
    first, last = _shown_bins(histogram)
    scale = (RIGHT - LEFT) / (last + 1 - first)
    highest = max(1, int(counts.sum(0).max()))

    def across(position: float) -> float:
        return round(LEFT + scale * (position - first), 2)

    bars = []
    for index in range(first, last + 1):
        height = 0.0
        said = ", ".join(f"{counts[kind, index]:,} {name}" for kind, name in enumerate(WORDS))
        for kind, name in enumerate(KINDS):
            count = int(counts[kind, index])
            if not count:
                continue
            # A bin that holds a clip is seen, however many the others hold.
            tall = max((BASE - TOP) * count / highest, 1.5)
            height += tall
            title = f"{_bin_name(score, index)}: {said}"
            bars.append(
                Bar(across(index), round(BASE - height, 2), scale - BAR_GAP, round(tall, 2), name, title)
            )
    thresholds = []
    for line, threshold in enumerate(histogram.thresholds):
        place = across(score.position(threshold.value))
        word = "max" if threshold.limit.side == "above" else "min"
        # The label stands where there is room for it, by preference over what passes.
        anchor = "end" if place > RIGHT - LABEL_ROOM or (word == "max" and place > LABEL_ROOM) else "start"
        thresholds.append(Mark(place, f"{word} {threshold.value:g}", anchor, line))
    return BarChart(bars, _ticks(score, first, last, across), thresholds)


def _shown_bins(histogram: Histogram) -> tuple[int, int]:
    filled = np.flatnonzero(histogram.counts.sum(0)).tolist()
    filled += [int(histogram.score.bins(np.array(each.value))) for each in histogram.thresholds]
    last_bin = histogram.counts.shape[1] - 1
    if not histogram.score.in_ratios:  # a share, or a grey value, is shown on the whole of its scale
        return min([1, *filled]), max([last_bin - 1, *filled])
    first, last = (min(filled), max(filled)) if filled else (0, last_bin)
    while last - first + 1 < FEWEST_BINS:
        first, last = max(0, first - 1), min(last_bin, last + 1)
    return first, last


def _bin_name(score: Score, index: int) -> str:
    if index == 0:
        return f"below {_number(score.edges[0])}"
    if index == len(score.edges):
        return f"above {_number(score.edges[-1])}"
    return f"{_number(score.edges[index - 1])} to {_number(score.edges[index])}"


def _ticks(score: Score, first: int, last: int, across: Callable[[float], float]) -> list[Mark]:
    edges = [index for index in range(max(first, 1), last + 2) if index <= len(score.edges)]
    if score.in_ratios:
        named = [index for index in edges if _is_decade(score.edges[index - 1])]
        if len(named) < 3:
            named = edges[:: max(1, len(edges) // 4)]
    else:
        named = edges[:: max(1, (len(edges) - 1) // (MOST_TICKS - 1))]
    marks = []
    for index in named:
        place = across(index)
        anchor = "start" if place < LEFT + 20 else "end" if place > RIGHT - 20 else "middle"
        marks.append(Mark(place, _number(score.edges[index - 1]), anchor))
    if first == 0:
        marks = [mark for mark in marks if mark.position > LEFT + 60]
        marks.insert(0, Mark(across(0), f"<{_number(score.edges[0])}", "start"))
    return marks


def _is_decade(value: float) -> bool:
    return math.isclose(math.log10(value), round(math.log10(value)), abs_tol=1e-9)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


# ---------------------------------------------------------------- curves


@dataclass(frozen=True)
class Curve:
    """A line through means of neighbouring steps."""

    points: str
    low: float
    high: float
    steps: int


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> Curve | None:
    """None when there is no finite loss to draw."""
    pairs = [(step, loss) for step, loss in zip(steps, losses, strict=True) if math.isfinite(loss)]
    if not pairs:
        return None
    groups = np.array_split(np.array(pairs, float), min(CURVE_POINTS, len(pairs)))
    means = np.array([group.mean(0) for group in groups])  # (N, 2)
    low, high = float(means[:, 1].min()), float(means[:, 1].max())
    begin, end = float(means[0, 0]), float(means[-1, 0])
    across = LEFT + (RIGHT - LEFT) * (means[:, 0] - begin) / max(end - begin, 1e-12)
    down = BASE - (BASE - TOP) * (means[:, 1] - low) / max(high - low, 1e-12)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    return Curve(points, low, high, int(pairs[-1][0]))


# ---------------------------------------------------------------- noise schedules

LOG_SNR_TOP, LOG_SNR_BASE = 8.0, -12.0  # natural logarithms; SNR 0 leaves the plot at its base


@dataclass(frozen=True)
class ScheduleChart:
    """log SNR over the timesteps: of a schedule, and of Stable Diffusion's own."""

    points: str
    plain: str
    zero: float  # where log SNR = 0


def schedule_chart(snr: Sequence[float], plain_snr: Sequence[float]) -> ScheduleChart:
    """snr, plain_snr: signal-to-noise ratio at each timestep, falling."""
    zero = float(_snr_down(np.ones(1))[0])
    return ScheduleChart(_snr_points(np.array(snr)), _snr_points(np.array(plain_snr)), zero)


def _snr_points(snr: np.ndarray) -> str:
    shown = np.unique(np.linspace(0, len(snr) - 1, CURVE_POINTS).round().astype(int))
    across = LEFT + (RIGHT - LEFT) * shown / (len(snr) - 1)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, _snr_down(snr[shown]), strict=True))


def _snr_down(snr: np.ndarray) -> np.ndarray:
    log_snr = np.log(np.maximum(snr, math.exp(LOG_SNR_BASE)))
    return BASE - (BASE - TOP) * (log_snr - LOG_SNR_BASE) / (LOG_SNR_TOP - LOG_SNR_BASE)
