"""The objective: ε (as in the paper) or v prediction, plus a robust loss on the predicted flow.

A batch is a mapping; what is absent or None is absent from the model too:
    latents (B, C, T, h, w), scaled; text_tokens (B, N, D); motion_tokens (B, N, D); motion_mask (B, N) bool;
    image_tokens (B, N, D); image_latents (B, C, h, w); image_mask (B,) bool; fps (B,); motion_score (B,);
    flow (B, 2, T − 1, h, w) in latent pixels per frame; flow_valid (B, T − 1, h, w), 1 where it supervises.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from modeling.schedule import NoiseSchedule

Batch = Mapping[str, torch.Tensor | None]

CONDITIONS = (
    "motion_tokens",
    "motion_mask",
    "image_tokens",
    "image_latents",
    "image_mask",
    "fps",
    "motion_score",
)

# Flow supervises where the noisy latents still show the motion; not given in the paper.
FLOW_MIN_SNR = 0.05
# Charbonnier's ε in latent pixels: below it the loss is quadratic.
CHARBONNIER_EPSILON = 1e-2


class Losses(NamedTuple):
    """Scalars; total = diffusion + flow_weight × flow."""

    total: torch.Tensor
    diffusion: torch.Tensor
    flow: torch.Tensor


def diffusion_loss(
    unet: Any,
    schedule: NoiseSchedule,
    batch: Batch,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    *,
    flow_weight: float = 0.0,
    flow_min_snr: float = FLOW_MIN_SNR,
    valid_pixels: torch.Tensor | float | None = None,
) -> Losses:
    """Mean squared error of the prediction, and flow_weight × Charbonnier loss of the flow.

    noise (B, C, T, h, w); timesteps (B,) long. The flow loss is summed over the valid pixels of samples
    with SNR ≥ flow_min_snr and divided by their number; `valid_pixels` is that number when it is to be
    the mean over several workers (see `count_valid_pixels`), so that the result does not depend on how
    a batch is divided. With flow_weight 0 PredictNet does not run and the flow loss is 0.
    Raises ValueError when flow_weight > 0 and the batch or the model has no flow.
    """
    latents = _required(batch, "latents")
    noisy = schedule.add_noise(latents, noise, timesteps)
    conditions = {name: batch.get(name) for name in CONDITIONS}
    predict_flow = flow_weight > 0
    output = unet(noisy, timesteps, _required(batch, "text_tokens"), **conditions, predict_flow=predict_flow)
    target = schedule.target(latents, noise, timesteps)
    diffusion = (output.sample.float() - target.float()).square().mean()
    if not predict_flow:
        return Losses(diffusion, diffusion, torch.zeros_like(diffusion))
    if output.flow is None:
        raise ValueError("flow_weight > 0, but the model has no PredictNet: build it with predict_net=True")
    weights = flow_weights(schedule, batch, timesteps, flow_min_snr)
    number = weights.sum() if valid_pixels is None else valid_pixels
    number = torch.as_tensor(number, dtype=torch.float32, device=weights.device).clamp(min=1)
    flow = (weights * charbonnier(output.flow.float(), _required(batch, "flow").float())).sum() / number
    return Losses(diffusion + flow_weight * flow, diffusion, flow)


def charbonnier(predicted: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """√(|Δ|² + ε²) − ε of flows (B, 2, T − 1, h, w): (B, T − 1, h, w), in latent pixels."""
    squared = (predicted - flow).square().sum(dim=1)
    return (squared + CHARBONNIER_EPSILON**2).sqrt() - CHARBONNIER_EPSILON


def flow_weights(
    schedule: NoiseSchedule, batch: Batch, timesteps: torch.Tensor, flow_min_snr: float = FLOW_MIN_SNR
) -> torch.Tensor:
    """(B, T − 1, h, w), 1 where the flow supervises: valid pixels of samples with enough SNR."""
    enough = (schedule.snr(timesteps) >= flow_min_snr).float().view(-1, 1, 1, 1)
    valid = batch.get("flow_valid")
    if valid is None:
        flow = _required(batch, "flow")
        return enough.expand(len(flow), *flow.shape[2:])
    return enough * valid.float()


def count_valid_pixels(
    schedule: NoiseSchedule, batch: Batch, timesteps: torch.Tensor, flow_min_snr: float = FLOW_MIN_SNR
) -> torch.Tensor:
    """Pixels that supervise flow in this worker's batch; their mean over workers is `valid_pixels`."""
    return flow_weights(schedule, batch, timesteps, flow_min_snr).sum()


def _required(batch: Batch, name: str) -> torch.Tensor:
    tensor = batch.get(name)
    if tensor is None:
        present = ", ".join(sorted(key for key, value in batch.items() if value is not None))
        raise ValueError(f"the batch has no {name!r}; it has {present}")
    return tensor
