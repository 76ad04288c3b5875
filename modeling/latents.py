"""Pixels to scaled latents and back: the one place where the VAE's scaling factor is applied."""

from typing import Any

import torch

# `device` is where the VAE runs: it differs from where its parameters are while they are offloaded.


@torch.no_grad()
def encode_pixels(
    vae: Any, pixels: torch.Tensor, device: torch.device | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """pixels (N, 3, H, W) in 0..1 -> (mean, std) of the posterior, each (N, C, h, w), both scaled."""
    parameter = next(vae.parameters())
    posterior = vae.encode((2 * pixels - 1).to(device or parameter.device, parameter.dtype)).latent_dist
    return posterior.mean * vae.config.scaling_factor, posterior.std * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(
    vae: Any, latents: torch.Tensor, chunk: int | None = None, device: torch.device | None = None
) -> torch.Tensor:
    """Scaled latents (N, C, h, w) -> pixels (N, 3, H, W) in 0..1, float32; at most `chunk` at a time."""
    parameter = next(vae.parameters())
    parts = (
        (latents / vae.config.scaling_factor)
        .to(device or parameter.device, parameter.dtype)
        .split(chunk or len(latents))
    )
    pixels = torch.cat([vae.decode(part).sample for part in parts])
    return (pixels.float() / 2 + 0.5).clamp(0, 1)
