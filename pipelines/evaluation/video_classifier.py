"""A tiny video classifier whose features take the place of I3D's where no weights can be downloaded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import nn

FEATURES = 64


@dataclass(frozen=True)
class Classified:
    logits: torch.Tensor
    """(B, number of classes)"""
    features: torch.Tensor
    """(B, 64), what the Fréchet distance is taken over."""


class VideoClassifier(ModelMixin, ConfigMixin):
    """A (2+1)D convolutional network (Tran et al., arXiv 1711.11248) over a few small frames.

    Spatial and temporal convolutions take turns; no layer forgets direction before the last pooling.
    Saved and loaded in diffusers' folder format (config.json and safetensors).
    """

    @register_to_config
    def __init__(
        self,
        classes: Sequence[str] = ("still",),
        frames: int = 8,
        side_pixels: int = 32,
        widths: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        blocks, before = [], 6
        for width in widths:
            blocks.append(SpaceThenTime(before, width))
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Linear(2 * before, FEATURES)
        self.classify = nn.Linear(FEATURES, len(classes))

    def forward(self, videos: torch.Tensor) -> Classified:
        """videos: (B, 3, T, H, W) in 0..1, of any T, H, W: brought to the network's own size first."""
        h = self.resize(videos) * 2 - 1
        # What changed since the frame before: motion is seen from the first layer on.
        change = F.pad(h[:, :, 1:] - h[:, :, :-1], (0, 0, 0, 0, 1, 0))
        h = self.blocks(torch.cat([h, 3 * change], 1))  # (B, C, T, H/8, W/8)
        pooled = torch.cat([h.mean((2, 3, 4)), h.amax((2, 3, 4))], 1)  # (B, 2C)
        features = self.project(pooled)
        return Classified(self.classify(F.silu(features)), features)

    def resize(self, videos: torch.Tensor) -> torch.Tensor:
        """(B, 3, T, H, W) → (B, 3, frames, side, side): frames spread evenly, area-averaged pixels."""
        frames, side = self.config.frames, self.config.side_pixels
        if videos.ndim != 5 or videos.shape[1] != 3:
            raise ValueError(f"videos must be (B, 3, T, H, W), not {tuple(videos.shape)}")
        if videos.shape[2] != frames:
            videos = videos[:, :, torch.linspace(0, videos.shape[2] - 1, frames).round().long()]
        if videos.shape[3:] != (side, side):
            flat = rearrange(videos, "b c t h w -> (b t) c h w")
            flat = F.interpolate(flat, (side, side), mode="bilinear", antialias=True, align_corners=False)
            videos = rearrange(flat, "(b t) c h w -> b c t h w", t=frames)
        return videos


class SpaceThenTime(nn.Module):
    """Halves height and width, then mixes over time with a residual."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(channels, width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.norm_space = nn.GroupNorm(8, width)
        self.time = nn.Conv3d(width, width, (3, 3, 3), padding=1)
        self.norm_time = nn.GroupNorm(8, width)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.norm_space(self.space(h)))
        return h + F.silu(self.norm_time(self.time(h)))
