"""What of a recipe this machine cannot hold in memory."""

import os
from collections.abc import Iterator

from pipelines.recipe import Recipe, TrainSettings

Faults = Iterator[str]


def memory_faults(recipe: Recipe) -> Faults:
    """Stages whose weights, gradients and optimizer alone are more than the memory there is.

    Activations come on top: `dreamer plan` counts them, which takes longer.
    """
    settings = recipe.train
    if settings is None or os.environ.get("RAY_ADDRESS"):
        return
    there, place = _memory(settings)
    if there is None:
        return
    for name, held in stage_bytes(recipe, settings).items():
        if held > there:
            yield (
                f"train: stage {name} holds {held / 1e9:,.1f} GB before any activation, {place} has "
                f"{there / 1e9:,.1f} GB; `dreamer plan` tells what fits. What needs less: more workers with "
                "train.zero_stage=3, train.offload_optimizer=true, fewer parts in trainable"
            )


def stage_bytes(recipe: Recipe, settings: TrainSettings) -> dict[str, int]:
    """What each stage holds in one place without any activation: on a GPU, or on this machine in all."""
    from pipelines.planning.estimate import frozen_encoders
    from pipelines.planning.step_memory import Elements, Held, PassPeaks, Savings, step_memory
    from pipelines.training.stage import meta_unet, select_parts

    unet = meta_unet(recipe)
    sizes = {name: parameter.numel() for name, parameter in unet.named_parameters()}
    encoders = sum(encoder["bytes"] for encoder in frozen_encoders(recipe).values())
    held = {}
    for stage in settings.stages:
        trained = sum(sizes[name] for name in select_parts(unet, stage, has_motion_scores=True))
        elements = Elements(sum(sizes.values()), trained, 2 if settings.precision == "bf16" else 4)
        peaks = PassPeaks(Held(0, trained * elements.bytes_each), 0)
        one = step_memory(
            settings.zero_stage, elements, peaks, settings.workers, encoders, Savings.of(settings)
        )
        held[stage.name] = one.peak if settings.gpus_per_worker else settings.workers * (one.peak + one.host)
    return held


def _memory(settings: TrainSettings) -> tuple[int | None, str]:
    """Bytes of the place that `stage_bytes` speaks of, and its name; None where there is no GPU to ask."""
    if not settings.gpus_per_worker:
        import psutil

        return psutil.virtual_memory().total, "this machine"
    import torch

    if not torch.cuda.is_available():
        return None, ""  # said already
    return torch.cuda.get_device_properties(0).total_memory, "a GPU here"
