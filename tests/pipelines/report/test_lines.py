"""Line charts: what is drawn is where its numbers say, on axes that can be read."""

from itertools import pairwise

import numpy as np
import pytest

from pipelines.report.lines import (
    BASE,
    COLUMNS,
    LEFT,
    MOMENTS,
    MOST_TICKS,
    RIGHT,
    TICK_DIGITS,
    TOP,
    Series,
    even_ticks,
    line_chart,
    log_ticks,
    number,
    running_mean,
    stacked_chart,
)


def places(points: str) -> np.ndarray:
    """(N, 2)"""
    return np.array([point.split(",") for point in points.split()], float)


def test_a_line_goes_from_edge_to_edge_and_keeps_the_order_of_its_values():
    chart = line_chart("Loss", "x", [Series("loss", "one", [1, 2, 4], [3.0, 1.0, 2.0])])
    drawn = places(chart.lines[0].points)
    assert drawn[:, 0].tolist() == [LEFT, pytest.approx(LEFT + (RIGHT - LEFT) / 3, abs=0.1), RIGHT]
    assert TOP < drawn[0, 1] < drawn[2, 1] < drawn[1, 1] < BASE
    assert drawn[2, 1] == pytest.approx(drawn[:2, 1].mean(), abs=0.1)


def test_values_far_apart_are_on_a_logarithmic_axis_and_others_are_not():
    far = line_chart("Loss", "x", [Series("loss", "one", [1, 2, 3], [1.0, 0.1, 0.01])])
    near = line_chart("Loss", "x", [Series("loss", "one", [1, 2, 3], [1.0, 0.55, 0.1])])
    for chart in (far, near):  # even steps on its own kind of axis
        heights = places(chart.lines[0].points)[:, 1]
        assert heights[1] == pytest.approx((heights[0] + heights[2]) / 2, abs=0.1)
    assert (far.unit, near.unit) == ("x, logarithmic", "x")


def test_a_loss_that_is_no_number_leaves_a_gap_and_not_a_broken_curve():
    nan, inf = float("nan"), float("inf")
    chart = line_chart("Loss", "x", [Series("loss", "one", [1, 2, 3, 4], [2.0, nan, inf, 1.0])])
    assert len(places(chart.lines[0].points)) == 2
    assert line_chart("Loss", "x", [Series("loss", "one", [1], [nan])]) is None


def test_the_running_mean_is_drawn_over_every_step_and_a_spike_is_never_thinned_out():
    losses = np.full(5000, 1.0)
    losses[3210] = 9.0
    chart = line_chart("Loss", "x", [Series("loss", "one", range(5000), losses, smooth=True)])
    assert [line.kind for line in chart.lines] == ["raw one", "one"]
    raw, smoothed = (places(line.points) for line in chart.lines)
    assert raw[:, 1].min() < TOP + 8
    assert smoothed[:, 1].min() > BASE - 12
    assert len(smoothed) <= COLUMNS
    assert len(raw) <= 2 * COLUMNS


def test_a_running_mean_takes_as_many_neighbours_as_there_are():
    assert running_mean(np.array([0.0, 3.0, 6.0, 9.0]), 3).tolist() == [1.5, 3.0, 6.0, 7.5]


def test_a_pointer_is_told_the_step_and_each_curves_value_there():
    steps = np.arange(1, 1001)
    sparse = Series("validation", "three", [500, 1000], [0.5, 0.25])
    chart = line_chart("Loss", "x", [Series("loss", "one", steps, 1000.0 / steps), sparse])
    assert len(chart.moments) == MOMENTS
    assert sum(moment.width for moment in chart.moments) == pytest.approx(RIGHT - LEFT, rel=0.01)
    assert "validation" not in chart.moments[0].text  # nothing was validated there yet
    assert chart.moments[-1].text == "step 989: loss 1.01, validation 0.25"


def test_a_level_is_drawn_where_its_value_is_and_not_beyond_the_axis():
    series = [Series("norm", "one", [1, 2, 3], [0.5, 1.0, 1.5])]
    chart = line_chart("Norm", "x", series, levels={"clipped": 1.0, "elsewhere": 7.0})
    assert [level.text for level in chart.levels] == ["clipped"]
    assert chart.levels[0].position == pytest.approx(places(chart.lines[0].points)[1, 1], abs=0.1)


def test_parts_of_a_step_stand_upon_each_other_and_fill_the_whole():
    parts = {"forward": [1.0, 1.0], "backward": [2.0, 2.0], "data": [1.0, 5.0]}
    chart = stacked_chart("Time", "s", [1, 2], parts, ["one", "two", "three"])
    areas = [places(area.points) for area in chart.areas]
    for below, above in pairwise(areas):
        half = len(below) // 2
        assert below[:half, 1].tolist() == above[half:, 1][::-1].tolist()
    assert areas[0][:, 1].max() == BASE
    assert chart.legend == [("forward 17%", "one"), ("backward 33%", "two"), ("data 50%", "three")]
    assert chart.moments[1].text == "step 2: 8 s, 62% of it data"
    assert stacked_chart("Time", "s", [1], {"forward": [float("nan")]}, ["one"]) is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-12, 8), (0.0031, 0.0034), (1, 20_000), (99, 101)])
def test_ticks_are_few_round_and_within_the_axis(low, high):
    ticks = even_ticks(low, high)
    assert 2 <= len(ticks) <= MOST_TICKS + 1
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert len({number(tick, TICK_DIGITS) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(("low", "high"), [(0.05, 1.4), (0.1, 1e6), (3e-4, 0.2), (0.9, 11)])
def test_logarithmic_ticks_are_few_and_within_the_axis(low, high):
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= MOST_TICKS + 2
    assert all(low <= tick <= high for tick in ticks)


def test_numbers_of_ticks_stay_short():
    values = (0, 0.05, 0.0005, 1.5e-5, 12, 1200, 12_000, 2_500_000, -10)
    assert [number(value) for value in values] == [
        *("0", "0.05", "5e-4", "1.5e-5", "12", "1200", "12k", "2.5M", "-10"),
    ]
