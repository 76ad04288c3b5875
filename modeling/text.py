"""Text for the model: CLIP tokens of the appearance caption, T5 tokens of the motion caption."""

from collections.abc import Sequence
from typing import Any

import torch


def appearance_ids(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    """CLIP ids (B, N), padded and cut to the tokenizer's length, as Stable Diffusion has them."""
    return tokenizer(
        list(captions),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def motion_ids(tokenizer: Any, captions: Sequence[str], length: int) -> torch.Tensor:
    """T5 ids (B, length) with end token, cut to `length` and padded with 0."""
    encoded = tokenizer(list(captions), max_length=length, truncation=True).input_ids
    return torch.tensor([ids + [0] * (length - len(ids)) for ids in encoded], dtype=torch.long)


@torch.no_grad()
def encode_appearance(text_encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """ids (B, N) -> last hidden states (B, N, D)."""
    return text_encoder(ids.to(text_encoder.device)).last_hidden_state


@torch.no_grad()
def encode_motion(motion_encoder: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B, N), 0 at padding -> (last hidden states (B, N, D), mask (B, N) bool, False at padding)."""
    ids = ids.to(motion_encoder.device)
    mask = ids != 0
    return motion_encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask
