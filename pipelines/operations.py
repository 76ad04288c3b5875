"""Floating-point operations of anything that PyTorch does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counted_in_full(device: str = "meta") -> Iterator[None]:
    """On the meta device, which computes nothing, and with attention as the matrix products that it is.

    Fused attention counts as nothing on a CPU. device: where networks and inputs that are made meanwhile lie.
    """
    with torch.device(device), sdpa_kernel(SDPBackend.MATH):
        yield


def count_flop(step: Callable[[], object]) -> int:
    """Operations of what `step` does; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())
