"""PredictNet: optical flow from the decoder's features, to supervise motion in the last stage of training.

Features of every decoder scale are brought to one width and to latent resolution and summed; each pair of
adjacent frames then gives its flow. Layers and widths are not given in the paper. Nothing here is zero at
initialisation: a zero head would keep the flow loss from reaching the temporal modules.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class PredictNet(nn.Module):
    def __init__(self, decoder_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in decoder_channels)
        self.norm = nn.GroupNorm(min(8, width), width)
        self.pair = nn.Conv2d(2 * width, width, 3, padding=1)
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, features: Sequence[torch.Tensor], frames: int) -> torch.Tensor:
        """features: (B·T, C_i, h_i, w_i), coarse to fine. Gives flow (B, 2, T − 1, h, w):
        (dx, dy) from frame t to t + 1, right and down positive, in latent pixels per frame,
        at the size of the finest features.
        """
        size = features[-1].shape[-2:]
        x: torch.Tensor | None = None
        for lateral, feature in zip(self.laterals, features, strict=True):
            level = lateral(feature)
            if level.shape[-2:] != size:
                level = F.interpolate(level, size, mode="nearest")
            x = level if x is None else x + level
        assert x is not None
        x = F.silu(self.norm(x)).unflatten(0, (-1, frames))  # (B, T, P, h, w)
        pairs = torch.cat((x[:, :-1], x[:, 1:]), dim=2).flatten(0, 1)  # (B·(T − 1), 2P, h, w)
        hidden = F.silu(self.pair(pairs))
        hidden = F.silu(self.refine(hidden))
        return self.head(hidden).unflatten(0, (-1, frames - 1)).transpose(1, 2)
