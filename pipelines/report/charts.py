"""Geometry of the page's histograms, in pixels of their view boxes; the template draws it."""

import math
from collections.abc import Callable
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
