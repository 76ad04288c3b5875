"""What one worker of the group does: all stages in order, the finished ones skipped."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import DiskFullError, write_text
from pipelines.lock import HeldError, hold
from pipelines.recipe import Recipe
from pipelines.storage import storage_path

if TYPE_CHECKING:
    from pipelines.training.group import Group
    from pipelines.training.plan import StagePlan

STOPPED = "stopped.json"
LOCK = ".writer"
# Those of a cluster without head look for it for a minute, and a file server keeps the lock of a machine that
# went off for a minute and a half.
ORPHANS_END_SECONDS = 120.0


def run_worker(config: dict[str, Any]) -> None:
    """Train `config["plans"]` (a reference to a list of StagePlan) of `config["recipe"]`.

    Ray Train calls this in each worker.

    What would end the same way again (TrainingStoppedError and the like) is written to `config["folder"]` and
    ends the worker in order; anything else is an error of the worker, and Ray starts the group anew.
    """
    folder = storage_path(config["folder"])
    if (folder / STOPPED).is_file():
        return  # one of the group before stopped alone, and starting it again would end the same way
    # The heavy libraries are imported here, in the worker, and only what the loop needs.
    import ray
    import ray.train.torch
    import torch
    import torch.distributed as dist

    from pipelines.training.engine import import_deepspeed

    import_deepspeed()  # before accelerate does, with all that it would bring along
    from pipelines.training.allocator import keep_freed_memory
    from pipelines.training.checkpoint import CheckpointError
    from pipelines.training.group import Group, TrainingStoppedError
    from pipelines.training.memory import OutOfMemoryError
    from pipelines.training.parts import PartsError

    recipe: Recipe = config["recipe"]
    if recipe.train is not None and recipe.train.threads_per_worker:
        torch.set_num_threads(recipe.train.threads_per_worker)
    group = Group.current(ray.train.torch.get_device())
    if group.device.type == "cpu":
        keep_freed_memory()
    try:
        with sole_writer(folder, group):
            train_stages(recipe, ray.get(config["plans"]), group)
    except (OutOfMemoryError, DiskFullError) as error:
        _write_stopped(folder, error)
        if group.size > 1:
            raise  # the others wait for this one in an exchange: an error makes Ray end them
    except (TrainingStoppedError, CheckpointError, PartsError) as error:
        if group.rank == 0:
            _write_stopped(folder, error)
    dist.destroy_process_group()  # or gloo sometimes aborts at exit


@contextmanager
def sole_writer(folder: Path, group: "Group", wait_seconds: float = ORPHANS_END_SECONDS) -> Iterator[None]:
    """Hold the folder for this worker group, once no other writes there any more.

    Workers of a driver that was killed train on until Ray ends them, seconds later: whoever reads logs and
    checkpoints before that would go on from a place that is not the last. Raises TrainingStoppedError, on
    every worker, when another group has not ended after `wait_seconds`.
    """
    from pipelines.training.group import TrainingStoppedError

    with ExitStack() as held:
        refusal = None
        if group.rank == 0:
            try:
                held.enter_context(hold(folder / LOCK, wait_seconds=wait_seconds))
            except HeldError as error:
                refusal = f"{error.owner} trains in {folder}; wait for it, or end it"
        refusal = group.from_first(refusal)
        if refusal is not None:
            raise TrainingStoppedError(refusal)
        yield


def train_stages(recipe: Recipe, plans: "list[StagePlan]", group: "Group") -> None:
    """Train what is not finished, in order; every worker of the process group calls this."""
    from pipelines.training.batch import Encoders
    from pipelines.training.loop import train_stage
    from pipelines.training.memory import MemoryWatch
    from pipelines.training.stage import check_networks, finish_stage, open_stage

    check_networks(recipe)
    encoders = Encoders.load(recipe, group.device)
    for plan in plans:
        if plan.finished:
            continue
        memory = MemoryWatch(plan, group)
        with memory.explained():
            run = open_stage(recipe, plan, group, encoders)
            try:
                train_stage(run, memory)
                finish_stage(run)
            finally:
                run.close()


def _write_stopped(folder: Path, error: Exception) -> None:
    told = json.dumps({"kind": type(error).__name__, "error": str(error)})
    with suppress(DiskFullError):  # without it Ray starts the group again, which ends the same way
        write_text(folder / STOPPED, told)
