"""Our training loop beside a bare one."""

import sys
from pathlib import Path

import pytest

from pipelines.benchmark.train import (
    PHASES,
    BenchmarkError,
    beside_the_run,
    measure_loops,
    one_stage,
    seconds_to_first_step,
)
from pipelines.recipe import Recipe
from tests.pipelines.training import training_world as world

STAGES = [
    {"name": "low", "tier": "low", "steps": 5, "learning_rate": 1e-2, "trainable": ["temporal_modules.*"]},
    {
        "name": "flow",
        "tier": "low",
        "steps": 5,
        "learning_rate": 1e-2,
        "decay_steps": 5,
        "trainable": ["temporal_modules.*", "flow_predictor.*"],
        "predict_flow": True,
        "flow_weight": 0.1,
    },
]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    models = world.build_models(tmp_path / "models")
    return world.recipe(tmp_path / "run", models, workers=2, precision="bf16", stages=STAGES)


def test_the_bare_loop_trains_the_same(recipe: Recipe) -> None:
    world.write_data(recipe, {"4x32x32": 10})
    world.group_of_one()  # stays for the tests that follow
    with beside_the_run(one_stage(recipe, "flow")) as scratch:
        measured = measure_loops(scratch, block_steps=2, blocks=2)
    assert measured["stage"] == "flow"
    assert measured["steps"] == 4
    assert measured["loops"].keys() == {"bare", "zero_2", "zero_3"}
    # Losses of all steps: the loops would part at once if one lacked clipping, flow or a batch.
    assert max(measured["largest_difference_of_a_loss"].values()) < 1e-4
    assert measured["phases_seconds"].keys() == set(PHASES)
    assert all(loop["processor_overhead"] > -1 for name, loop in measured["loops"].items() if name != "bare")
    assert 0 <= measured["data_wait_share"] < 1
    assert measured["on_the_fly"]["times_as_long"] > 1
    assert not (Path(recipe.run_directory) / "train").exists()


def test_a_run_directory_without_clips_is_named(recipe: Recipe) -> None:
    with (
        pytest.raises(FileNotFoundError, match=rf"no clip table in {recipe.run_directory}.*dreamer curate"),
        beside_the_run(one_stage(recipe, None)),
    ):
        pass


def test_a_stage_that_there_is_not_is_named(recipe: Recipe) -> None:
    with pytest.raises(BenchmarkError, match="no stage 'hihg' in this recipe; it has low, flow"):
        one_stage(recipe, "hihg")


def test_what_a_failing_command_said_is_told(recipe: Recipe) -> None:
    world.write_data(recipe, {"4x32x32": 10})
    with beside_the_run(one_stage(recipe, None)) as scratch, pytest.raises(BenchmarkError, match="too few"):
        seconds_to_first_step(scratch, [sys.executable, "-c", "import sys; sys.exit('too few GPUs')"])
