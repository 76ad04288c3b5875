"""Every stage that was trained has its curves, its noise schedule and what it drew on the page."""

import re

import numpy as np
import pytest

from pipelines.layout import RunLayout
from pipelines.recipe_file import load_recipe
from pipelines.report.lines import BASE, TOP
from pipelines.report.training import chosen_steps, samples_of, schedule_chart, stage_logs
from tests.pipelines.report.pages import section, text_of


@pytest.fixture(scope="module")
def training(page_of_trained: str) -> str:
    return section(page_of_trained, "training")


def test_each_stage_has_its_curves_and_says_what_it_took(training: str):
    new_parts, high_flow = training.split('<h3 class="stage">')[1:]
    titles = ["Loss", "Learning rate", "Gradient norm", "Speed", "Where a step&#39;s time goes"]
    assert re.findall(r"<h3>(.+?)</h3>", new_parts) == titles
    assert re.findall(r"<h3>(.+?)</h3>", high_flow) == [titles[0], "Flow loss", *titles[1:]]
    assert "400 of 150 steps, last loss 0.1; 13 min 20 s, 1.25 GB at most" in text_of(new_parts)


def test_a_losss_parts_and_validations_are_drawn_and_named(training: str):
    new_parts, high_flow = training.split('<h3 class="stage">')[1:]
    for stage, names in (
        (new_parts, ["diffusion", "validation"]),
        (high_flow, ["loss", "diffusion", "validation"]),
    ):
        loss = stage.split("<article")[1]
        legend = re.findall(r'<span class="\w+">([^<]+)</span>', loss)
        assert legend == names
        assert loss.count("<polyline") == 2 * len(names) - 1  # a validation has no running mean
    assert "Charbonnier, in the loss 0.1 times" in high_flow


def test_where_a_steps_time_goes_adds_up(training: str):
    shares = re.findall(r">(forward|backward|optimizer|data|checkpoint) (\d+)%<", training)
    assert dict(shares) == {
        "forward": "20",
        "backward": "50",
        "optimizer": "25",
        "data": "5",
        "checkpoint": "0",
    }


def test_the_norm_above_which_gradients_are_clipped_is_drawn(training: str):
    norms = [card for card in training.split("<article") if "<h3>Gradient norm</h3>" in card]
    assert all(card.count('<line class="threshold"') == 1 for card in norms)
    assert "before clipping, logarithmic" in norms[0]


def test_a_pointer_over_a_chart_is_told_its_values(training: str):
    assert "step 395: diffusion 0.1, validation" not in training  # none was validated so late
    assert re.search(r"<text [^>]+>step 395: diffusion 0\.1</text>", training)


def test_a_stage_without_a_log_is_left_out(trained: RunLayout):
    logs = stage_logs(trained, load_recipe(str(trained.recipe)))
    assert [log.name for log in logs] == ["new_parts", "high_flow"]
    assert logs[0].steps == 400  # the line that a kill cut off is not one


def test_the_schedule_says_which_stages_have_it(training: str):
    assert "new_parts, high_flow: shift 12, terminal SNR 0, predicts v" in text_of(training)


def test_a_schedule_falls_from_signal_to_noise_and_leaves_the_plot_at_snr_zero():
    chart = schedule_chart(np.exp([8.0, 0.0, -np.inf]), np.exp([8.0, 0.0, -12.0]))
    assert chart.lines[0].points == chart.lines[1].points
    heights = [float(point.split(",")[1]) for point in chart.lines[0].points.split()]
    assert heights == [TOP, pytest.approx(chart.levels[0].position, abs=0.05), BASE]


def test_samples_of_each_stage_play_step_by_step(page_of_trained: str):
    samples = section(page_of_trained, "samples")
    for stage in samples.split('<h3 class="stage">')[1:]:
        assert re.findall(r"step (\d+), playing", stage) == ["10", "30"]
        assert stage.count("<picture>") == 2
        assert 'alt="Clips that stage' in stage


def test_few_of_many_steps_are_shown_the_first_and_the_last_among_them():
    assert chosen_steps(list(range(10, 110, 10)), 4) == [10, 40, 70, 100]
    assert chosen_steps([10, 20], 4) == [10, 20]


def test_samples_that_were_half_written_are_not_shown(trained: RunLayout):
    log = stage_logs(trained, load_recipe(str(trained.recipe)))[0]
    half = trained.stage("new_parts") / "samples" / "step-00000050.mp4"
    half.write_bytes(b"")
    try:
        samples = samples_of(log, 10_000)
    finally:
        half.unlink()
    assert samples is not None
    assert samples.step == 30
