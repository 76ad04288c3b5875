"""A worker dies: two Ray workers, DeepSpeed, gloo."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import torch

from pipelines.cluster import start_ray
from pipelines.training.checkpoint import CheckpointReader, whole_checkpoints
from pipelines.training.log import read_log, tail_log
from pipelines.training.run import train
from tests.pipelines.training import training_world as world

STAGE = {
    "name": "low",
    "tier": "low",
    "steps": 12,
    "learning_rate": 1e-3,
    "trainable": ["temporal_modules.*"],
}


def test_a_killed_worker_resumes_bit_for_bit(tmp_path: Path, training_models: dict[str, str]) -> None:
    folders = []
    with start_ray(2):
        for name in ("whole", "killed"):
            recipe = world.recipe(tmp_path / name, training_models, workers=2, zero_stage=2, stages=[STAGE])
            world.write_data(recipe, {"4x32x32": 10})
            folder = tmp_path / name / "train" / "low"
            killer = threading.Thread(target=_kill_a_worker, args=(folder / "log.jsonl", 6))
            if name == "killed":
                killer.start()
            summary = train(recipe)
            if name == "killed":
                killer.join(1)
                assert not killer.is_alive()
            assert summary["stages"]["low"]["steps"] == 12
            folders.append(folder)
    whole, killed = folders
    assert [line["loss"] for line in read_log(killed / "log.jsonl")] == [
        line["loss"] for line in read_log(whole / "log.jsonl")
    ]
    ours, theirs = (CheckpointReader(whole_checkpoints(f / "checkpoints")[-1]).full("ema") for f in folders)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def _kill_a_worker(log: Path, step: int) -> None:
    """SIGKILL one of this process's own workers after a step that is no checkpoint."""
    while tail_log(log).get("step", 0) < step:
        time.sleep(0.05)
    workers = [
        child
        for child in psutil.Process().children(recursive=True)
        if any("RayTrainWorker" in part for part in child.cmdline())
    ]
    os.kill(workers[0].pid, signal.SIGKILL)
