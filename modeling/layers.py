"""What the added modules share: zero-initialisation, attention, sinusoids."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def zero_initialised(module: Module) -> Module:
    """The one place that makes an added branch silent at initialisation.

    Every branch has exactly one such module, its last: two zeros in series would get no gradient.
    """
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def heads_for(channels: int, head_dim: int) -> int:
    """Number of heads of at most `head_dim` channels each; one when there are fewer channels than that."""
    if channels <= head_dim:
        return 1
    if channels % head_dim:
        raise ValueError(f"{channels} channels cannot be divided into heads of {head_dim}")
    return channels // head_dim


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """softmax(q kᵀ / √d) v of query (B, L, C), key and value (B, N, C): (B, L, C).

    mask: (B, 1, L or 1, N) bool, True where attended.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))  # (B, heads, ·, d)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def sinusoids(values: torch.Tensor, width: int, max_period: float = 10_000) -> torch.Tensor:
    """Sinusoidal embedding (Vaswani et al., 2017) of values (N,), in float32: (N, width)."""
    half = width // 2
    exponents = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values.float()[:, None] * torch.exp(-math.log(max_period) * exponents)
    return F.pad(torch.cat((angles.cos(), angles.sin()), dim=-1), (0, width - 2 * half))


def frame_positions(frames: int, like: torch.Tensor) -> torch.Tensor:
    """(T, C) positions of frames in the width, dtype and device of `like`; any number of frames has one."""
    return sinusoids(torch.arange(frames, device=like.device), like.shape[-1]).to(like.dtype)


def pixel_positions(like: torch.Tensor) -> torch.Tensor:
    """(h·w, C) positions of the pixels of features (B, C, h, w): row, then column."""
    channels, height, width = like.shape[1:]
    rows = sinusoids(torch.arange(height, device=like.device), channels // 2)
    columns = sinusoids(torch.arange(width, device=like.device), channels - channels // 2)
    both = torch.cat((rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)), dim=-1)
    return both.flatten(0, 1).to(like.dtype)


class ScalarEmbedding(nn.Module):
    """A number per sample (fps, motion score) as an addition to the time embedding."""

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.channels = channels
        self.project_in = nn.Linear(channels, embedding_dim)
        self.project_out = zero_initialised(nn.Linear(embedding_dim, embedding_dim))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """values (N,), NaN where not told. Gives (N, embedding_dim), zero at initialisation and for NaN."""
        features = sinusoids(values.nan_to_num(), self.channels).to(self.project_in.weight.dtype)
        return self.project_out(F.silu(self.project_in(features))) * ~values.isnan()[:, None]


def tokens_last(x: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h·w, C); a view when x is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def pixels_last(tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, h·w, C) -> (B, C, h, w) in channels-last memory: always a view."""
    return tokens.unflatten(1, tuple(size)).permute(0, 3, 1, 2)
