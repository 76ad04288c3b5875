"""A worker that really runs out of memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipelines.training.group import Group
from pipelines.training.memory import is_out_of_memory, remedies
from pipelines.training.plan import plan_stages
from tests.pipelines.training import training_world as world

STAGE = {"name": "wide", "tier": "low", "steps": 2, "learning_rate": 1e-3}
ON = {"activation_checkpointing": True}
HEADROOM_BYTES = 150 * 10**6

# The address space is limited when the stage stands and its first batch is to be trained on.
PROGRAM = f"""
import resource, sys
from pathlib import Path
import torch
from pipelines.training import loop, worker
from tests.pipelines.training import training_world as world

torch.set_num_threads(1)
folder = Path(sys.argv[1])
recipe = world.recipe(folder / "run", world.build_models(folder / "models"), stages=[{STAGE}],
                      global_batch_clips=256)
world.write_data(recipe, {{"4x32x32": 8}}, validation=0)
train_stage = loop.train_stage

def limited(run, memory):
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + {HEADROOM_BYTES}, resource.RLIM_INFINITY))
    train_stage(run, memory)

loop.train_stage = limited
world.train_here(recipe)
"""


def test_a_worker_out_of_memory_says_where_and_what_to_change(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    said = done.stderr.split("pipelines.training.memory.OutOfMemoryError: ")[-1]
    assert "stage wide ran out of memory at step 1 in bucket 4x32x32, on worker 0 (cpu)" in said
    assert "256 clips at a time (256 a step among 1 workers), ZeRO 2, fp32" in said
    for setting in ("micro_batch_clips=128", "activation_checkpointing=true", "workers=2", "precision=bf16"):
        assert f"  train.{setting} " in said


def test_what_is_on_already_is_not_advised(tmp_path: Path, training_models: dict[str, str]) -> None:
    recipe = world.recipe(tmp_path / "run", training_models, zero_stage=3, precision="bf16", **ON)
    world.write_data(recipe, {"4x32x32": 8}, validation=0)
    (plan,) = plan_stages(recipe)
    told = "\n".join(remedies(plan, Group(0, 4, torch.device("cpu"))))
    assert "curation.tiers.low" in told
    for setting in (*ON, "zero_stage", "precision", "workers", "batch_clips"):  # a clip a worker
        assert setting not in told


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("Connection closed by peer"), False),
    ],
)
def test_only_an_exhausted_memory_is_called_that(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
