"""Out of memory, said in words: which stage, which bucket, which settings to change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from pipelines.training.group import Group, TrainingStoppedError
from pipelines.training.log import peak_memory_gb
from pipelines.training.plan import StagePlan

if TYPE_CHECKING:
    from pipelines.training.batch import Prepared

# How allocators on the host say it; CUDA has an exception of its own.
HOST_ALLOCATORS = ("can't allocate memory", "not enough memory", "cannot allocate memory", "bad_alloc")

# What a level of ZeRO divides among the workers.
DIVIDED = {
    1: "the optimizer's state",
    2: "the optimizer's state and gradients",
    3: "the optimizer's state, gradients and weights",
}


class OutOfMemoryError(TrainingStoppedError):
    """A worker's memory is exhausted: it alone stops, while the others still wait for it."""


class MemoryWatch:
    """What a stage is at, for the message of the worker that runs out of memory there."""

    def __init__(self, plan: StagePlan, group: Group) -> None:
        self.plan, self.group = plan, group
        self.where = "while the stage was set up"

    def reads(self, step: int) -> None:
        self.where = f"at step {step} while its batch was read"

    def trains(self, step: int, ready: "Prepared") -> None:
        self.where = f"at step {step} in bucket {ready.samples[0].bucket}"

    def draws(self, step: int) -> None:
        self.where = f"after step {step} while samples were drawn (train.sample_clips makes them fewer)"

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise OutOfMemoryError for what an allocator raises within the `with` block."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(self._message(error)) from error

    def _message(self, error: BaseException) -> str:
        plan, group, settings = self.plan, self.group, self.plan.settings
        share = settings.global_batch_clips // group.size
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        return (
            f"stage {plan.stage.name} ran out of memory {self.where}, on worker {group.rank} "
            f"({group.device}): {settings.micro_batch_clips or share} clips at a time "
            f"({settings.global_batch_clips} a step among {group.size} workers), ZeRO {settings.zero_stage}, "
            f"{settings.precision}, {peak_memory_gb(group.device):.1f} GB held at most. "
            f"The allocator: {reason}\n"
            "What needs less memory, the least costly first:\n"
            + "\n".join(f"  {remedy}" for remedy in remedies(plan, group))
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator raised it: CUDA's, the host's or Python's own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in HOST_ALLOCATORS)


def remedies(plan: StagePlan, group: Group) -> list[str]:
    """Settings to change, with values, for those that can still be changed."""
    settings = plan.settings
    batch, share = settings.global_batch_clips, settings.global_batch_clips // group.size
    micro, where = settings.micro_batch_clips or share, "GPU" if group.device.type == "cuda" else "machine"
    more = next((n for n in range(group.size + 1, batch + 1) if batch % n == 0), None)
    found = []
    if micro > 1:
        half = next(n for n in range(micro // 2, 0, -1) if share % n == 0)
        found.append(f"train.micro_batch_clips={half}   more passes for a step, the losses stay")
    if not settings.activation_checkpointing:
        found.append("train.activation_checkpointing=true   a third more work, the losses stay")
    if settings.zero_stage < 3 and group.size > 1:
        level = settings.zero_stage + 1
        found.append(f"train.zero_stage={level}   divides {DIVIDED[level]} among the workers")
    if not settings.offload_optimizer and settings.zero_stage > 0 and group.device.type == "cuda":
        found.append("train.offload_optimizer=true   AdamW's state and step move to the CPU")
    if share > 1 and more is not None:
        found.append(
            f"train.workers={more}   {batch // more} clips for each, which needs a {where} of its own"
        )
    if settings.precision == "fp32" and settings.zero_stage > 0:
        found.append("train.precision=bf16   half the activations; training starts anew")
    if share > 1:
        smaller = group.size * (share // 2)
        found.append(f"train.global_batch_clips={smaller}   other losses; training starts anew")
    found.append(f"curation.tiers.{plan.stage.tier}=[...]   smaller or shorter buckets; curates anew")
    return found
