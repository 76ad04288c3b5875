"""The ablation's table and forest plots say what is known, what stands out, and what is missing."""

import json
import re
from pathlib import Path

import pytest

from pipelines.layout import RunLayout
from pipelines.report.ablation import AblationFileError, read_ablation
from tests.pipelines.report.conftest import ABLATION
from tests.pipelines.report.pages import rows_of, section, text_of


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    (tmp_path / "ablate").mkdir()
    (tmp_path / "ablate" / "ablation.json").write_text(json.dumps(ABLATION))
    return RunLayout(tmp_path)


@pytest.fixture(scope="module")
def ablation(page_of_trained: str) -> str:
    return section(page_of_trained, "ablation")


def test_an_arm_stands_out_when_its_interval_leaves_out_zero(layout: RunLayout):
    accuracy, distance = read_ablation(layout).forests
    assert [row.verdict for row in accuracy.rows] == ["unclear", "unclear", "unclear"]
    assert [row.verdict for row in distance.rows] == ["worse", "unclear", "better"]  # lower is better


def test_differences_and_zero_are_on_one_axis(layout: RunLayout):
    distance = read_ablation(layout).forests[1]
    worse, _, better = (row.span for row in distance.rows)
    assert better.low < better.place < better.high < distance.zero < worse.low < worse.place < worse.high
    assert distance.zero == pytest.approx((better.place + worse.place) / 2, abs=0.1)


def test_what_is_not_measured_yet_is_missing_and_not_zero(layout: RunLayout, ablation: str):
    found = read_ablation(layout)
    assert found.missing == 2 * 4 * 3 - 14
    assert [row.span is None for row in found.forests[0].rows] == [False, True, True]
    assert "10 values still missing: dreamer ablate goes on." in text_of(ablation)
    forest = rows_of(ablation.split("<article")[1])
    assert forest[2] == ["without motion captions", "", "missing"]


def test_the_forest_gives_differences_with_their_intervals(ablation: str):
    forest = ablation.split("<article")[2]
    assert rows_of(forest)[1][2] == "+10 +8 to +12 worse"
    assert rows_of(forest)[3][2] == "−10 −12 to −8 better"
    assert re.findall(r'<tr class="(\w+)">', forest) == ["worse", "unclear", "better"]


def test_the_table_has_every_arm_with_its_change_and_seeds(ablation: str):
    table = {row[0]: row[1:] for row in rows_of(ablation.split("</article>")[-1])}
    assert table["Arm"] == ["accuracy", "distance"]
    assert table["the recipe as it is base"] == ["0.92 ± 0.015 0.9, 0.92, 0.94", "41 ± 0.015 40, 41, 42"]
    changed = "without <PACA> model.pixel_attention=false"
    assert table[changed][0] == "0.9 ± 0.015 2 of 3 seeds 0.9, 0.9, –"
    assert table["without motion captions"] == ["missing", "missing"]


def test_the_table_that_the_ablation_writes_is_read(tmp_path: Path):
    from pipelines.ablation.table import ablation_table
    from pipelines.recipe import AblateSettings

    settings = AblateSettings.model_validate(
        {"metrics": {"accuracy": "higher"}, "arms": {"other": {"title": "other", "settings": ["seed=1"]}}}
    )
    values = {
        "full": {0: {"accuracy": 0.9}, 1: {"accuracy": 0.8}},
        "other": {0: {"accuracy": 0.5}, 1: {"accuracy": 0.3}},
    }
    (tmp_path / "ablate").mkdir()
    (tmp_path / "ablate" / "ablation.json").write_text(json.dumps(ablation_table(settings, values, [0, 1])))
    found = read_ablation(RunLayout(tmp_path))
    assert found.missing == 0
    assert found.forests[0].rows[0].result.difference == pytest.approx(-0.45)


def test_a_file_that_is_no_ablation_is_refused_with_the_place(layout: RunLayout):
    path = layout.root / "ablate" / "ablation.json"
    path.write_text(json.dumps(ABLATION | {"metrics": [{"name": "accuracy", "better": "more"}]}))
    with pytest.raises(AblationFileError, match=r"ablation\.json: metrics\.0\.better: .*dreamer ablate"):
        read_ablation(layout)
    path.unlink()
    assert read_ablation(layout) is None
