"""Two runs side by side: what differs, how far, and over the same clips."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.report.comparison import ComparisonError, setting_differences, write_comparison
from tests.pipelines.report.pages import rows_of, section, text_of


@pytest.fixture(scope="module")
def page(comparison_page: Path) -> str:
    return comparison_page.read_text()


def test_only_the_settings_that_differ_are_listed_by_their_names(page: str):
    assert rows_of(section(page, "recipe"))[1:] == [
        ["seed", "0", "1"],
        ["train.stages.new_parts.learning_rate", "0.003", "0.0015"],
    ]


def test_a_stage_that_one_recipe_lacks_is_not_there():
    demo = load_recipe("demo")
    shorter = demo.model_copy(
        update={"train": demo.train.model_copy(update={"stages": demo.train.stages[:3]})}
    )
    found = setting_differences(shorter, demo)
    assert {key.rsplit(".", 1)[0] for key, _, _ in found} <= {
        "train.stages.high_flow",
        "train.stages.high_flow.schedule",
    }
    assert ("train.stages.high_flow.flow_weight", "not there", "0.1") in found
    assert setting_differences(demo, demo) == []


def test_curation_is_counted_for_both(page: str):
    rows = {row[0].split(" ")[0]: row[1:] for row in rows_of(section(page, "curation"))}
    assert rows["Sources"] == ["18", "18", "same"]
    assert rows["Kept"][0] == rows["Kept"][1]


def test_losses_of_a_stage_lie_over_each_other_by_the_samples_seen(page: str):
    stage = section(page, "training").split("<article")[1]
    assert re.findall(r'<polyline class="curve ([^"]+)"', stage) == [
        *("raw one", "raw two", "one", "one dashed", "two", "two dashed"),
    ]
    assert "mean squared error over the samples seen" in text_of(stage)
    assert re.search(r">clips [\d,]+: A [\d.]+, A val\. [\d.]+, B [\d.]+, B val\. [\d.]+<", stage)


def test_metrics_are_paired_over_the_clips_of_both(page: str):
    rows = {row[0].split(" ")[0]: row[2:] for row in rows_of(section(page, "metrics").split("<table")[1])}
    assert rows["Metric"] == ["A", "B", "B − A"]
    assert rows["first_frame_psnr_db"] == ["26 n 4", "27.5 n 4", "+1.5 +1.5 to +1.5 4 clips"]
    assert rows["motion_accuracy"][2] == "0 0 to 0 4 clips"
    assert rows["dynamic_degree"][2] == "0 0 to 0 4 clips"
    assert rows["fvd_tiny_classifier_n4_8f"][2] == "no value of single clips"
    assert re.search(r'<td class="n clear"[^>]*><span>\+1\.5', page)
    assert page.count('class="n clear"') == 1


def test_numbers_that_were_measured_otherwise_are_not_subtracted(
    trained: RunLayout, other: RunLayout, tmp_path: Path
):
    shutil.copytree(other.root, tmp_path / "run", ignore=shutil.ignore_patterns("train", "data"))
    path = tmp_path / "run" / "evaluate" / "final" / "metrics.json"
    metrics = json.loads(path.read_text())["metrics"]
    metrics[2]["fps"] = 4.0
    path.write_text(json.dumps({"metrics": metrics[:3]}))
    page = Path(write_comparison(trained.root, tmp_path / "run")["report"]).read_text()
    rows = {row[0].split(" ")[0]: row[2:] for row in rows_of(section(page, "metrics").split("<table")[1])}
    assert rows["first_frame_psnr_db"] == ["26 n 4", "27.5 n 4", "measured otherwise: fps"]
    assert page.count("frames at 4 frames per second") == 1  # both protocols can be read
    assert rows["dynamic_degree"] == ["0.75 n 4", "–", "only one run has it"]
    assert "not curated" in section(page, "curation")
    assert "has no such stage, or has not begun it" in section(page, "training")


def test_the_same_clips_play_side_by_side(page: str):
    figures = section(page, "videos").split("<figure")[1:]
    assert len(figures) == 4
    for figure in figures:
        assert re.findall(r"<span>(real|A|B)</span>", figure) == ["real", "A", "B"]
        assert "data:image/webp;base64," in figure


def test_runs_without_training_are_compared_too(run: Recipe, trained: RunLayout):
    summary = write_comparison(Path(run.run_directory), trained.root)
    page = Path(summary["report"]).read_text()
    assert (summary["metrics"], summary["clips_side_by_side"]) == (0, 0)
    assert "There is no evaluation of the same name that both runs finished." in text_of(page)
    assert 'href="#videos"' not in page


def test_the_page_is_named_for_what_tells_the_runs_apart(
    trained: RunLayout, other: RunLayout, tmp_path: Path
):
    for arm, layout in (("full", trained), ("no_paca", other)):
        folder = tmp_path / arm / "seed-0"
        shutil.copytree(layout.root, folder, ignore=shutil.ignore_patterns("data", "train", "evaluate"))
    summary = write_comparison(tmp_path / "full" / "seed-0", tmp_path / "no_paca" / "seed-0")
    assert Path(summary["report"]).name == "report-with-no_paca-seed-0.html"
    assert "<title>full/seed-0 and no_paca/seed-0</title>" in Path(summary["report"]).read_text()


def test_a_run_is_not_compared_with_itself_or_with_what_is_no_run(trained: RunLayout, tmp_path: Path):
    with pytest.raises(ComparisonError, match=r"is the same run: name another one with --with"):
        write_comparison(trained.root, trained.root / ".")
    with pytest.raises(FileNotFoundError, match=r"is no run directory: it has no recipe\.yaml"):
        write_comparison(trained.root, tmp_path)


def test_the_page_needs_no_file_and_no_network_and_trusts_no_caption(page: str):
    links = re.findall(r'\b(?:src|href|srcset)="([^"]*)"', page)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert "A moon &lt;b&gt;rises" in page
