"""Stable Diffusion's blocks, walked with the frames folded into the batch.

The weights live in diffusers' own modules; only the walk is written here, because it differs from the
image model's in three ways: the text's keys and values are computed once per clip and not once per frame,
the image tokens join the text's cross-attention, and memory is channels-last where pixels are many, so that
going from pixels to tokens and back copies nothing.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from modeling.adapter import DecoupledAttention
from modeling.layers import attend, pixels_last, tokens_last

DOWN_BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D")
MID_BLOCKS = ("UNetMidBlock2DCrossAttn", None)
UP_BLOCKS = ("CrossAttnUpBlock2D", "UpBlock2D")

# What Stable Diffusion 1.x and 2.x leave at these values, and the walk below therefore does not handle.
FIXED_SETTINGS = {
    "center_input_sample": False,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "num_class_embeds": None,
    "addition_embed_type": None,
    "encoder_hid_dim": None,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "time_embedding_type": "positional",
    "time_embedding_act_fn": None,
    "attention_type": "default",
    "cross_attention_norm": None,
}


def check_supported(config: dict[str, Any]) -> None:
    """Raises ValueError when `config` is not of a UNet of the SD 1.x/2.x family; names what differs."""
    if config.get("addition_embed_type") == "text_time":
        raise ValueError(
            "this is an SDXL UNet, which is not supported: give one of Stable Diffusion 1.x or 2.x"
        )
    faults = [
        f"{key}={config[key]!r} (expected {value!r})"
        for key, value in FIXED_SETTINGS.items()
        if config.get(key, value) != value
    ]
    for key, known in (("down_block_types", DOWN_BLOCKS), ("up_block_types", UP_BLOCKS)):
        faults += [f"{key}: {name!r} (known: {known})" for name in config.get(key, ()) if name not in known]
    if config.get("mid_block_type", MID_BLOCKS[0]) not in MID_BLOCKS:
        faults.append(f"mid_block_type={config['mid_block_type']!r} (known: {MID_BLOCKS})")
    if not isinstance(config.get("cross_attention_dim"), int):
        faults.append(f"cross_attention_dim={config.get('cross_attention_dim')!r} (expected one number)")
    if config.get("in_channels") != config.get("out_channels"):
        faults.append(
            f"in_channels={config.get('in_channels')} differs from out_channels={config.get('out_channels')}"
        )
    if faults:
        raise ValueError("not a UNet of the Stable Diffusion 1.x/2.x family: " + "; ".join(faults))


def places(image: nn.Module) -> Iterator[tuple[str, int, int, nn.Module | None]]:
    """(name, channels, level, attention) of every residual + attention pair, in the order of the walk.

    The name is where temporal modules, adapter and PACA of that pair are kept; the level counts halvings.
    """
    image_: Any = image
    for i, block in enumerate(image_.down_blocks):
        for j, (resnet, attention) in enumerate(pairs(block)):
            yield f"down_{i}_{j}", resnet.out_channels, i, attention
    last = len(image_.down_blocks) - 1
    if image_.mid_block is not None:
        for j, attention in enumerate(image_.mid_block.attentions):
            yield f"mid_{j}", image_.mid_block.resnets[j].out_channels, last, attention
    for i, block in enumerate(image_.up_blocks):
        for j, (resnet, attention) in enumerate(pairs(block)):
            yield f"up_{i}_{j}", resnet.out_channels, last - i, attention


def pairs(block: nn.Module) -> list[tuple[Any, Any]]:
    """[(resnet, attention or None)] of a down or up block."""
    block_: Any = block
    attentions = getattr(block_, "attentions", None)
    return list(
        zip(
            block_.resnets,
            attentions if attentions is not None else [None] * len(block_.resnets),
            strict=True,
        )
    )


def residual(resnet: Any, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    """diffusers' ResnetBlock2D. x (BT, C, h, w), embedding (BT, E) after its activation."""
    x = _laid_out(x, resnet.conv1)
    hidden = resnet.conv1(resnet.nonlinearity(resnet.norm1(x)))
    hidden = hidden + resnet.time_emb_proj(embedding)[:, :, None, None]
    hidden = resnet.conv2(resnet.dropout(resnet.nonlinearity(resnet.norm2(hidden))))
    if resnet.conv_shortcut is not None:
        x = resnet.conv_shortcut(x)
    x = hidden + x
    return x if resnet.output_scale_factor == 1 else x / resnet.output_scale_factor


def _laid_out(x: torch.Tensor, convolution: nn.Conv2d) -> torch.Tensor:
    """x (BT, C, h, w) channels-last, or contiguous where it is smaller than the convolution's weights.

    A convolution reorders its weights to the layout of its input. To keep them channels-last would be faster
    still, but DeepSpeed takes contiguous weights only.
    """
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    few = pixels < math.prod(convolution.kernel_size) * convolution.out_channels
    return x.contiguous(memory_format=torch.contiguous_format if few else torch.channels_last)


def _project(transformer: Any, layer: nn.Module, tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """proj_in or proj_out over tokens (BT, hw, C): a linear layer in SD 2.x, a 1×1 convolution in SD 1.x.

    The layer itself is called, and not its weight used, for hooks (ZeRO-3, LoRA) live on the call.
    """
    if transformer.use_linear_projection:
        return layer(tokens)
    return tokens_last(layer(pixels_last(tokens, size)))


def spatial_transformer(
    transformer: Any,
    x: torch.Tensor,
    text: torch.Tensor,
    image: tuple[torch.Tensor, torch.Tensor | None] | None,
    decoupled: Sequence[DecoupledAttention] | None,
) -> torch.Tensor:
    """diffusers' Transformer2DModel, with decoupled attention to the image beside the text.

    x (B·T, C, h, w); text (B, N, D); image: tokens (B, Q, D) and keep (B, 1, 1) or None, or None.
    """
    size = x.shape[-2:]
    hidden = _project(transformer, transformer.proj_in, tokens_last(transformer.norm(x)), size)  # (BT, hw, C)
    for index, block in enumerate(transformer.transformer_blocks):
        hidden = hidden + _self_attention(block.attn1, block.norm1(hidden))
        normed = block.norm2(hidden).view(len(text), -1, hidden.shape[-1])  # (B, T·hw, C)
        beside = decoupled[index] if decoupled is not None and image is not None else None
        hidden = hidden + _cross_attention(block.attn2, normed, text, image, beside).view_as(hidden)
        hidden = hidden + block.ff(block.norm3(hidden))
    return x + pixels_last(_project(transformer, transformer.proj_out, hidden, size), size)


def _self_attention(attention: Any, x: torch.Tensor) -> torch.Tensor:
    seen = attend(attention.to_q(x), attention.to_k(x), attention.to_v(x), attention.heads)
    return attention.to_out[1](attention.to_out[0](seen))


def _cross_attention(
    attention: Any,
    x: torch.Tensor,
    text: torch.Tensor,
    image: tuple[torch.Tensor, torch.Tensor | None] | None,
    beside: DecoupledAttention | None,
) -> torch.Tensor:
    query = attention.to_q(x)
    seen = attend(query, attention.to_k(text), attention.to_v(text), attention.heads)
    if beside is not None and image is not None:
        seen = seen + beside(query, *image, attention.heads)
    return attention.to_out[1](attention.to_out[0](seen))


def upsample(upsampler: Any, x: torch.Tensor) -> torch.Tensor:
    """diffusers' Upsample2D, (BT, C, h, w) -> (BT, C, 2h, 2w), laid out as is best for its convolution."""
    return upsampler.conv(_laid_out(F.interpolate(x, scale_factor=2.0, mode="nearest"), upsampler.conv))
