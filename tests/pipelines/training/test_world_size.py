"""A run goes on with another number of workers: the same clips in the same order, the same losses."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster import start_ray
from pipelines.recipe import Recipe
from pipelines.training import run
from pipelines.training.batch import Prepared
from pipelines.training.log import read_log
from pipelines.training.stage import StageRun
from pipelines.training.worker import run_worker
from tests.pipelines.training import training_world as world

pytestmark = pytest.mark.long

STEPS = 50
SEGMENTS = ((2, 17), (1, 34), (2, STEPS))  # workers, up to which step; none is the end of an epoch
STAGE = {
    "name": "low",
    "tier": "high",  # two buckets
    "learning_rate": 1e-3,
    "trainable": ["temporal_modules.*", "flow_predictor.*"],
    "predict_flow": True,
    "flow_weight": 0.1,
}


def note_clips(stage_run: StageRun, parts: list[Prepared]) -> None:
    """What this worker trains on in the next step, in a file of its own."""
    path = stage_run.folder / f"clips-{stage_run.group.rank}.jsonl"
    with path.open("a") as file:
        clips = [sample.clip_id for part in parts for sample in part.samples]
        file.write(json.dumps({"step": stage_run.step + 1, "clips": clips}) + "\n")


@contextmanager
def noting_clips() -> Iterator[None]:
    """Training in this process notes its clips."""
    losses = StageRun.losses

    def noted(self: StageRun, parts: list[Prepared]) -> Any:
        note_clips(self, parts)
        return losses(self, parts)

    StageRun.losses = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        StageRun.losses = losses  # type: ignore[method-assign]


def run_noting_worker(config: dict[str, Any]) -> None:
    """The worker of `dreamer train`, which also notes its clips."""
    with noting_clips():
        run_worker(config)


def trained_clips(folder: Path) -> list[tuple[int, list[str]]]:
    """(step, clips of all workers), in the order in which they were trained on."""
    parts = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("clips-*.jsonl"))
    ]
    by_step: dict[int, list[str]] = {}
    for part in parts:
        for line in part:
            by_step.setdefault(line["step"], []).extend(line["clips"])
    steps = [line["step"] for line in parts[0]]
    return [(step, by_step[step]) for step in steps]


def recipe(folder: Path, models: dict[str, str], workers: int, steps: int) -> Recipe:
    return world.recipe(
        folder,
        models,
        workers=workers,
        zero_stage=2,
        validate_every_steps=10,
        stages=[STAGE | {"steps": steps}],
    )


def test_two_workers_then_one_then_two_train_as_one_does(
    tmp_path: Path, training_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "divided"):
        data = recipe(tmp_path / name, training_models, 1, STEPS)
        world.write_data(data, {"4x64x64": 9, "4x32x64": 7}, validation=3)  # no number for two workers
    with noting_clips():
        world.train_here(recipe(tmp_path / "whole", training_models, 1, STEPS))
    monkeypatch.setattr(run, "run_worker", run_noting_worker)
    with start_ray(2):
        for workers, steps in SEGMENTS:
            run.train(recipe(tmp_path / "divided", training_models, workers, steps))
    whole, divided = (tmp_path / name / "train" / "low" for name in ("whole", "divided"))
    assert trained_clips(divided) == trained_clips(whole)
    assert [step for step, _ in trained_clips(divided)] == list(range(1, STEPS + 1))
    losses, expected = (
        [line["loss"] for line in read_log(folder / "log.jsonl")] for folder in (divided, whole)
    )
    assert len(losses) == STEPS
    assert losses == pytest.approx(expected, rel=0, abs=1e-4)
    assert max(losses) - min(losses) > 0.01  # not for want of difference
    checked, reference = (read_log(folder / "validation.jsonl") for folder in (divided, whole))
    assert [line["clips"] for line in checked] == [6] * 5
    assert [line["loss"] for line in checked] == pytest.approx([line["loss"] for line in reference], rel=1e-4)
