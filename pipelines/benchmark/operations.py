"""What a training step costs besides time: floating-point operations of each part of a model, and memory."""

import bisect
import gc
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Step = Callable[[], None]


def count_flop_by_part(model: nn.Module, step: Step, rest: str) -> dict[str, int]:
    """Operations of a forward and backward pass by top-level group of the model's modules.

    rest: the group of what happens in no module of the others, such as attention in the model's own
    `forward`.
    """
    counter = _PartCounter(rest)
    handles = [
        handle
        for part, group in model.named_children()
        if part != rest
        for module in _called(group)
        for handle in counter.watch(part, module)
    ]
    try:
        with counter:
            step()
    finally:
        for handle in handles:
            handle.remove()
    return {part: counter.flop[part] for part, _ in model.named_children()}


def _called(group: nn.Module) -> Iterator[nn.Module]:
    """The modules that are called: containers only hold them."""
    if isinstance(group, (nn.ModuleList, nn.ModuleDict)):
        for child in group.children():
            yield from _called(child)
    else:
        yield group


class _PartCounter(TorchDispatchMode):
    """FlopCounterMode's formulas, with a backward operation's part that of its forward operation.

    FlopCounterMode's own hierarchy takes a module as left when gradients of all its inputs are there; of an
    input that many modules share that is the end of the pass. Here the autograd node that runs tells by its
    number when in the forward pass it was made.
    """

    def __init__(self, rest: str) -> None:
        super().__init__()
        self.flop: defaultdict[str, int] = defaultdict(int)
        self._starts, self._parts = [-1], [rest]  # from which node's number on it is which part

    def watch(self, part: str, module: nn.Module) -> list[Any]:
        """Hooks on a module that is called by no other watched one; remove them in the end."""
        rest = self._parts[0]
        return [
            module.register_forward_pre_hook(lambda *_: self._begin(part)),
            module.register_forward_hook(lambda *_: self._begin(rest)),
        ]

    def _begin(self, part: str) -> None:
        self._starts.append(torch._C._autograd._get_sequence_nr())
        self._parts.append(part)

    def _part(self) -> str:
        node = torch._C._current_autograd_node()
        if node is None:
            return self._parts[-1]
        return self._parts[bisect.bisect_right(self._starts, node._sequence_nr()) - 1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flop[self._part()] += formula(*args, **(kwargs or {}), out_val=result)
        return result


def peak_bytes(step: Step) -> int:
    """Most memory that PyTorch's CPU allocator held during `step`, above what it held before."""
    gc.collect()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
