"""`dreamer ablate` as a command: real runs, one table, nothing done twice, nothing lost by a failure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from pipelines.ablation.run import AblationError, ablate
from pipelines.layout import RunLayout
from pipelines.recipe import Arm
from pipelines.recipe_file import load_recipe

pytestmark = pytest.mark.long

STEPS = 3
RECIPE = {
    "extends": "demo",
    "name": "small",
    "curation": {"tiers": {"low": ["8x32x32"], "high": ["8x32x32"]}, "units": 1},
    "train": {
        "workers": 1,
        "global_batch_clips": 4,
        "stages": [
            {
                "name": "low",
                "tier": "low",
                "steps": STEPS,
                "learning_rate": 1e-3,
                "schedule": {"shift": 12},
                "trainable": ["*", "!image.*"],
            }
        ],
    },
    "evaluate": {
        "tier": "low",
        "sets": [{"name": "held_out", "split": "held_out", "clips": 4}],
        "untrained_clips": 0,
        "workers": 1,
        "sampling": {"steps": 2},
    },
    "ablate": {
        "metrics": {"motion_accuracy": "higher", "first_frame_psnr_db": "higher"},
        "arms": {
            "whole": {"title": "whole caption", "settings": ["curation.captions.motion=whole"]},
        },
    },
}


@pytest.fixture(scope="module")
def recipe(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    where = {"run_directory": str(folder / "run"), "data": {"table": str(sprites / "sprites.csv")}}
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**RECIPE, **where}, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def table(recipe: Path) -> dict:
    arguments = [sys.executable, "-m", "jobs.cli", "ablate", str(recipe), "--json"]
    done = subprocess.run([*arguments, "--seeds", "1", "--parallel", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_arm_is_a_run_of_its_own_in_one_experiment(table: dict, recipe: Path) -> None:
    run = recipe.parent / "run"
    for arm in ("full", "whole"):
        layout = RunLayout(run / "ablate" / arm / "seed-0")
        assert len(layout.log("low").read_text().splitlines()) == STEPS
        assert (layout.evaluation("final") / "metrics.json").is_file()
    client = MlflowClient(f"sqlite:///{run}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'small: ablation'")
    names = {found.info.run_name for found in client.search_runs([experiment.experiment_id])}
    assert {"small-full-0: evaluate final", "small-whole-0: evaluate final"} <= names


def test_the_table_has_every_arm_and_is_left_in_the_run(table: dict, recipe: Path) -> None:
    written = json.loads((recipe.parent / "run" / "ablate" / "ablation.json").read_text())
    assert written == {key: value for key, value in table.items() if key != "paths"}
    assert [arm["name"] for arm in table["arms"]] == ["full", "whole"]
    for arm in table["arms"]:
        assert set(arm["results"]) == {"motion_accuracy", "first_frame_psnr_db"}


def test_arms_share_the_curated_data_and_change_what_is_theirs(table: dict, recipe: Path) -> None:
    import pyarrow.parquet as pq

    run = recipe.parent / "run"
    layouts = {arm: RunLayout(run / "ablate" / arm / "seed-0") for arm in ("full", "whole")}
    shards = {path.name: path for path in RunLayout(run).data.rglob("shards/*/*.parquet")}
    (shared,) = layouts["full"].data.rglob("shards/*/*.parquet")
    assert shared.samefile(shards[shared.name])
    clips = {name: pq.read_table(layout.clips).to_pylist() for name, layout in layouts.items()}
    assert all(row["motion_caption"] == row["caption"] for row in clips["whole"])
    assert all(row["motion_caption"] != row["caption"] for row in clips["full"])
    assert {row["motion_caption"] for row in pq.read_table(RunLayout(run).clips).to_pylist()} == {
        row["motion_caption"] for row in clips["full"]
    }


def test_what_is_done_is_not_done_again_and_a_failure_loses_nothing(table: dict, recipe: Path) -> None:
    settings = load_recipe(str(recipe))
    late = Arm(title="comes later", settings=("model.adapter=false",))
    arms = {**settings.ablate.arms, "late": late}
    more = settings.model_copy(update={"ablate": settings.ablate.model_copy(update={"arms": arms})})
    with pytest.raises(AblationError, match=r"late, seed 0: exit code 1, see .*/late/seed-0/log\.txt"):
        # /bin/false: which every run that is started would meet. `whole` is not asked for, and stays.
        ablate(more, command=("/bin/false",), seeds=1, arms=("late",))
    written = json.loads((recipe.parent / "run" / "ablate" / "ablation.json").read_text())
    assert written["arms"][:2] == table["arms"]
    assert written["arms"][2]["results"] == {}
