"""Pixel-aware cross-attention (PACA): UNet features look at the conditioning image's latent, pixel by pixel.

After PASD (Yang et al., arXiv 2308.14469): queries are the UNet's features, keys and values are features
of the image latent at the same scale, (b, h·w, c). Full attention costs (h·w)² per frame; the windowed
variant lets each window of w×w pixels see the 2w×2w pixels around it, which is linear in pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from modeling.layers import attend, heads_for, pixels_last, tokens_last, zero_initialised


class ImagePyramid(nn.Module):
    """Features of the image latent at every scale of the UNet, by strided convolutions."""

    def __init__(self, latent_channels: int, block_channels: Sequence[int]) -> None:
        super().__init__()
        inputs = (latent_channels, *block_channels[:-1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1, stride=1 if level == 0 else 2)
            for level, (i, o) in enumerate(zip(inputs, block_channels, strict=True))
        )

    def forward(self, image_latents: torch.Tensor) -> list[torch.Tensor]:
        """image_latents (B, C, h, w). Gives level i as (B, block_channels[i], h / 2^i, w / 2^i)."""
        features, x = [], image_latents.contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            x = F.silu(convolution(x))
            features.append(x)
        return features


class PixelAttention(nn.Module):
    """One PACA module; `window` is None for full attention, else the window's side in latent pixels."""

    def __init__(self, channels: int, head_dim: int, window: int | None = None) -> None:
        super().__init__()
        if window is not None and (window < 2 or window % 2):
            raise ValueError(f"pixel_attention_window must be an even number of latent pixels, not {window}")
        self.heads = heads_for(channels, head_dim)
        self.window = window
        self.norm = nn.LayerNorm(channels)
        self.norm_image = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = zero_initialised(nn.Linear(channels, channels, bias=False))

    def forward(
        self,
        x: torch.Tensor,
        image: torch.Tensor,
        positions: torch.Tensor,
        keep: torch.Tensor | None,
        frames: int,
    ) -> torch.Tensor:
        """x (B·T, C, h, w), image (B, C, h, w), positions (h·w, C), keep (B, 1, 1) or None.

        A sample with keep 0 has values 0 and so gets exactly nothing.
        """
        size = x.shape[-2:]
        hidden = tokens_last(x)  # (BT, hw, C)
        source = self.norm_image(tokens_last(image))  # (B, hw, C)
        query = self.to_q(self.norm(hidden) + positions)
        key, value = self.to_k(source + positions), self.to_v(source)
        value = value if keep is None else value * keep
        if self.window is None or self.window >= max(size):
            # The frames of a clip share keys and values: they are one long row of queries.
            seen = attend(query.view(len(image), -1, query.shape[-1]), key, value, self.heads).view_as(hidden)
        else:
            seen = self._attend_windows(query, key, value, size, frames)
        return pixels_last(hidden + self.to_out(seen), size)

    def _attend_windows(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, size: Sequence[int], frames: int
    ) -> torch.Tensor:
        """query (BT, hw, C), key, value (B, hw, C). Gives (BT, hw, C)."""
        assert self.window is not None
        (h, w), side, channels = size, self.window, query.shape[-1]
        bottom, right = -h % side, -w % side
        rows, columns, clips = (h + bottom) // side, (w + right) // side, len(key)
        halo = side // 2

        def around(pixels: torch.Tensor) -> torch.Tensor:  # (B, hw, C) -> (B·rows·columns, 4·side², C)
            padded = F.pad(pixels.unflatten(1, (h, w)), (0, 0, halo, right + halo, halo, bottom + halo))
            windows = padded.unfold(1, 2 * side, side).unfold(
                2, 2 * side, side
            )  # (B, rows, columns, C, 2s, 2s)
            return windows.flatten(4).transpose(3, 4).flatten(0, 2)

        inside = around(key.new_ones(1, h * w, 1))[..., 0] > 0  # (rows·columns, 4·side²)
        mask = inside.repeat(clips, 1)[:, None, None]
        q = F.pad(query.view(clips, frames, h, w, channels), (0, 0, 0, right, 0, bottom))
        q = q.view(clips, frames, rows, side, columns, side, channels).permute(0, 2, 4, 1, 3, 5, 6)
        seen = attend(q.reshape(-1, frames * side**2, channels), around(key), around(value), self.heads, mask)
        seen = seen.view(clips, rows, columns, frames, side, side, channels).permute(0, 3, 1, 4, 2, 5, 6)
        seen = seen.reshape(clips * frames, rows * side, columns * side, channels)
        return seen[:, :h, :w].flatten(1, 2)
