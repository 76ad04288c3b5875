"""What one worker holds of the trained weights under ZeRO 0-3, in one form.

Every trained parameter, flattened, is cut into pieces; a worker's optimizer owns some of them in fp32.
EMA and checkpoints work on these pieces alone, so they need no gathering and know nothing of ZeRO.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# What AdamW keeps for every weight.
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Fragment:
    """A run of elements of one parameter that this worker owns."""

    name: str
    shape: tuple[int, ...]  # of the whole parameter
    start: int  # first element, in the flattened parameter
    elements: int
    flat: int  # which tensor of the optimizer holds it ...
    offset: int  # ... and from which element on

    def of(self, flats: list[Tensor]) -> Tensor:
        """The fragment's view (elements,) of tensors that are laid out as the optimizer's."""
        return flats[self.flat].view(-1).narrow(0, self.offset, self.elements)


class Partition:
    """Fragments and fp32 tensors of one worker; writing to `masters` changes what the optimizer updates."""

    def __init__(self, engine: Any) -> None:
        self.stage: int = engine.zero_optimization_stage()
        self.optimizer = engine.optimizer if self.stage == 0 else engine.optimizer.optimizer
        trained = [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]
        build = {0: _whole, 1: _sliced, 2: _sliced, 3: _sharded}[self.stage]
        self.parameters, self.fragments = build(engine, trained)
        self.masters: list[Tensor] = [parameter.detach() for parameter in self.parameters]

    def moments(self, kind: str) -> list[Tensor]:
        """AdamW's running means (`exp_avg` or `exp_avg_sq`) as laid out in `masters`; zeros before step 1."""
        states = [self.optimizer.state.get(parameter, {}) for parameter in self.parameters]
        return [
            s[kind] if kind in s else torch.zeros_like(m) for s, m in zip(states, self.masters, strict=True)
        ]

    def set_moments(self, step: int, moments: dict[str, list[Tensor]]) -> None:
        """Put the optimizer where it was after `step` updates."""
        for index, parameter in enumerate(self.parameters):
            fused = self.optimizer.param_groups[0].get("fused")
            count = torch.tensor(float(step), device=parameter.device if fused else "cpu")
            self.optimizer.state[parameter] = {
                "step": count,
                **{kind: moments[kind][index].to(parameter.device) for kind in MOMENTS},
            }


Named = list[tuple[str, Any]]


def _whole(engine: Any, trained: Named) -> tuple[list[Tensor], list[Fragment]]:
    """ZeRO 0: every worker owns every parameter."""
    fragments = [
        Fragment(name, tuple(p.shape), 0, p.numel(), index, 0) for index, (name, p) in enumerate(trained)
    ]
    return [parameter for _, parameter in trained], fragments


def _sliced(engine: Any, trained: Named) -> tuple[list[Tensor], list[Fragment]]:
    """ZeRO 1 and 2: all parameters in a row, cut evenly among the workers."""
    fragments = []
    for name, parameter in trained:
        mapping = parameter._hp_mapping
        if mapping is not None:
            here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
            group = mapping.param_group_index
            fragments.append(
                Fragment(name, tuple(parameter.shape), here.start, here.numel, group, there.start)
            )
    return list(engine.optimizer.single_partition_of_fp32_groups), fragments


def _sharded(engine: Any, trained: Named) -> tuple[list[Tensor], list[Fragment]]:
    """ZeRO 3: every parameter is cut among the workers on its own."""
    zero = engine.optimizer
    rank = torch.distributed.get_rank()
    fragments = []
    for name, parameter in trained:
        group, offset, _ = zero.grad_position[zero.get_param_id(parameter)]
        piece = parameter.partition_numel()
        start = rank * piece
        elements = min(piece, parameter.ds_numel - start)  # the last piece is padded
        if elements > 0:
            fragments.append(Fragment(name, tuple(parameter.ds_shape), start, elements, group, offset))
    return list(zero.fp32_partitioned_groups_flat), fragments
