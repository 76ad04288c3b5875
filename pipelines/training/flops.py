"""Floating-point operations of a training step."""

from collections.abc import Collection
from typing import Any

import torch

from modeling.unet import FactorizedUNet
from pipelines.operations import count_flop, counted_in_full


def clip_flop(
    unet_config: dict[str, Any],
    trained: Collection[str],
    shapes: dict[str, tuple[int, ...]],
    *,
    predict_flow: bool,
    device: str = "meta",
) -> int:
    """Operations of forward and backward of the video UNet for one clip.

    trained: names of parameters with gradient. shapes: of the UNet's inputs for one clip, with the batch
    axis: `latents`, `text_tokens` and what else it gets. A multiplication and an addition are two. Frozen
    encoders are not counted. device: "meta" allocates nothing, but takes seconds; a small model is counted
    sooner by running it once on "cpu".
    """
    with counted_in_full(device), torch.random.fork_rng(devices=[]):
        unet = partly_trained(unet_config, trained)
        inputs = {name: torch.zeros(shape) for name, shape in shapes.items()}
        timesteps = torch.zeros(1, dtype=torch.long)
        if "motion_tokens" in inputs:
            inputs["motion_mask"] = torch.ones(inputs["motion_tokens"].shape[:2], dtype=torch.bool)
        if "image_latents" in inputs:
            inputs["image_mask"] = torch.ones(1, dtype=torch.bool)
        latents, text = inputs.pop("latents"), inputs.pop("text_tokens")

        def step() -> None:
            output = unet(latents, timesteps, text, **inputs, predict_flow=predict_flow)
            total = output.sample.sum()
            if output.flow is not None:
                total = total + output.flow.sum()
            total.backward()

        return count_flop(step)


def partly_trained(unet_config: dict[str, Any], trained: Collection[str]) -> FactorizedUNet:
    """A video UNet on the current default device, of which the parameters named in `trained` train."""
    unet = FactorizedUNet.from_config(unet_config)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(name in trained)
    return unet
