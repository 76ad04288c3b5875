"""The video UNet beside diffusers' video UNets: operations, time and memory of a training step.

All have the same widths, frames and latents, random weights, heads of one width, and no dropout. Seconds for
an operation tell how well a model uses the machine, whatever it computes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from diffusers import I2VGenXLUNet, UNetMotionModel
from torch import nn

from modeling.layers import pixel_positions
from modeling.pixel_attention import PixelAttention
from modeling.unet import FactorizedUNet
from pipelines.benchmark.operations import count_flop_by_part, peak_bytes
from pipelines.operations import count_flop, counted_in_full
from pipelines.progress import track

TEXT_TOKENS, IMAGE_TOKENS = 77, 257  # CLIP's, of a caption and of an image of 224 pixels in patches of 14
PIXEL_ATTENTION_SIDES = (16, 32, 64)
PIXEL_ATTENTION_WINDOW = 8
PIXEL_ATTENTION_REPEATS = 3
OURS = "FactorizedUNet"


class ShapeError(ValueError):
    """Widths, frames or latents that the models cannot have; the message says which they can."""

    exit_code = 2


@dataclass(frozen=True)
class Shape:
    """Of a batch and of the models: latents (clips, 4, frames, latent_side, latent_side)."""

    clips: int = 1
    frames: int = 8
    latent_side: int = 24
    widths: tuple[int, ...] = (64, 128, 256, 256)

    def __post_init__(self) -> None:
        """Raises ShapeError when not all three models can have it."""
        halvings = len(self.widths) - 1
        if halvings < 1 or any(width == 0 or width % self.widths[0] or width % 32 for width in self.widths):
            raise ShapeError(
                f"widths must be two or more multiples of 32 and of the first, not {list(self.widths)}"
            )
        if self.latent_side % 2**halvings:
            raise ShapeError(
                f"latents of {self.latent_side} pixels cannot be halved {halvings} times for "
                f"{len(self.widths)} widths: the side must be a multiple of {2**halvings}"
            )

    @classmethod
    def of(cls, clips: int, frames: int, latent_side: int, widths: str) -> "Shape":
        """widths as on the command line: `64,128,256,256`. Raises ShapeError."""
        numbers = widths.split(",")
        if not all(number.strip().isdigit() for number in numbers):
            raise ShapeError(f"widths must be numbers with commas between, such as 64,128, not {widths!r}")
        return cls(clips, frames, latent_side, tuple(int(number) for number in numbers))

    @property
    def head_dim(self) -> int:
        # 64 as SD 2's, and less for small widths: I2VGenXLUNet's first transformer has 8 heads at any.
        return min(64, self.widths[0] // 2)

    @property
    def heads(self) -> tuple[int, ...]:
        return tuple(width // self.head_dim for width in self.widths)

    @property
    def context_dim(self) -> int:
        """Width of the tokens of all encoders, which stands to the first width about as SD's does."""
        return 4 * self.widths[0]


class Batch:
    """Random inputs on the current default device."""

    def __init__(self, shape: Shape) -> None:
        clips, side, width = shape.clips, shape.latent_side, shape.context_dim
        self.frames = shape.frames
        self.latents = torch.randn(clips, 4, shape.frames, side, side)
        self.timesteps = torch.zeros(clips, dtype=torch.long)
        self.text_tokens = torch.randn(clips, TEXT_TOKENS, width)
        self.motion_tokens = torch.randn(clips, TEXT_TOKENS, width)
        self.motion_mask = torch.ones(clips, TEXT_TOKENS, dtype=torch.bool)
        self.image_tokens = torch.randn(clips, IMAGE_TOKENS, width)
        self.image_latents = torch.randn(clips, 4, side, side)
        self.image_mask = torch.ones(clips, dtype=torch.bool)
        self.fps = torch.full((clips,), 8.0)


# ---------------------------------------------------------------- the models


def make_ours(shape: Shape, **settings: Any) -> FactorizedUNet:
    """Every part switched on; `settings` differ."""
    crossed = len(shape.widths) - 1
    image = {
        "sample_size": shape.latent_side,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": shape.widths,
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * crossed + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * crossed,
        "cross_attention_dim": shape.context_dim,
        "attention_head_dim": shape.heads,  # diffusers' name for the number of heads
    }
    return FactorizedUNet(
        image,
        **{
            "motion_dim": shape.context_dim,
            "image_dim": shape.context_dim,
            "adapter_width": shape.context_dim,
            "temporal_head_dim": shape.head_dim,
            "adapter_head_dim": shape.head_dim,
            "pixel_attention_head_dim": shape.head_dim,
            **settings,
        },
    )


def step_ours(model: nn.Module, batch: Batch) -> None:
    output = model(
        batch.latents,
        batch.timesteps,
        batch.text_tokens,
        motion_tokens=batch.motion_tokens,
        motion_mask=batch.motion_mask,
        image_tokens=batch.image_tokens,
        image_latents=batch.image_latents,
        image_mask=batch.image_mask,
        fps=batch.fps,
        motion_score=batch.fps,
    )
    loss = output.sample.square().mean()
    if output.flow is not None:
        loss = loss + output.flow.square().mean()
    loss.backward()


def _make_motion(shape: Shape) -> UNetMotionModel:
    crossed = len(shape.widths) - 1
    return UNetMotionModel(
        sample_size=shape.latent_side,
        block_out_channels=shape.widths,
        down_block_types=("CrossAttnDownBlockMotion",) * crossed + ("DownBlockMotion",),
        up_block_types=("UpBlockMotion",) + ("CrossAttnUpBlockMotion",) * crossed,
        cross_attention_dim=shape.context_dim,
        num_attention_heads=shape.heads,
        motion_num_attention_heads=shape.heads,
        motion_max_seq_length=max(32, shape.frames),
    )


def _step_motion(model: nn.Module, batch: Batch) -> None:
    text = batch.text_tokens.repeat_interleave(batch.frames, dim=0)  # as its pipelines do
    model(batch.latents, batch.timesteps, text).sample.square().mean().backward()


def _make_i2vgen(shape: Shape) -> I2VGenXLUNet:
    crossed = len(shape.widths) - 1
    return I2VGenXLUNet(
        sample_size=shape.latent_side,
        block_out_channels=shape.widths,
        down_block_types=("CrossAttnDownBlock3D",) * crossed + ("DownBlock3D",),
        up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * crossed,
        cross_attention_dim=shape.context_dim,
        attention_head_dim=shape.head_dim,
    )


def _step_i2vgen(model: nn.Module, batch: Batch) -> None:
    image = batch.image_latents[:, :, None].expand(-1, -1, batch.frames, -1, -1)
    pooled = batch.image_tokens[:, 0]
    output = model(batch.latents, batch.timesteps, batch.fps, image, pooled, batch.text_tokens)
    output.sample.square().mean().backward()


Make = Callable[[Shape], nn.Module]
Step = Callable[[nn.Module, Batch], None]
MODELS: dict[str, tuple[Make, Step]] = {
    OURS: (make_ours, step_ours),
    "UNetMotionModel": (_make_motion, _step_motion),
    "I2VGenXLUNet": (_make_i2vgen, _step_i2vgen),
}


# ---------------------------------------------------------------- what is measured


def measure_models(shape: Shape, repeats: int, threads: int | None = None) -> dict[str, Any]:
    """The three models beside each other, our model's parts, and full against windowed PACA.

    threads: of PyTorch; None: as many as it takes by itself. Seconds are medians of `repeats` rounds, in each
    of which every model takes one step.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            models = compare_models(shape, repeats)
            return {
                "clips": shape.clips,
                "frames": shape.frames,
                "latent_side": shape.latent_side,
                "widths": list(shape.widths),
                "repeats": repeats,
                "threads": torch.get_num_threads(),
                "models": models,
                "parts": parts_of_ours(shape),
                "pixel_attention": [compare_windows(shape, side) for side in PIXEL_ATTENTION_SIDES],
            }
    finally:
        torch.set_num_threads(before)


def compare_models(shape: Shape, repeats: int) -> list[dict[str, Any]]:
    """A row for each model. GFLOP and seconds are those of a step: forward and backward, no optimizer.

    Memory is what a step allocates at its peak, with the gradients and without the weights.
    """
    flop = {name: step_flop(shape, make, step) for name, (make, step) in MODELS.items()}
    batch = Batch(shape)
    models = {name: _awake(make(shape)) for name, (make, _) in MODELS.items()}
    steps = {name: partial(_clean_step, model, MODELS[name][1], batch) for name, model in models.items()}
    seconds = {name: median(times) for name, times in _rounds(steps, repeats).items()}
    per_tflop = {name: seconds[name] / flop[name] * 1e12 for name in models}
    faster_peer = min(value for name, value in per_tflop.items() if name != OURS)
    return [
        {
            "model": name,
            "parameters": _parameters(model),
            "gflop": round(flop[name] / 1e9, 4),
            "seconds": round(seconds[name], 4),
            "seconds_per_tflop": round(per_tflop[name], 3),
            "of_faster_peer": round(per_tflop[name] / faster_peer, 3),
            "peak_mb": _peak_mb(model, MODELS[name][1], batch),
            "peak_mb_checkpointed": _checkpointed_mb(model, MODELS[name][1], batch),
        }
        for name, model in models.items()
    ]


def step_flop(shape: Shape, make: Make, step: Step) -> int:
    """Operations of forward and backward, all weights trained."""
    with counted_in_full():
        return count_flop(partial(step, make(shape).eval(), Batch(shape)))


def _awake(model: nn.Module) -> nn.Module:
    """Zero-initialised weights get values: a backward pass of zeros might be a faster one."""
    for parameter in model.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.02)
    return model.eval()


def _clean_step(model: nn.Module, step: Step, batch: Batch) -> None:
    model.zero_grad(set_to_none=True)
    step(model, batch)


def _rounds(steps: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every step by round; a round that is not counted comes first."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with track(repeats + 1, "benchmark: rounds") as progress:
        for _ in range(repeats + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - started)
            progress.advance()
    return {name: times[1:] for name, times in seconds.items()}


def _peak_mb(model: nn.Module, step: Step, batch: Batch) -> float:
    model.zero_grad(set_to_none=True)  # before it is measured: what a step frees would lower its peak
    return round(peak_bytes(partial(step, model, batch)) / 1e6, 1)


def _checkpointed_mb(model: Any, step: Step, batch: Batch) -> float | None:
    """None for a model that has no activation checkpointing."""
    if not model._supports_gradient_checkpointing:
        return None
    model.enable_gradient_checkpointing()
    return _peak_mb(model, step, batch)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def parts_of_ours(shape: Shape) -> list[dict[str, Any]]:
    """Parameters and GFLOP of a step by part: top-level groups of parameter names."""
    with counted_in_full():
        model = make_ours(shape).eval()
        flop = count_flop_by_part(model, partial(step_ours, model, Batch(shape)), rest="image")
    return [
        {"part": part, "parameters": _parameters(group), "gflop": round(flop[part] / 1e9, 4)}
        for part, group in model.named_children()
    ]


# ---------------------------------------------------------------- PACA


def compare_windows(shape: Shape, latent_side: int) -> dict[str, Any]:
    """GFLOP and seconds of forward and backward of one PACA module, full and windowed, at the first width."""
    windows = {"full": None, "windowed": PIXEL_ATTENTION_WINDOW}
    with counted_in_full():
        counted = {name: _pixel_step(shape, latent_side, window) for name, window in windows.items()}
        flop = {name: count_flop(step) for name, step in counted.items()}
    steps = {name: _pixel_step(shape, latent_side, window) for name, window in windows.items()}
    seconds = {name: median(times) for name, times in _rounds(steps, PIXEL_ATTENTION_REPEATS).items()}
    return {
        "latent_side": latent_side,
        "window": PIXEL_ATTENTION_WINDOW,
        **{
            name: {"gflop": round(flop[name] / 1e9, 3), "seconds": round(seconds[name], 4)}
            for name in windows
        },
    }


def _pixel_step(shape: Shape, latent_side: int, window: int | None) -> Callable[[], None]:
    channels, size = shape.widths[0], (latent_side, latent_side)
    module = PixelAttention(channels, shape.head_dim, window)
    x = torch.randn(shape.clips * shape.frames, *size, channels).permute(0, 3, 1, 2).requires_grad_()
    image = torch.randn(shape.clips, *size, channels).permute(0, 3, 1, 2).requires_grad_()
    positions = pixel_positions(image)

    def step() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = image.grad = None
        module(x, image, positions, None, shape.frames).sum().backward()

    return step
