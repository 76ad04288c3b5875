"""What goes into the video UNet: reading an image UNet from disk, and refusing inputs that do not fit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from modeling.schedule import Prediction


def read_image_unet(folder: Path) -> tuple[UNet2DConditionModel, Prediction | None]:
    """A UNet from its folder or from a Stable Diffusion pipeline's, with what its scheduler says it predicts.

    Raises FileNotFoundError when the folder holds neither.
    """
    inside = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    if not (inside / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds neither a UNet (config.json) nor a Stable Diffusion pipeline (unet/)"
        )
    found: Prediction | None = None
    scheduler = inside.parent / "scheduler" / "scheduler_config.json"
    if scheduler.is_file():
        kind = json.loads(scheduler.read_text()).get("prediction_type", "epsilon")
        found = "v" if kind == "v_prediction" else "epsilon"
    return UNet2DConditionModel.from_pretrained(inside, use_safetensors=True), found


def check_inputs(
    unet: Any,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    tensors: Mapping[str, torch.Tensor | None],
    scalars: Mapping[str, torch.Tensor | None],
) -> None:
    """Raises ValueError that names the input, what it is and what it must be."""
    config, image = unet.config, unet.image.config
    if latents.ndim != 5 or latents.shape[1] != image.in_channels:
        raise ValueError(f"latents must be (B, {image.in_channels}, T, h, w), not {tuple(latents.shape)}")
    clips, _, frames, height, width = latents.shape
    halvings = len(image.block_out_channels) - 1
    if height % 2**halvings or width % 2**halvings:
        raise ValueError(
            f"latents of {height}×{width} cannot be halved {halvings} times: both sides must be multiples "
            f"of {2**halvings}"
        )
    if frames > config.max_frames:
        raise ValueError(f"{frames} frames are more than max_frames={config.max_frames} of this model")
    if timesteps.ndim > 1 or timesteps.numel() not in (1, clips):
        raise ValueError(f"timesteps must be ({clips},), not {tuple(timesteps.shape)}")
    widths = {
        "text_tokens": image.cross_attention_dim,
        "motion_tokens": config.motion_dim,
        "image_tokens": config.image_dim,
    }
    dtypes = {"latents": latents.dtype, "weights": unet.dtype}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        dtypes[name] = tensor.dtype
        expected = (
            f"({clips}, N, {widths[name]})"
            if name in widths
            else f"({clips}, {image.in_channels}, {height}, {width})"
        )
        fits = (
            tensor.ndim == 3 and tensor.shape[0] == clips and tensor.shape[2] == widths[name]
            if name in widths
            else tensor.shape == (clips, image.in_channels, height, width)
        )
        if not fits:
            raise ValueError(f"{name} must be {expected}, not {tuple(tensor.shape)}")
    for name, tensor in scalars.items():
        if tensor is not None and tensor.shape != (clips,):
            raise ValueError(f"{name} must be ({clips},), not {tuple(tensor.shape)}")
    if len(set(dtypes.values())) > 1 and not torch.is_autocast_enabled(latents.device.type):
        named = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise ValueError(f"mixed dtypes: {named}; bring them to one dtype or use torch.autocast")
