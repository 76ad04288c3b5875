"""Configurations, without weights, of the models that the recipes `paper` and `small_gpu` name."""

import json
from pathlib import Path
from typing import Any

from transformers import CLIPConfig, CLIPTextConfig, T5Config


def write_configurations(folder: Path) -> None:
    """Into `folder/models`, where the recipes look for them from `folder`."""
    models = folder / "models"
    _write_stable_diffusion(models / "stable-diffusion-2-1")
    _write(models / "CLIP-ViT-H-14-laion2B-s32B-b79K", _clip(text=(1024, 24, 16), image=(1280, 32, 16)))
    _write(models / "clip-vit-large-patch14", _clip(text=(768, 12, 12), image=(1024, 24, 16)))
    _write(models / "flan-t5-xl", _t5(2048, 5120, layers=24, heads=32))
    _write(models / "flan-t5-base", _t5(768, 2048, layers=12, heads=12))


def _write_stable_diffusion(folder: Path) -> None:
    unet = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 96,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    }
    vae = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "latent_channels": 4,
        "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }
    text = CLIPTextConfig(**_tower(1024, 23, 16), projection_dim=512).to_dict()
    for part, config in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        _write(folder / part, config)
    (folder / "scheduler").mkdir()
    scheduler = {"prediction_type": "v_prediction"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def _clip(text: tuple[int, int, int], image: tuple[int, int, int]) -> dict[str, Any]:
    """Both towers as (width, layers, heads)."""
    dim = {"projection_dim": text[0]}
    vision = {**_tower(*image), **dim, "patch_size": 14, "image_size": 224}
    return CLIPConfig(text_config={**_tower(*text), **dim}, vision_config=vision, **dim).to_dict()


def _tower(width: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _t5(width: int, inner: int, *, layers: int, heads: int) -> dict[str, Any]:
    return T5Config(
        d_model=width, d_kv=64, d_ff=inner, num_layers=layers, num_heads=heads, feed_forward_proj="gated-gelu"
    ).to_dict()


def _write(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
