"""Text for the model: CLIP tokens of the appearance caption, T5 (or CLIP) tokens of the motion caption."""

from collections.abc import Sequence
from typing import Any

import torch

NO_TOKEN = -1  # 0 is a word of some tokenizers


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
    """Ids (B, length) with the tokenizer's special ones, cut to `length` and padded with NO_TOKEN.

    A caption without a word has no token at all.
    """
    longest = min(length, tokenizer.model_max_length)
    encoded = tokenizer(list(captions), max_length=longest, truncation=True).input_ids
    said = [ids if caption.strip() else [] for ids, caption in zip(encoded, captions, strict=True)]
    return torch.tensor([ids + [NO_TOKEN] * (length - len(ids)) for ids in said], dtype=torch.long)


def without_padding(ids: torch.Tensor) -> torch.Tensor:
    """Ids (B, N) up to the longest caption, one at least: padding is masked, so less of it is the same."""
    return ids[:, : max(1, int((ids != NO_TOKEN).sum(1).max()))]


@torch.no_grad()
def encode_appearance(text_encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """ids (B, N) -> last hidden states (B, N, D)."""
    return text_encoder(ids.to(text_encoder.device)).last_hidden_state


@torch.no_grad()
def encode_motion(motion_encoder: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B, N) of `motion_ids` -> (last hidden states (B, N, D), mask (B, N) bool, False at padding).

    motion_encoder: a T5 encoder or a CLIP text model.
    """
    ids = ids.to(motion_encoder.device)
    mask = ids != NO_TOKEN
    seen = mask.clone()
    seen[:, 0] = True  # attention over nothing is not a number; the mask hides what comes of it
    return motion_encoder(input_ids=ids.clamp(min=0), attention_mask=seen).last_hidden_state, mask
