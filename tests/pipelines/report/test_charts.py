"""What the charts draw is where it belongs: bars, thresholds, strips."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.curation.verdicts import KEPT
from pipelines.recipe import FilterSettings
from pipelines.report.charts import BASE, TOP, histogram_chart
from pipelines.report.pictures import GAP_PIXELS
from pipelines.report.rendering import percent
from pipelines.report.sample import Sample, varied
from pipelines.report.scores import SCORES, Histogram, histograms
from pipelines.report.thumbnails import FRAME_HEIGHT_PIXELS, STRIP_WIDTH_PIXELS, strip_frames


def counted(column: str, values: list[float | None], codes: list[str | None], **filters: float) -> Histogram:
    """The histogram of one score; a clip without a reason is kept."""
    found = next(each for each in histograms(FilterSettings(**filters)) if each.score.column == column)
    verdicts = [KEPT if code is None else "filtered" for code in codes]
    code = pa.array(codes, pa.string())
    found.add(pa.table({column: pa.array(values, pa.float64()), "verdict": verdicts, "code": code}))
    return found


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.column)
def test_every_value_is_in_the_bin_between_whose_edges_it_lies(score):
    values = np.r_[np.random.default_rng(0).lognormal(0, 3, 500), 0.0, score.edges]
    for value, index in zip(values, score.bins(values), strict=True):
        low = score.edges[index - 1] if index else -np.inf
        high = score.edges[index] if index < len(score.edges) else np.inf
        assert low <= value < high or value == score.edges[-1] == high
        assert int(np.floor(score.position(value) - (value == score.edges[-1]))) == index


def test_clips_are_told_apart_by_what_dropped_them_and_those_without_a_score_are_counted():
    values = [0.1, 0.1, 0.9, 0.9, 0.9, None]
    codes = [None, "too_bright", "static", "static", "blurred", "too_short"]
    histogram = counted("static_score", values, codes, max_static=0.5)
    assert histogram.counts.sum(1).tolist() == [1, 2, 2]  # kept, refused by this score, by another
    assert histogram.missing == 1
    threshold = histogram.thresholds[0]
    assert (threshold.passed, threshold.refused) == (2, 3)


def test_files_of_the_clip_table_add_up():
    one = counted("sharpness", [3.0, 700.0], [None, None])
    both = counted("sharpness", [3.0, 700.0, 12.0], [None, None, "static"])
    one.add(pa.table({"sharpness": [12.0], "verdict": ["filtered"], "code": ["static"]}))
    assert (one.counts == both.counts).all()


@pytest.mark.parametrize(
    ("column", "filters", "below", "above"),
    [
        ("static_score", {"max_static": 0.7}, 0.6, 0.8),
        ("motion_score", {"min_motion": 0.3}, 0.1, 2.0),
        ("text_area", {"max_text_area": 0.1}, 0.0, 0.5),
        ("sharpness", {"min_sharpness": 0.65}, 0.3, 1.4),
        ("scene_change", {"min_scene_change": 0.003}, 0.001, 0.2),
        ("watermark_area", {"max_watermark_area": 0.003}, 0.001, 0.2),
        ("luminance", {"max_luminance": 240}, 100.0, 250.0),
        ("aesthetic_score", {"min_aesthetic": 4.5}, 3.1, 6.2),
        ("text_match", {"min_text_match": 0.2}, -0.1, 0.31),
    ],
)
def test_a_threshold_stands_between_the_bars_that_it_divides(column, filters, below, above):
    chart = histogram_chart(counted(column, [below, above], [None, None], **filters))
    left, right = sorted(chart.bars, key=lambda bar: bar.x)
    assert left.x + left.width <= chart.thresholds[0].position <= right.x


def test_a_bin_with_one_clip_is_seen_beside_a_million():
    histogram = counted("luminance", [10.0, 200.0], [None, None])
    histogram.counts[0, histogram.score.bins(np.array([200.0]))[0]] = 1_000_000
    small, tall = sorted(bar.height for bar in histogram_chart(histogram).bars)
    assert small >= 1
    assert tall == BASE - TOP


def test_a_share_is_never_rounded_to_nothing_or_all():
    assert [percent(share) for share in (0, 0.0004, 0.5, 0.9996, 1)] == [
        "0 %",
        "0.04 %",
        "50.0 %",
        "99.96 %",
        "100 %",
    ]


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (640, 480), (1080, 1920), (64, 64), (4000, 500)])
def test_a_strip_is_full_whatever_the_aspect_ratio(width, height):
    pixels, count = strip_frames(width, height)
    filled = count * (pixels + GAP_PIXELS) - GAP_PIXELS
    assert STRIP_WIDTH_PIXELS - count < filled <= STRIP_WIDTH_PIXELS
    if 0.5 < width / height < 2.5:
        assert pixels / FRAME_HEIGHT_PIXELS == pytest.approx(width / height, rel=0.2)


def test_clips_of_different_sources_come_before_a_second_one_of_any():
    rows = [{"source_id": name} for name in "aaabbc"]
    assert "".join(row["source_id"] for row in varied(rows, 5)) == "abcab"


def test_the_sample_is_the_same_however_the_table_is_cut_into_files():
    count = 400
    table = pa.table(
        {
            "clip_id": [f"{7919 * n % count:020d}" for n in range(count)],
            "source_id": [f"s{n // 2}" for n in range(count)],
            "verdict": ["kept" if n % 3 else "filtered" for n in range(count)],
            "code": [None if n % 3 else "static" for n in range(count)],
            "reason": [None if n % 3 else "static: 1 > 0.7" for n in range(count)],
        }
    )
    whole, cut = Sample(), Sample()
    whole.add(table)
    for start in (200, 0, 300, 100):
        cut.add(table.slice(start, 100))
    assert whole.kept == cut.kept
    assert whole.dropped == cut.dropped
    assert len(whole.dropped["static"]) == 4
    assert all(row["code"] == "static" for row in whole.dropped["static"])
