"""CLIP image features of a conditioning frame, computed in one way for curation, training and sampling."""

import math
from typing import Any

import torch
import torch.nn.functional as F

# OpenAI's CLIP normalisation, the same in every CLIP folder of the hub.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(images: torch.Tensor, side_pixels: int) -> torch.Tensor:
    """Pixels as CLIP wants them; the whole frame is squeezed into the square, nothing is cropped.

    images: (B, 3, H, W) in 0..1. Returns (B, 3, side_pixels, side_pixels), normalised.
    """
    images = F.interpolate(images, (side_pixels, side_pixels), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


@torch.no_grad()
def image_tokens(encoder: Any, images: torch.Tensor, tokens: int) -> torch.Tensor:
    """Patch tokens of CLIP's vision tower, averaged on their grid to at most `tokens` of them.

    encoder: CLIPVisionModelWithProjection or CLIPVisionModel. images (B, 3, H, W) in 0..1. Gives
    (B, n², D) with n = min(⌊√tokens⌋, patches per side), in the encoder's dtype, without the class token.
    """
    parameter = next(encoder.parameters())
    pixels = clip_pixels(images.to(parameter.device, torch.float32), encoder.config.image_size).to(
        parameter.dtype
    )
    patches = encoder(pixel_values=pixels).last_hidden_state[:, 1:]  # (B, N, D)
    side = math.isqrt(patches.shape[1])
    pooled_side = min(math.isqrt(tokens), side)
    grid = patches.transpose(1, 2).unflatten(2, (side, side))  # (B, D, side, side)
    return F.adaptive_avg_pool2d(grid, pooled_side).flatten(2).transpose(1, 2)
