"""Memory of a training step on one GPU: a forward and backward pass on the meta device, and ZeRO's shares.

The pass computes nothing and allocates nothing, but makes and drops the same tensors as on a GPU; a ledger
keeps count of their bytes. What ZeRO 0-3 keep beside it is arithmetic, after DeepSpeed 0.19's sources.
"""

import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modeling.objective import diffusion_loss
from modeling.schedule import NoiseSchedule
from pipelines.recipe import TrainSettings
from pipelines.training.engine import LARGEST_BUCKET_ELEMENTS
from pipelines.training.flops import partly_trained

FP32_BYTES = 4
MOMENTS_BYTES = 2 * FP32_BYTES  # AdamW's two, always in fp32
ZERO_LEVELS = (0, 1, 2, 3)
# ZeRO 3 keeps gathered weights that are used again within stage3_max_reuse_distance (10⁹ by default) elements
# of the walk, forth and back: the last half of that before the loss; and gathers stage3_prefetch_bucket_size
# (5·10⁷) ahead. DeepSpeed 0.19.8, partitioned_param_coordinator.py and zero/config.py.
GATHERED_ELEMENTS = 10**9 // 2 + 5 * 10**7

Shapes = Mapping[str, tuple[int, ...]]


class Held(NamedTuple):
    """Bytes at one moment, above what was there before the pass."""

    activations: int  # saved for the backward pass, or passing by; the batch too
    gradients: int  # of weights


@dataclass(frozen=True)
class PassPeaks:
    """The dearest moments of a forward and backward pass."""

    together: Held  # the most of activations and gradients, all of which stay
    activations: int  # the most of activations alone


# ---------------------------------------------------------------- the pass


class Ledger(TorchDispatchMode):
    """Bytes of all storages that operations make while it is on, until they are gone.

    A view counts with its storage, once; `before` are tensors that are not counted. PyTorch's own MemTracker
    does alike, but is private and walks the modules too.
    """

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self._foreign = {tensor.untyped_storage()._cdata for tensor in before}
        self._alive: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._gradients: set[int] = set()
        self.held = Held(0, 0)
        self.peaks = PassPeaks(self.held, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._enter(leaf.untyped_storage())
        return result

    def is_gradient(self, tensor: Tensor) -> None:
        """Count a tensor's storage as a gradient from now on."""
        key = tensor.untyped_storage()._cdata
        if key in self._alive and key not in self._gradients:
            self._gradients.add(key)
            size = self._alive[key][1]
            self._change(-size, size)

    def _enter(self, storage: Any) -> None:
        key = storage._cdata  # of the storage underneath, the same for all its tensors while it lives
        if key in self._foreign or key in self._alive:
            return
        size = storage.nbytes()
        self._alive[key] = weakref.ref(storage, lambda _: self._leave(key)), size
        self._change(size, 0)

    def _leave(self, key: int) -> None:
        _, size = self._alive.pop(key)
        if key in self._gradients:
            self._gradients.discard(key)
            self._change(0, -size)
        else:
            self._change(-size, 0)

    def _change(self, activations: int, gradients: int) -> None:
        self.held = Held(self.held.activations + activations, self.held.gradients + gradients)
        self.peaks = PassPeaks(
            together=max(self.peaks.together, self.held, key=sum),
            activations=max(self.peaks.activations, self.held.activations),
        )


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention as GPUs do it: queries, keys, values and result are kept, no matrix of all pairs ever is.

    The meta device would write attention out. What stands here instead is the CPU's operation, which keeps
    what FlashAttention and memory-efficient attention keep. PyTorch's function modes would do this without
    changing a module, but are off while a backward pass computes checkpointed activations again.
    """
    written_out = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = _fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = written_out


def _fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    if attn_mask is not None:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return attend(query, key, value, attn_mask=attn_mask)[0]


def pass_peaks(
    unet_config: dict[str, Any],
    trained: Collection[str],
    shapes: Shapes,
    *,
    flow_weight: float,
    schedule: NoiseSchedule,
    dtype: torch.dtype,
    checkpointing: bool = False,
) -> PassPeaks:
    """Peaks of the forward and backward pass of one worker's batch.

    trained: names of parameters with gradient. shapes: of the UNet's inputs, with the batch axis. dtype: of
    weights and inputs. checkpointing: activations are computed again in the backward pass.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        unet = partly_trained(unet_config, trained).train()
        for parameter in unet.parameters():  # and not `.to`, which makes parameters anew
            parameter.data = parameter.data.to(dtype)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        ledger = Ledger([*unet.parameters(), *unet.buffers()])
        for parameter in unet.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: ledger.is_gradient(p.grad))
        with fused_attention(), ledger:
            batch = _batch(shapes, dtype, with_flow=flow_weight > 0)
            timesteps = torch.zeros(len(batch["latents"]), dtype=torch.long)
            noise = torch.zeros_like(batch["latents"])
            losses = diffusion_loss(unet, schedule, batch, noise, timesteps, flow_weight=flow_weight)
            losses.total.backward()
    return ledger.peaks


def _batch(shapes: Shapes, dtype: torch.dtype, *, with_flow: bool) -> dict[str, Tensor]:
    """Inputs of the objective, of no value."""
    batch = {name: torch.empty(shape, dtype=dtype) for name, shape in shapes.items()}
    clips, _, frames, *size = shapes["latents"]
    if "motion_tokens" in shapes:
        batch["motion_mask"] = torch.ones(shapes["motion_tokens"][:2], dtype=torch.bool)
    if "image_latents" in shapes:
        batch["image_mask"] = torch.ones(clips, dtype=torch.bool)
    if with_flow:
        batch["flow"] = torch.empty((clips, 2, frames - 1, *size), dtype=dtype)
        batch["flow_valid"] = torch.empty((clips, frames - 1, *size), dtype=dtype)
    return batch


# ---------------------------------------------------------------- ZeRO


@dataclass(frozen=True)
class Savings:
    """What a recipe does to need less memory. This is the one place that reads those settings."""

    activation_checkpointing: bool = False
    offload_optimizer: bool = False
    offload_parameters: bool = False

    @classmethod
    def of(cls, settings: TrainSettings) -> Self:
        return cls(settings.activation_checkpointing, settings.offload_optimizer, settings.offload_parameters)


@dataclass(frozen=True)
class Elements:
    """Numbers of weights of the video UNet, and bytes of one as the model holds it."""

    total: int
    trained: int
    bytes_each: int


@dataclass(frozen=True)
class StepMemory:
    """Bytes on one GPU at the dearest moment of a step; they add up to `peak`."""

    zero_stage: int
    weights: int
    gradients: int
    optimizer: int  # AdamW's moments, and the fp32 weights that it updates where they are a copy
    ema: int
    activations: int
    encoders: int
    host: int  # what offloading moves into the host's memory, for this GPU

    @property
    def peak(self) -> int:
        own = self.weights + self.gradients + self.optimizer + self.ema
        return own + self.activations + self.encoders


def step_memory(
    zero_stage: int,
    elements: Elements,
    peaks: PassPeaks,
    gpus: int,
    encoder_bytes: int,
    savings: Savings = Savings(),
    *,
    micro_batches: int = 1,
) -> StepMemory:
    """What one of `gpus` GPUs holds at a ZeRO level at most: in a backward pass or in the update.

    peaks: of one micro-batch, of which a step has `micro_batches`.
    """
    shard = elements.trained if zero_stage == 0 else -(-elements.trained // gpus)  # ZeRO 0: each owns all
    if micro_batches > 1:  # from the second pass on all gradients are there
        peaks = replace(peaks, together=Held(peaks.activations, elements.trained * elements.bytes_each))
    backward, update = _gradients(zero_stage, elements, peaks, shard)
    at_update = update > sum(backward)
    weights, host_weights = _weights(zero_stage, elements, gpus, savings)
    # ZeRO 1 and 2 clone the weights that they update even where those are fp32 already; ZeRO 3 does not.
    cloned = zero_stage in (1, 2) or (zero_stage == 3 and elements.bytes_each != FP32_BYTES)
    optimizer = shard * (MOMENTS_BYTES + (FP32_BYTES if cloned else 0))
    ema = shard * FP32_BYTES  # lies where the weights lie that the optimizer updates
    offloaded = savings.offload_optimizer and zero_stage > 0
    return StepMemory(
        zero_stage=zero_stage,
        weights=weights,
        gradients=update if at_update else backward.gradients,
        optimizer=0 if offloaded else optimizer,
        ema=0 if offloaded else ema,
        activations=0 if at_update else backward.activations,
        encoders=encoder_bytes,
        host=host_weights + (optimizer + ema if offloaded else 0),
    )


def _weights(zero_stage: int, elements: Elements, gpus: int, savings: Savings) -> tuple[int, int]:
    """Bytes of the model's weights on the GPU and in the host's memory."""
    if zero_stage < 3:
        return elements.total * elements.bytes_each, 0
    shard = -(-elements.total // gpus) * elements.bytes_each
    gathered = min(elements.total, GATHERED_ELEMENTS) * elements.bytes_each
    return (gathered, shard) if savings.offload_parameters else (gathered + shard, 0)


def _gradients(zero_stage: int, elements: Elements, peaks: PassPeaks, shard: int) -> tuple[Held, int]:
    """The backward pass's dearest moment, and the bytes of gradients while weights are updated.

    ZeRO 0 and 1 keep all gradients until then, ZeRO 2 and 3 a shard of them. They are exchanged through a
    bucket (`reduce_bucket_size`), with ZeRO 0 when all are there; ZeRO 1-3 update from a copy of their shard
    in fp32.
    """
    each = elements.bytes_each
    whole = elements.trained * each
    bucket = min(elements.trained, LARGEST_BUCKET_ELEMENTS) * each
    if zero_stage == 0:
        return peaks.together, whole + bucket
    copy = shard * FP32_BYTES
    if zero_stage == 1:
        activations, gradients = peaks.together
        return Held(activations, gradients + bucket), whole + copy
    return Held(peaks.activations, bucket + shard * each), shard * each + copy
