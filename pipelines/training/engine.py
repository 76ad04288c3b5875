"""DeepSpeed as a recipe sets it up: ZeRO 0-3, fp32 or bf16, AdamW without compiled ops."""

import importlib
import os
import sys
from typing import Any

import torch
from torch import nn

from pipelines.recipe import StageSettings, TrainSettings

# DeepSpeed reserves whole buckets; one larger than the model only costs memory.
LARGEST_BUCKET_ELEMENTS = 200_000_000
LINEAR = torch.nn.functional.linear


def import_deepspeed() -> Any:
    """DeepSpeed, without what it imports on the side.

    Its autotuner imports MLflow wherever that is installed, which doubles the seconds that every worker
    needs to start; nothing here uses the autotuner, so MLflow is hidden while DeepSpeed loads.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # saves the probing of every known accelerator
    hidden = "mlflow" not in sys.modules
    if hidden:
        sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        deepspeed = importlib.import_module("deepspeed")
    finally:
        if hidden:
            del sys.modules["mlflow"]
    # Its exchange over shared memory would be compiled at the first start, a minute with g++; gloo serves.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def start_engine(model: nn.Module, stage: StageSettings, settings: TrainSettings, workers: int) -> Any:
    """A DeepSpeedEngine over `model`; only parameters with requires_grad are in its optimizer.

    The process group must exist.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=stage.learning_rate,
        betas=(0.9, 0.999),
        weight_decay=settings.weight_decay,
        fused=True,  # PyTorch's own kernels, for GPU and CPU, need no compiler, unlike DeepSpeed's
    )
    engine, *_ = import_deepspeed().initialize(
        model=model,
        model_parameters=trained,
        optimizer=optimizer,
        config=deepspeed_config(settings, workers, sum(p.numel() for p in trained)),
    )
    return engine


def end_engine(engine: Any) -> None:
    """Free what an engine holds, and take back the `linear` that ZeRO 3 puts in PyTorch's place for good."""
    engine.destroy()
    torch.nn.functional.linear = LINEAR


def deepspeed_config(settings: TrainSettings, workers: int, trained_elements: int) -> dict[str, Any]:
    bucket = max(1, min(trained_elements, LARGEST_BUCKET_ELEMENTS))
    share = settings.global_batch_clips // workers
    offload = {
        name: {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        for name, wanted in (
            ("offload_optimizer", settings.offload_optimizer),
            ("offload_param", settings.offload_parameters),
        )
        if wanted
    }
    return {
        "train_batch_size": settings.global_batch_clips,
        "train_micro_batch_size_per_gpu": settings.micro_batch_clips or share,
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": settings.precision == "bf16"},
        "zero_optimization": {
            "stage": settings.zero_stage,
            "overlap_comm": False,  # overlapping needs streams; without them it only copies
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            **offload,
        },
        "zero_force_ds_cpu_optimizer": False,  # it would be compiled at the first start
        "steps_per_print": 2**31,
    }


def learning_rate(stage: StageSettings, step: int, last_step: int) -> float:
    """Rate of step `step` (from 1): linear warm-up, constant, linear decay (not given in the paper)."""
    rising = step / max(1, stage.warmup_steps)
    falling = (last_step + 1 - step) / max(1, stage.decay_steps)
    return stage.learning_rate * min(1.0, rising, falling)


def set_learning_rate(engine: Any, rate: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def backward(engine: Any, loss: torch.Tensor, *, last: bool) -> None:
    """Add a micro-batch's gradients; the `last` one of a step leaves the update to `take_step`."""
    engine.backward(loss)
    if not last:
        engine.step()  # only counts it


def take_step(engine: Any) -> float:
    """Clip, update, clear the gradients. Returns the gradient's norm before clipping.

    In bf16 DeepSpeed passes over an update whose gradients are not finite and gives an infinite norm, which
    ends the training: no line of the log is of a skipped step. There is no loss scale in fp32 and bf16.
    """
    norm = None
    if engine.zero_optimization_stage() == 0:  # DeepSpeed keeps no norm here
        gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
    engine.step()
    return float(engine.get_global_grad_norm()) if norm is None else norm


def clip_ratio(grad_norm: float, max_grad_norm: float) -> float:
    """What the gradients were multiplied by: 1 when they were not clipped."""
    return min(1.0, max_grad_norm / max(grad_norm, 1e-12))
