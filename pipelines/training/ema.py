"""Exponential moving average of the trained weights, with a half-life in samples."""

import torch
from torch import Tensor

from pipelines.training.partition import Partition

# A short run would average over its first steps forever: the half-life grows with the samples seen, as in
# EDM (Karras et al., arXiv 2206.00364), up to the recipe's. Not given in the paper.
RAMP_UP = 0.05


def decay(samples: int, batch_samples: int, half_life_samples: float) -> float:
    """Share of the average that stays after a step that ends at `samples` samples."""
    half_life = min(half_life_samples, RAMP_UP * samples)
    return 0.5 ** (batch_samples / half_life)


class Ema:
    """The average of what this worker owns: as exact under ZeRO 3 as under ZeRO 0, without communication."""

    def __init__(self, partition: Partition) -> None:
        self.masters = partition.masters
        self.averages: list[Tensor] = [master.clone() for master in partition.masters]

    @torch.no_grad()
    def update(self, kept: float) -> None:
        """average <- kept · average + (1 − kept) · weights."""
        torch._foreach_lerp_(self.averages, self.masters, 1.0 - kept)
