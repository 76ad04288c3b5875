"""Metrics stand on the page with interval, count, protocol and hash, and their videos play."""

import re

import pytest

from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.report.evaluation import metric_table, playing_videos, read_metrics, seen_motion, shown_clips
from pipelines.report.intervals import axis_over
from pipelines.report.page import write_report
from tests.pipelines.report.conftest import CAPTIONS, NETWORK
from tests.pipelines.report.pages import rows_of, section, text_of


@pytest.fixture(scope="module")
def evaluation(page_of_trained: str) -> str:
    return section(page_of_trained, "evaluation")


def test_generated_real_and_untrained_values_stand_beside_each_other(evaluation: str):
    rows = {row[0].split(" ")[0]: row[2:] for row in rows_of(evaluation.split("<table")[1])}
    assert rows["Metric"] == ["Generated", "Real videos", "Untrained model"]
    assert rows["motion_accuracy"] == ["0.5 0.15 to 0.85 n 4", "1 0.51 to 1 n 4", "–"]
    assert rows["first_frame_psnr_db"] == ["26 n 4", "–", "12 n 4"]


def test_an_interval_is_drawn_as_a_bar_around_its_value(evaluation: str):
    row = evaluation.split("<tr>")[2]
    bar = re.search(
        r'<i class="range" style="left:([\d.]+)%;width:([\d.]+)%"></i><i class="dot" style="left:([\d.]+)%',
        row,
    )
    left, width, dot = map(float, bar.groups())
    axis = axis_over([0.15, 0.85, 0.51, 1.0])
    assert left == pytest.approx(axis.place(0.15), abs=0.01)
    assert left + width == pytest.approx(axis.place(0.85), abs=0.02)
    assert dot == pytest.approx(axis.place(0.5), abs=0.01)
    assert row.count('class="range"') == 2


def test_each_number_says_how_it_was_measured_and_by_which_network(evaluation: str):
    first = evaluation.split("<tr>")[2]
    assert "by &lt;hand&gt;. 8 frames at 8 frames per second; resize: none; seed 0." in first
    distance = next(row for row in evaluation.split("<tr>") if "fvd_" in row)
    assert f"network <code>{NETWORK[:12]}</code>" in distance
    assert NETWORK in distance


def test_variants_of_a_metric_stand_beside_each_other_by_set(trained: RunLayout):
    tables = metric_table(read_metrics(trained.evaluation("final")), load_recipe("demo"))
    assert list(tables) == ["held_out", "two"]
    assert tables["held_out"].variants == ["generated", "real videos", "untrained model"]
    assert tables["two"].variants == ["generated", "real videos"]
    values = tables["two"].rows[0].values
    assert (tables["two"].rows[0].name, values["generated"]["value"]) == ("motion_accuracy", 0.25)


def test_clips_play_with_what_they_were_asked_and_seen_to_do(evaluation: str):
    figures = evaluation.split("<figure")[1:5]
    assert [text_of(f.split("<figcaption>")[1].split("</span>")[0]) for f in figures] == list(CAPTIONS)
    assert "<b>rises" not in evaluation
    for figure in figures:
        assert re.search(
            r'<source media="\(prefers-reduced-motion: reduce\)" srcset="data:image/webp', figure
        )
        assert re.findall(r"<span>(generated|real)</span>", figure) == ["generated", "real"]
    assert "seen: up, asked for left" in figures[0]
    assert "seen: left<" in figures[1]
    assert seen_motion({}) == ""


def test_the_contact_sheet_is_on_the_page_and_the_page_stays_small(page_of_trained: str, evaluation: str):
    assert re.search(
        r'<figure class="sheet[^>]+><img src="data:image/webp;base64,[^"]+" width="1200"', evaluation
    )
    assert len(page_of_trained) < 6_000_000


def test_a_video_that_is_gone_is_said_in_its_place(trained: RunLayout):
    gone = trained.evaluation("final") / "videos" / "gone.mp4"
    assert "no video" in playing_videos([gone], 10_000).fault


def test_clips_of_every_set_are_shown_most_of_the_first(trained: RunLayout):
    from dataclasses import replace

    from pipelines.report.evaluation import clips_of

    clip = clips_of(trained.evaluation("final"))[0]
    clips = [
        replace(clip, set=name, clip_id=f"{name}{n}") for name in ("own", "two", "pan") for n in range(20)
    ]
    assert [each.set for each in shown_clips(clips)] == ["own"] * 6 + ["two", "pan"]


def test_time_of_training_and_evaluation_is_among_the_costs(page_of_trained: str):
    text = text_of(section(page_of_trained, "cost"))
    assert "train: new_parts 13 min 20 s 1.25 GB" in text
    assert "evaluate 2 min 09 s" in text


def test_a_curated_run_alone_has_no_empty_sections(run: Recipe):
    from pathlib import Path

    page = Path(write_report(Path(run.run_directory))["report"]).read_text()
    for name in ("training", "samples", "evaluation", "ablation"):
        assert f'"{name}"' not in page
        assert f'"#{name}"' not in page
