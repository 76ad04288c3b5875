"""`dreamer train`: all stages of a recipe in one worker group, resumable."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.cluster import environment, start_ray
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe, with_absolute_paths
from pipelines.storage import arrow_place, remove_tree
from pipelines.training.forecast import show_plans, warn_of_nothing_to_watch, warn_of_torn_checkpoints
from pipelines.training.log import read_log
from pipelines.training.plan import StagePlan, plan_stages
from pipelines.training.tracking import is_sent
from pipelines.training.watch import send_all, watching
from pipelines.training.worker import STOPPED, run_worker

DRIVER_ENVIRONMENT = {
    # Ray notices the end of the workers, or their death, at this poll.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # Ray moves workers into a folder of its own, where relative paths of a recipe lead nowhere.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Each of these is a process of its own with seconds of CPU to start; the checkpoints are what survives.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
RAY_BOOKS = ".ray"  # within `train/`; no stage can be called that


class TrainingError(RuntimeError):
    """Training ended without a result; the message says why and what to do."""


def train(recipe: Recipe, *, limit_steps: int | None = None) -> dict[str, Any]:
    """Train every stage that is not finished. Returns a summary that fits into JSON:

    {"model": PATH, "registered": {"name", "version"} in MLflow or None (not sent yet, or a trial), "seconds",
    "seconds_to_first_step", "stages": {NAME: {"model", "steps", "clips", "loss",
    "samples_per_second", "trained_parameters", ...}}}.

    limit_steps: a first look, in folders of its own. Raises TrainingError, or before anything starts
    ShardError, CheckpointError and FileNotFoundError with what to do.
    """
    started = time.monotonic()
    recipe = with_absolute_paths(recipe)
    plans = plan_stages(recipe, limit_steps=limit_steps)
    seconds_to_first_step = None
    if all(plan.finished for plan in plans):
        registered = send_all(recipe, plans)
    else:
        show_plans(plans)
        warn_of_nothing_to_watch(plans)
        warn_of_torn_checkpoints(plans)
        with watching(recipe, plans, started) as watch, environment(DRIVER_ENVIRONMENT), start_ray():
            _fit(recipe, plans)
        seconds_to_first_step, registered = watch.seconds_to_first_step, watch.registered
    return {
        "model": str(plans[-1].model),
        "registered": registered,
        "seconds": time.monotonic() - started,
        "seconds_to_first_step": seconds_to_first_step,
        "stages": {plan.stage.name: _stage_summary(plan) for plan in plans},
    }


def send_late(recipe: Recipe) -> None:
    """Send to MLflow what it has not got yet of a training that is whole: after a server was not there."""
    recipe = with_absolute_paths(recipe)
    if not is_sent(recipe):
        send_all(recipe, plan_stages(recipe))


def build_pipeline(recipe: Recipe) -> Any:
    """The FactorizedDreamerPipeline that training starts from: no weight of it was trained on video."""
    from pipelines.training.export import assemble_pipeline, untrained_schedule
    from pipelines.training.start import untrained_unet

    unet = untrained_unet(recipe)
    return assemble_pipeline(recipe, unet, untrained_schedule(recipe, unet))


def _fit(recipe: Recipe, plans: list[StagePlan]) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = plans[0].settings
    folder = RunLayout.of(recipe).root / "train"
    (folder / STOPPED).unlink(missing_ok=True)
    resources = {"CPU": settings.cpus_per_worker}
    if settings.gpus_per_worker:
        resources["GPU"] = settings.gpus_per_worker
    file_system, place = arrow_place(folder)
    trainer = TorchTrainer(
        run_worker,
        # Ray hands this on to each worker by itself; an object of its store is there once for a node.
        train_loop_config={"recipe": recipe, "plans": ray.put(plans), "folder": str(folder)},
        torch_config=TorchConfig(backend="nccl" if settings.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.workers, use_gpu=settings.gpus_per_worker > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=RAY_BOOKS,
            storage_path=place,
            storage_filesystem=file_system,
            failure_config=FailureConfig(max_failures=settings.max_failures),
        ),
    )
    # Ray keeps books of its own about a run; ours are the checkpoints.
    remove_tree(folder / RAY_BOOKS)
    try:
        with _interrupts_as_usual():
            trainer.fit()
    except TrainingFailedError as error:
        _raise_stopped(folder, error)
        raise
    finally:
        remove_tree(folder / RAY_BOOKS)
    _raise_stopped(folder)
    if missing := [plan.stage.name for plan in plans if not plan.finished]:
        raise TrainingError(f"the workers ended without a result of stage {', '.join(missing)}")


@contextmanager
def _interrupts_as_usual() -> Iterator[None]:
    """Ctrl-C is KeyboardInterrupt: Ray Train ends its run, and then the process as if all were well.

    It does so by a signal handler, which it leaves behind for whatever the command does next.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _raise_stopped(folder: Path, error: Exception | None = None) -> None:
    """Raise TrainingError with what a worker wrote down that ended the training, if one did."""
    if (folder / STOPPED).is_file():
        raise TrainingError(json.loads((folder / STOPPED).read_text())["error"]) from error


def _stage_summary(plan: StagePlan) -> dict[str, Any]:
    lines = read_log(plan.folder / "log.jsonl")
    transfer = json.loads((plan.folder / "weight_transfer.json").read_text())
    seconds = sum(line["seconds_total"] for line in lines)
    return {
        "model": str(plan.model),
        "steps": plan.steps,
        "samples": lines[-1]["samples"],
        "clips": plan.clips,
        "loss_first": lines[0]["loss"],
        "loss": lines[-1]["loss"],
        "loss_mean_of_last_50": _mean(lines, "loss"),
        "trained_parameters": transfer["trained_elements"],
        "frozen_parameters": transfer["frozen_elements"],
        "seconds": seconds,
        "samples_per_second": lines[-1]["samples"] / seconds,
        "model_tflops": _mean(lines, "model_tflops"),
        "mfu": None if lines[-1]["mfu"] is None else _mean(lines, "mfu"),
        "peak_memory_gb": max(line["peak_memory_gb"] for line in lines),
    }


def _mean(lines: list[dict[str, Any]], column: str, *, last: int = 50) -> float:
    values = [line[column] for line in lines[-last:]]
    return sum(values) / len(values)
