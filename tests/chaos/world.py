"""A small recipe from videos to metrics, run once undisturbed; and beginnings of it that faults disturb."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipelines.embedded.sprites import make_sprites
from pipelines.embedded.world import WorldSettings
from tests.killing import command, kill_all
from tests.outcome import check_books, data_hashes, file_hashes

LIMIT_SECONDS = 600.0  # after which a command is taken to hang
POLL_SECONDS = 0.01
CHECKPOINT_STEPS, BATCH_CLIPS = 5, 2
STEPS = ("curate", "train", "evaluate")
FOLDERS = {"curate": "data", "train": "train", "evaluate": "evaluate"}
COMMON = {"steps": 12, "learning_rate": 1e-3, "trainable": ["*", "!image.*"]}
SETTINGS = {
    "extends": "demo",
    "name": "chaos",
    "curation": {"units": 16},
    "train": {
        "workers": 3,
        "cpus_per_worker": 0.6,  # one on a node of one CPU, three on a machine of two
        "global_batch_clips": 6,
        "checkpoint_every_steps": CHECKPOINT_STEPS,
        "stages": [
            {"name": "low", "tier": "low", **COMMON},
            {"name": "high", "tier": "high", "predict_flow": True, "flow_weight": 0.1, **COMMON},
        ],
    },
    "evaluate": {
        "tier": "low",
        "sets": [{"name": "held_out", "split": "held_out", "clips": 12}],
        "untrained_clips": 0,
        "batch_clips": BATCH_CLIPS,
        "cpus_per_worker": 1,
        "sampling": {"steps": 3},
    },
}

Marks = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """A part of a run that a fault can be in the middle of.

    worker: how the titles begin that Ray gives to its processes. marks: what of it a run has done, with
    something that changes when it is done again; each is of one `unit`. begun: marks at its middle.
    at_risk: how many that were done may be done again; all before them count as reported.
    least_nodes: that it is at work on. spare_nodes: that must be there for it to go on without one of them.
    """

    name: str
    unit: str
    step: str
    worker: str
    marks: Callable[[Path], Marks]
    begun: int = 2
    at_risk: int = 0
    least_nodes: int = 1
    spare_nodes: int = 0


def _files(pattern: str) -> Callable[[Path], Marks]:
    return lambda run: {path.name: path.stat().st_mtime_ns for path in run.glob(pattern)}


def _log_lines(run: Path) -> Marks:
    """Steps of training; a line holds times of the clock."""
    lines = [
        (path.parent.name, line)
        for path in run.glob("train/*/log.jsonl")
        for line in path.read_text().split("\n")[:-1]
    ]
    return {f"{stage} {json.loads(line)['step']}": line for stage, line in lines}


SCORE = Work("scoring", "units", "curate", "ray::Map", _files("data/scores/*.parquet"))
PRECOMPUTE = Work("precompute", "units", "curate", "ray::MapWorker", _files("data/manifest/*.json"))
TRAIN = Work(
    "training",
    "steps",
    "train",
    "ray::RayTrainWorker",
    _log_lines,
    begun=7,
    at_risk=CHECKPOINT_STEPS,
    least_nodes=3,
    spare_nodes=1,
)
EVALUATE = Work(
    "evaluation",
    "videos",
    "evaluate",
    "ray::MapWorker",
    _files("evaluate/final/videos/*/*.mp4"),
    at_risk=BATCH_CLIPS,
)


class Command:
    """A `dreamer` command on a run directory, as a process of its own.

    environment: with RAY_ADDRESS it joins a cluster, without it starts a Ray of its own. inside: the command
    that starts it in another name space.
    """

    def __init__(
        self,
        step: str,
        recipe: Path,
        run: Path,
        environment: dict[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> None:
        if environment is None:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.said = recipe.parent / f"{run.name}.log"
        with self.said.open("a") as said:
            self.process = subprocess.Popen(
                [*inside, *command(step, recipe, f"run_directory={run}")],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def wait_for(self, what: Callable[[], T]) -> T:
        """The first answer that is not nothing, while the command runs."""
        began = time.monotonic()
        while not (answer := what()):
            assert self.process.poll() is None, f"the command ended before:\n{self._last_words()}"
            assert time.monotonic() - began < LIMIT_SECONDS, f"the command hangs:\n{self._last_words()}"
            time.sleep(POLL_SECONDS)
        return answer

    def finish(self) -> None:
        summary, code = self._end()
        assert code == 0, f"exit code {code}: {summary}\n{self._last_words()}"

    def fail(self) -> str:
        """The error that the command ends with."""
        summary, code = self._end()
        assert code == 1, f"exit code {code}\n{self._last_words()}"
        return str(summary["error"])

    def _end(self) -> tuple[dict[str, Any], int]:
        try:
            out, _ = self.process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"the command hangs:\n{self._last_words()}") from None
        return json.loads(out) if out.strip() else {}, self.process.returncode

    def stop(self) -> None:
        if self.process.poll() is None:
            kill_all(self.process)

    def _last_words(self) -> str:
        return "\n".join(self.said.read_text().splitlines()[-20:])


class World:
    """The videos, the recipe, and what an undisturbed run of it leaves in `whole`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = folder / "whole"
        settings = WorldSettings(
            clips=44,
            validation_clips=4,
            held_out_clips=12,
            held_out_two_clips=0,
            held_out_pan_clips=0,
            images=0,
        )
        self.table = make_sprites(folder / "sprites", settings, flow=False)
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(yaml.safe_dump(SETTINGS | {"data": {"table": str(self.table)}}))

    def command(self, step: str, run: Path, **options: Any) -> Command:
        return Command(step, self.recipe, run, **options)

    def undisturbed(self, step: str) -> Path:
        """`whole`, with all steps up to this one done."""
        for each in STEPS[: STEPS.index(step) + 1]:
            if not (self.whole / FOLDERS[each] / "step.json").is_file():
                self.command(each, self.whole).finish()
        return self.whole

    def before(self, step: str, run: Path) -> Path:
        """A new run directory in which the steps before this one are done."""
        self.undisturbed(step)
        for each in STEPS[: STEPS.index(step)]:
            shutil.copytree(self.whole / FOLDERS[each], run / FOLDERS[each])
        return run

    def check(self, step: str, run: Path) -> None:
        """What a run left is what the undisturbed one left, and its books balance."""
        check_books(run, self.table)
        assert data_hashes(run) == data_hashes(self.whole)
        assert not list(run.glob("*/**/.*.partial"))
        if step == "train":
            from tests.pipelines.training.training_world import assert_same_training

            for stage in ("low", "high"):
                assert_same_training(run / "train" / stage, self.whole / "train" / stage)
        if step == "evaluate":
            assert _evaluation(run) == _evaluation(self.whole)


def _evaluation(run: Path) -> dict[str, str]:
    final = run / "evaluate" / "final"
    return file_hashes(run, [final / "measures.jsonl", *final.glob("videos/*/*.mp4")])
