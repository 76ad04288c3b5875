"""Killed at any moment and started again, training ends bit for bit where it would have.

Real `dreamer train` commands: two Ray workers, DeepSpeed, gloo, two stages. `make chaos` kills fifty times.
"""

import random
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.recipe_file import load_recipe
from pipelines.training.checkpoint import is_finished, read_position, whole_checkpoints
from pipelines.training.log import read_log
from pipelines.training.run import train
from tests.killing import KILLS, SEED, command, family, kill, kill_all, start
from tests.pipelines.training import training_world as world

pytestmark = pytest.mark.long

STEPS, CHECKPOINT_STEPS = 10, 4  # of each stage; the last step is no multiple of the interval
COMMON = {"steps": STEPS, "learning_rate": 1e-3, "trainable": ["temporal_modules.*", "flow_predictor.*"]}
STAGES = [
    {"name": "low", "tier": "low", **COMMON},
    {"name": "high", "tier": "high", "predict_flow": True, "flow_weight": 0.1, **COMMON},
]
VICTIMS = ("worker", "driver", "all")
# A start takes longer than the orphans of a killed driver live: no two groups ever write to one folder.
ORPHANS_END_SECONDS = 10.0
# Two idle helpers of Ray's look for their raylet now and then, and end by themselves about a minute later.
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass
class Run:
    """A run directory as seen from outside."""

    folder: Path
    recipe: Path

    @classmethod
    def make(cls, folder: Path, models: dict[str, str]) -> "Run":
        recipe = world.recipe(folder, models, workers=2, zero_stage=2, max_failures=1000, stages=STAGES)
        world.write_data(recipe, {"4x32x32": 10, "4x64x64": 6, "4x32x64": 5})
        return cls(folder, world.as_curated(recipe))

    @property
    def stages(self) -> list[Path]:
        return [self.folder / "train" / stage["name"] for stage in STAGES]

    def lines(self) -> list[dict[str, Any]]:
        """Log lines of all stages in a row."""
        return [line for stage in self.stages for line in read_log(stage / "log.jsonl")]

    def checkpointed(self) -> int:
        """Lines that whole checkpoints stand for: where a new worker group goes on from."""
        return sum(
            STEPS if stage_is_finished(stage) else read_position(whole[-1]).step
            for stage in self.stages
            if (whole := whole_checkpoints(stage / "checkpoints")) or stage_is_finished(stage)
        )

    def writes_checkpoint(self) -> bool:
        return any(not is_finished(path) for stage in self.stages for path in steps_of(stage))


def steps_of(stage: Path) -> list[Path]:
    return list((stage / "checkpoints").glob("step-*"))


def stage_is_finished(stage: Path) -> bool:
    return (stage / "model" / "training.json").is_file()


@dataclass
class Kill:
    """What was killed when, and what was there afterwards."""

    victim: str
    moment: str
    lines: list[dict[str, Any]]
    checkpointed: int


def assert_same(run: Run, whole: Run) -> None:
    for stage, expected in zip(run.stages, whole.stages, strict=True):
        world.assert_same_training(stage, expected)


def assert_went_on_from_the_checkpoint(last: Kill, lines: list[dict[str, Any]]) -> None:
    """Lines of the log hold times of the clock: those that are still the same were not trained again."""
    alike = [old == new for old, new in zip(last.lines, lines, strict=False)]
    kept = alike.index(False) if False in alike else len(alike)
    untouched = len(lines) == kept == len(last.lines)  # killed again before the workers had come so far
    assert untouched or kept == last.checkpointed, (
        f"after {last.victim} was killed at {last.moment}: {kept} of {len(last.lines)} steps were kept, "
        f"checkpointed were {last.checkpointed}"
    )


def wait_for(run: Run, process: "subprocess.Popen[bytes]", steps: int, *, writing: bool) -> str:
    """Until so many steps are in the log, and then until a checkpoint is being written."""
    while process.poll() is None and len(run.lines()) < steps:
        time.sleep(0.005)
    while writing and process.poll() is None and not run.writes_checkpoint():
        time.sleep(0.0005)
    return f"step {steps}" + (", writing" if writing else "")


def strike(
    run: Run, process: "subprocess.Popen[bytes]", victim: str, moment: str, rng: random.Random
) -> Kill:
    """Kill, and see what is left when those that must end with the killed have ended."""
    members = [member for member in family(process) if not name_of(member).startswith(RAY_AGENTS)]
    workers = [member for member in members if "RayTrainWorker" in name_of(member)]
    if victim == "worker" and workers:
        kill([rng.choice(workers)])
        wait_for_the_end(workers, 60)  # the other one fails at the next exchange, or Ray ends it
    elif victim == "all":
        kill_all(process)
    else:
        kill(members[-1:])
        process.wait()
    if process.poll() is not None:
        seconds = wait_for_the_end(members, ORPHANS_END_SECONDS)
        moment += f", the last orphan ended after {seconds:.1f} s" if victim == "driver" else ""
    return Kill(victim, moment, run.lines(), run.checkpointed())


def wait_for_the_end(members: list[psutil.Process], limit_seconds: float) -> float:
    """Seconds until none of them works any more; dead ones that nobody has buried yet do not."""
    began = time.monotonic()
    while alive := [member for member in members if works(member)]:
        assert time.monotonic() - began < limit_seconds, f"orphans: {alive}"
        time.sleep(0.05)
    return time.monotonic() - began


def works(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def tear(run: Run) -> bool:
    """Leave a checkpoint half written, and the newest whole one cut short.

    False when the stage under way has none yet.
    """
    under_way = [stage for stage in run.stages if not stage_is_finished(stage)]
    whole = [path for stage in under_way for path in whole_checkpoints(stage / "checkpoints")]
    if not whole:
        return False
    unfinished = whole[-1].with_name("step-00000099")
    shutil.copytree(whole[-1], unfinished)
    (unfinished / "state.json").unlink()
    for folder in (unfinished, whole[-1]):
        piece = folder / "rank-00001.safetensors"
        with piece.open("r+b") as file:
            file.truncate(piece.stat().st_size // 2)
    return True


def test_killed_at_random_moments_it_ends_bit_for_bit_the_same(
    tmp_path: Path, training_models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, run = (Run.make(tmp_path / name, training_models) for name in ("whole", "killed"))
    train(load_recipe(str(whole.recipe)))
    rng, kills = random.Random(SEED), list[Kill]()
    process: subprocess.Popen[bytes] | None = None
    last: Kill | None = None  # since it was started from nothing
    for number in range(KILLS):
        if len(run.lines()) > 2 * STEPS - CHECKPOINT_STEPS:  # nearly through: to the end, then from nothing
            finish(run, process, last)
            assert_same(run, whole)
            shutil.rmtree(run.folder / "train")
            process = last = None
        if process is None or process.poll() is not None:
            process = start(command("train", run.recipe))
        victim = VICTIMS[number % len(VICTIMS)]
        if number % 7 == 6:  # while it starts
            seconds = rng.uniform(0, 12)
            moment = f"{seconds:.1f} s"
            time.sleep(seconds)
        else:
            steps = min(len(run.lines()) + rng.randint(1, CHECKPOINT_STEPS), 2 * STEPS - 1)
            moment = wait_for(run, process, steps, writing=number % 4 == 1)
            time.sleep(0 if "writing" in moment else rng.uniform(0, 0.2))
        if last is not None and run.lines():
            assert_went_on_from_the_checkpoint(last, run.lines())
        killed = strike(run, process, victim, moment, rng)
        if victim == "all" and tear(run):
            killed.checkpointed = run.checkpointed()
            killed.moment += ", checkpoint torn"
        last = killed
        kills.append(killed)
    finish(run, process, last)
    with capsys.disabled():
        told = "; ".join(f"{each.victim} at {each.moment}" for each in kills)
        print(f"\n{KILLS} kills on the way to {2 * STEPS} steps: {told}")
    assert_same(run, whole)
    assert not run.writes_checkpoint()


def finish(run: Run, process: "subprocess.Popen[bytes] | None", last: Kill | None) -> None:
    """Let the command come to its end, started again if it was killed."""
    if process is None or process.poll() is not None:
        process = start(command("train", run.recipe))
    assert process.wait() == 0
    if last is not None:
        assert_went_on_from_the_checkpoint(last, run.lines())
