"""The worker group as seen from one worker."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


class TrainingStoppedError(RuntimeError):
    """Training cannot go on, and starting it again would end the same way."""


@dataclass(frozen=True)
class Group:
    rank: int
    size: int
    device: torch.device

    @classmethod
    def current(cls, device: torch.device) -> "Group":
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def barrier(self) -> None:
        dist.barrier()

    def means(self, *values: torch.Tensor) -> list[float]:
        """Means over the workers of scalars, in one exchange; the same numbers on every worker."""
        stacked = torch.stack([value.detach().to(self.device, torch.float32) for value in values])
        if self.size > 1:
            dist.all_reduce(stacked)
            stacked /= self.size
        return stacked.tolist()

    def from_first(self, text: str | None) -> str | None:
        """Worker 0's value, on every worker."""
        box = [text]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def all_of(self, value: Any) -> list[Any]:
        """Every worker's value, in order of ranks."""
        values = [value]
        if self.size > 1:
            values = [None] * self.size
            dist.all_gather_object(values, value)
        return values


def check_finite(what: str, value: float, step: int, clip_ids: Callable[[int], list[str]]) -> None:
    """Raise TrainingStoppedError that names the clips of the global batch, unless `value` is a number."""
    if not math.isfinite(value):
        raise TrainingStoppedError(
            f"{what} of step {step} is {value}. Clips of the batch: {', '.join(clip_ids(step))}. "
            "Look at these clips, lower the learning rate, or use fp32."
        )
