"""Temporal modules: what the image UNet lacks to draw motion.

Four residual branches over (B, T, h·w, C): temporal convolution, temporal self-attention, cross-attention
to the T5 tokens of the motion caption, feed-forward. Each ends in a projection that is zero at
initialisation. The order and widths are not given in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from modeling.layers import (
    attend,
    frame_positions,
    heads_for,
    pixels_last,
    sinusoids,
    tokens_last,
    zero_initialised,
)


@dataclass(frozen=True)
class MotionText:
    """T5 tokens of the motion captions of a batch, ready for attention."""

    tokens: torch.Tensor  # (B, N, D)
    mask: torch.Tensor | None  # (B, 1, 1, N) bool, True where attended; no row is all False
    keep: torch.Tensor | None  # (B, 1, 1), 0 for samples without a motion caption
    pooled: torch.Tensor  # (B, D) mean of the tokens, 0 for samples without a motion caption

    @classmethod
    def of(cls, tokens: torch.Tensor, mask: torch.Tensor | None) -> "MotionText":
        """mask (B, N) bool: False rows are padding; a sample that is all False has no motion caption."""
        if mask is None:
            return cls(tokens, None, None, tokens.mean(1))
        has_text = mask.any(dim=1, keepdim=True)  # (B, 1)
        weights = mask.to(tokens.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
        # A row of softmax without any key is NaN: such a sample attends everywhere, to values of zero.
        attended, keep = (mask | ~has_text)[:, None, None], has_text[..., None].to(tokens.dtype)
        return cls(tokens, attended, keep, (tokens * weights[..., None]).sum(1))


class FrameEmbedding(nn.Module):
    """A frame's index and the motion caption as a whole, as an addition to the frame's time embedding.

    Both go through one hidden layer, so that "how far by now" is to be had in one step. Not given in the
    paper.
    """

    def __init__(self, channels: int, embedding_dim: int, motion_dim: int | None) -> None:
        super().__init__()
        self.channels = channels
        self.project_in = nn.Linear(channels, embedding_dim)
        # No bias: a sample without a motion caption must get what None gives it.
        self.motion_in = None if motion_dim is None else nn.Linear(motion_dim, embedding_dim, bias=False)
        self.project_out = zero_initialised(nn.Linear(embedding_dim, embedding_dim))

    def forward(self, frames: torch.Tensor, motion: MotionText | None) -> torch.Tensor:
        """frames (T,) indices. Gives (1 or B, T, embedding_dim), zero at initialisation."""
        features = sinusoids(frames, self.channels).to(self.project_in.weight.dtype)
        hidden = self.project_in(features)[None]
        if self.motion_in is not None and motion is not None:
            hidden = hidden + self.motion_in(motion.pooled)[:, None]
        return self.project_out(F.silu(hidden))


class TemporalConvolution(nn.Module):
    """x + W₀ SiLU((1 + a) conv(norm(x)) + b) with a, b from the frame's embedding.

    Convolution over time, and over space too if `spatial_kernel` > 1, as the temporal layers of Video LDM
    (Blattmann et al., arXiv 2304.08818). The embedding knows time, frame and motion caption, so that one
    caption can switch on what another switches off; not given in the paper.
    """

    def __init__(self, channels: int, embedding_dim: int, kernel: int, spatial_kernel: int) -> None:
        super().__init__()
        size = (kernel, spatial_kernel, spatial_kernel)
        if not all(side % 2 for side in size):
            raise ValueError(f"the kernel of a temporal convolution must be odd on every side, not {size}")
        self.norm = nn.LayerNorm(channels)
        self.convolution: nn.Conv2d | nn.Conv3d
        if spatial_kernel == 1:
            # Pixels are one axis then: 2D kernels take channels-last memory as it is, 3D ones copy (on CPUs).
            self.convolution = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0))
        else:
            self.convolution = nn.Conv3d(channels, channels, size, padding=tuple(side // 2 for side in size))
        self.modulation = nn.Linear(embedding_dim, 2 * channels)
        self.project_out = zero_initialised(nn.Linear(channels, channels))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """x (B, T, hw, C), contiguous: as (B, C, T, h, w) it is channels-last. embedding (B, T, E)."""
        convolved = self._convolve(self.norm(x), size)
        scale, shift = self.modulation(embedding)[:, :, None].chunk(2, dim=-1)  # (B, T, 1, C)
        return x + self.project_out(F.silu(torch.addcmul(shift, convolved, 1 + scale)))

    def _convolve(self, x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        if isinstance(self.convolution, nn.Conv2d):
            return self.convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # over (B, C, T, hw)
        volume = x.unflatten(2, tuple(size)).permute(0, 4, 1, 2, 3)  # (B, C, T, h, w)
        return self.convolution(volume).permute(0, 2, 3, 4, 1).flatten(2, 3)  # (B, T, hw, C)


class TemporalAttention(nn.Module):
    """Each pixel attends along its own time line; absolute sinusoidal positions, so any T has them."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads_for(channels, head_dim)
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.project_out = zero_initialised(nn.Linear(channels, channels))

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """x (B, T, hw, C), positions (T, 1, C)."""
        clips = len(x)
        lines = (self.norm(x) + positions).transpose(1, 2).flatten(0, 1)  # (B·hw, T, C): a pixel's time line
        query, key, value = self.to_qkv(lines).chunk(3, dim=-1)
        seen = self.project_out(attend(query, key, value, self.heads))
        return x + seen.unflatten(0, (clips, -1)).transpose(1, 2)


class MotionAttention(nn.Module):
    """Every pixel of every frame looks at the motion caption; positions tell the query its frame."""

    def __init__(self, channels: int, head_dim: int, motion_dim: int) -> None:
        super().__init__()
        self.heads = heads_for(channels, head_dim)
        self.norm = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_kv = nn.Linear(motion_dim, 2 * channels, bias=False)
        # No bias: a sample whose values are zero must get exactly nothing.
        self.project_out = zero_initialised(nn.Linear(channels, channels, bias=False))

    def forward(self, x: torch.Tensor, positions: torch.Tensor, motion: MotionText) -> torch.Tensor:
        """x (B, T, hw, C), positions (T, 1, C)."""
        key, value = self.to_kv(motion.tokens).chunk(2, dim=-1)
        value = value if motion.keep is None else value * motion.keep
        query = self.to_q(self.norm(x) + positions).flatten(1, 2)  # (B, T·hw, C)
        return x + self.project_out(attend(query, key, value, self.heads, motion.mask)).view_as(x)


class FeedForward(nn.Module):
    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, factor * channels)
        self.project_out = zero_initialised(nn.Linear(factor * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project_out(F.gelu(self.expand(self.norm(x))))


class TemporalModule(nn.Module):
    """One temporal module, after a spatial residual + attention pair. motion_dim None: no motion text."""

    def __init__(
        self,
        channels: int,
        embedding_dim: int,
        *,
        head_dim: int,
        kernel: int,
        spatial_kernel: int,
        feed_forward_factor: int,
        motion_dim: int | None,
    ) -> None:
        super().__init__()
        self.convolution = TemporalConvolution(channels, embedding_dim, kernel, spatial_kernel)
        self.attention = TemporalAttention(channels, head_dim)
        self.motion = None if motion_dim is None else MotionAttention(channels, head_dim, motion_dim)
        self.feed_forward = FeedForward(channels, feed_forward_factor)

    def forward(
        self, x: torch.Tensor, embedding: torch.Tensor, frames: int, motion: MotionText | None
    ) -> torch.Tensor:
        """x (B·T, C, h, w), channels-last; embedding (B·T, E). Gives the shape of x, channels-last."""
        size = x.shape[-2:]
        hidden = tokens_last(x).unflatten(0, (-1, frames))  # (B, T, hw, C)
        positions = frame_positions(frames, hidden)[:, None]
        hidden = self.convolution(hidden, embedding.unflatten(0, (-1, frames)), size)
        hidden = self.attention(hidden, positions)
        if self.motion is not None and motion is not None:
            hidden = self.motion(hidden, positions, motion)
        return pixels_last(self.feed_forward(hidden).flatten(0, 1), size)
