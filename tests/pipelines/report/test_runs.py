"""Training and evaluation have a short place on the page when they left something."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines.report.runs import metric_table

from pipelines.evaluation.summary import Metric, as_json
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.report.page import write_report
from pipelines.workflow import write_recipe


def metric(name: str, value: float, interval: tuple[float, float] | None = None) -> Metric:
    return Metric(name, value, "by <hand>", 12, 8, 8.0, "none", 0, interval=interval)


METRICS = as_json(
    [
        metric("motion_accuracy", 0.875, (0.6, 0.97)),
        metric("motion_accuracy_ground_truth", 1.0),
        metric("motion_accuracy_untrained", 0.125),
        metric("motion_accuracy_two", 0.25),
        metric("motion_accuracy_ground_truth_two", 0.99),
    ]
)


@pytest.fixture
def trained(run: Recipe, tmp_path: Path) -> RunLayout:
    """The curated run with a log of training and an evaluation beside it."""
    shutil.copytree(run.run_directory, tmp_path / "run", ignore=shutil.ignore_patterns("shards"))
    layout = RunLayout(tmp_path / "run")
    demo = load_recipe("demo")
    tiers = {**run.curation.tiers, "high": run.curation.tiers["low"]}
    curation = run.curation.model_copy(update={"tiers": tiers})
    labels = run.data.columns.model_copy(update={"labels": demo.data.columns.labels})
    data = run.data.model_copy(update={"columns": labels})
    update = {"train": demo.train, "evaluate": demo.evaluate, "curation": curation, "data": data}
    write_recipe(run.model_copy(update=update), layout)
    for name, losses in (("new_parts", (0.9, 0.7, 0.5)), ("low", (0.4, 0.3))):
        layout.stage(name).mkdir(parents=True)
        lines = [
            {"step": step, "loss": loss, "seconds_total": 30.5, "peak_memory_gb": 1.25}
            for step, loss in enumerate(losses, 1)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        layout.log(name).write_text(text + '{"step": 9, "lo')  # a run that was killed while it wrote
    folder = layout.evaluation("final")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"metrics": METRICS}))
    noise = np.random.default_rng(0).integers(0, 255, (900, 2400, 3), np.uint8)
    Image.fromarray(noise).save(folder / "grid.png")
    (folder / "step.json").write_text(json.dumps({"seconds": 129.0}))
    return layout


def test_losses_metrics_and_the_contact_sheet_are_on_the_page(trained: RunLayout):
    write_report(trained.root)
    page = trained.report.read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.replace("<wbr>", "")))
    assert page.count('class="curve"') == 3  # two losses, one schedule that both stages have
    assert "Noise schedule new_parts, low: shift 12, terminal SNR 0, predicts v" in text
    assert "new_parts 3 steps, last loss 0.5" in text
    assert "train: new_parts 1 min 32 s 1.25 GB" in text
    assert "evaluate 2 min 09 s" in text
    assert "motion_accuracy 0.875 0.6 to 0.97 n 12 1 n 12 0.125 n 12" in text
    assert "by &lt;hand&gt;" in page
    assert re.search(r'<figure class="grid"><img src="data:image/webp;base64,[^"]+" width="1200"', page)
    assert len(page) < 5_000_000


def test_a_curated_run_alone_has_no_empty_sections(run: Recipe):
    page = Path(write_report(Path(run.run_directory))["report"]).read_text()
    assert 'id="training"' not in page
    assert 'id="evaluation"' not in page


def test_variants_of_a_metric_stand_beside_each_other_by_set():
    tables = metric_table(METRICS, load_recipe("demo"))
    assert list(tables) == ["held_out", "two"]
    assert tables["held_out"].variants == ["generated", "real videos", "untrained model"]
    assert tables["two"].variants == ["generated", "real videos"]
    values = tables["two"].rows[0].values
    assert (tables["two"].rows[0].name, values["generated"]["value"]) == ("motion_accuracy", 0.25)
