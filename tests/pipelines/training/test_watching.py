"""What a stage shows of itself on its way: samples, clipping, skipped steps, warnings."""

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.media import read_mp4
from pipelines.recipe import Recipe
from pipelines.training.forecast import warn_of_nothing_to_watch
from pipelines.training.group import TrainingStoppedError
from pipelines.training.log import read_log
from pipelines.training.plan import plan_stages
from pipelines.training.run import _interrupts_as_usual
from pipelines.training.samples import sample_files
from pipelines.training.stage import StageRun
from tests.pipelines.training import training_world as world
from tests.pipelines.training.training_world import changed, ema, losses

CLIPS = {"4x32x32": 10}
STAGE = {
    "name": "low",
    "tier": "low",
    "steps": 6,
    "learning_rate": 1e-2,
    "trainable": ["temporal_modules.*", "flow_predictor.*", "image_conv_in.*"],
    "predict_flow": True,
    "flow_weight": 0.1,
}


@pytest.fixture
def recipe(run_directory: Path, training_models: dict[str, str]) -> Recipe:
    made = world.recipe(run_directory, training_models, stages=[STAGE])
    world.write_data(made, CLIPS)
    return made


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_drawing_samples_does_not_change_training(recipe: Recipe, zero_stage: int, tmp_path: Path) -> None:
    evaluate = {"tier": "low", "sets": [{"name": "all", "split": "validation", "clips": 1}]}
    tree = recipe.model_dump(mode="json") | {"evaluate": evaluate | {"sampling": {"steps": 3}}}
    recipe = changed(Recipe.model_validate(tree), zero_stage=zero_stage)
    folder = world.train_here(recipe)
    without, without_ema = losses(folder), ema(folder)
    folder.rename(tmp_path / "without")
    world.train_here(changed(recipe, sample_every_steps=3, sample_clips=3))
    assert losses(folder) == without
    assert all(torch.equal(tensor, without_ema[name]) for name, tensor in ema(folder).items())
    found = dict(sample_files(folder))
    assert list(found) == [3, 6]
    grid, fps = read_mp4(found[6][0])
    assert (len(grid), fps) == (4, 8.0)  # the bucket's frames, at the recipe's rate
    assert not np.array_equal(grid, read_mp4(found[3][0])[0])  # the weights have moved


def test_a_step_that_deepspeed_skips_ends_the_training(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = changed(recipe, precision="bf16", zero_stage=2)
    _poison_gradients(3, monkeypatch)
    with pytest.raises(TrainingStoppedError, match="gradient norm of step 3 is inf"):
        world.train_here(recipe)


def _poison_gradients(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a step on, gradients are infinite where the loss is finite."""
    losses_of, left = StageRun.losses, [step]

    def poisoned(run: StageRun, parts: Any) -> Any:
        left[0] -= 1
        for found in losses_of(run, parts):
            yield found if left[0] else found._replace(total=_InfiniteGradient.apply(found.total))

    monkeypatch.setattr(StageRun, "losses", poisoned)


class _InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, loss: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return loss.clone()

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * float("inf")


def test_log_lines_say_whether_gradients_were_clipped(recipe: Recipe) -> None:
    folder = world.train_here(changed(recipe, max_grad_norm=0.05, stages=[STAGE | {"steps": 2}]))
    for line in read_log(folder / "log.jsonl"):
        assert line["clip_ratio"] == pytest.approx(min(1.0, 0.05 / line["grad_norm"]))
        assert line["clip_ratio"] < 1


def test_nothing_to_validate_on_is_said_before_training_starts(
    run_directory: Path, training_models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = world.recipe(run_directory, training_models, stages=[STAGE], validate_every_steps=2)
    world.write_data(recipe, CLIPS, validation=0)
    warn_of_nothing_to_watch(plan_stages(recipe))
    said = " ".join(capsys.readouterr().err.split())
    assert "train.validate_every_steps will do nothing in stage low" in said
    assert "data.columns.split" in said


def test_an_exit_that_ray_makes_of_ctrl_c_is_an_interrupt_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), _interrupts_as_usual():
        _end_as_ray_does()
    assert signal.getsignal(signal.SIGINT) is before


def _end_as_ray_does() -> None:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    signal.raise_signal(signal.SIGINT)
