"""From decoded rows to what the model sees: stacked tensors, frozen text encoders, conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modeling.randomness import SampleRandomness, randomised, sample_randomness
from modeling.text import appearance_ids, encode_appearance, encode_motion, without_padding
from pipelines.models import load_motion_encoder, load_text_encoder
from pipelines.recipe import Recipe
from pipelines.training.stream import Sample


class Prepared(NamedTuple):
    """One worker's part of a batch, made ahead in a thread: no network has run yet."""

    samples: list[Sample]
    rows: dict[str, Tensor]  # the shards' columns, stacked: (B, ...)
    randomness: SampleRandomness


def prepare(
    samples: list[Sample],
    rows: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    drop_probability: float,
    motion_score_drop_probability: float,
    image_noise: float,
    num_train_timesteps: int,
) -> Prepared:
    """Stack rows and draw everything that is random about them."""
    columns = [name for name, value in rows[0].items() if isinstance(value, Tensor)]
    stacked = {name: torch.stack([row[name] for row in rows]) for name in columns}
    randomness = sample_randomness(
        seed,
        [sample.number for sample in samples],
        latent_shape=stacked["latents_mean"].shape[1:],
        num_train_timesteps=num_train_timesteps,
        drop_probability=drop_probability,
        motion_score_drop_probability=motion_score_drop_probability,
        image_noise=image_noise,
    )
    return Prepared(samples, stacked, randomness)


@dataclass
class Encoders:
    """The frozen text encoders, and what dropping a caption puts in its place."""

    text: Any
    motion: Any | None
    empty_text_tokens: Tensor  # (1, N, D)

    @classmethod
    def load(cls, recipe: Recipe, device: torch.device) -> "Encoders":
        text, tokenizer = load_text_encoder(recipe.models.text_to_image)
        text = text.to(device)
        motion = None
        if recipe.model.motion_encoder:
            motion = load_motion_encoder(recipe.models.motion_encoder)[0].to(device)
        return cls(text, motion, encode_appearance(text, appearance_ids(tokenizer, [""])))

    @torch.no_grad()
    def conditions(self, ready: Prepared, *, fps: float, motion_scores: bool) -> dict[str, Any]:
        """Batch of `modeling.objective`, nothing random done to it yet; float32, on the encoders' device."""
        device = self.empty_text_tokens.device
        rows = {name: tensor.to(device, non_blocking=True) for name, tensor in ready.rows.items()}
        batch: dict[str, Any] = {
            "latents": rows["latents_mean"].float(),
            "text_tokens": encode_appearance(self.text, rows["text_ids"].long()),
            "fps": torch.full((len(ready.samples),), fps, device=device),
            "image_tokens": rows["image_features"].float(),
            "flow": rows["flow"].float(),
            "flow_valid": rows["flow_valid"].float(),
        }
        if self.motion is not None:
            ids = without_padding(ready.rows["motion_ids"].long())
            batch["motion_tokens"], batch["motion_mask"] = encode_motion(self.motion, ids)
        if motion_scores:
            scores = [sample.motion_score for sample in ready.samples]
            batch["motion_score"] = torch.tensor(scores, device=device)
        return batch

    def model_batch(
        self, ready: Prepared, *, fps: float, motion_scores: bool, dtype: torch.dtype
    ) -> tuple[dict[str, Tensor | None], SampleRandomness]:
        """What the model trains on, in `dtype`: posterior sampled, image noised, conditions dropped.

        motion_scores: whether the model is told them; then every sample has one.
        """
        conditions = self.conditions(ready, fps=fps, motion_scores=motion_scores)
        device = self.empty_text_tokens.device
        randomness = ready.randomness.to(device)
        batch = randomised(
            conditions,
            randomness,
            latents_std=ready.rows["latents_std"].to(device).float(),
            empty_text_tokens=self.empty_text_tokens,
        )
        return {name: _cast(tensor, dtype) for name, tensor in batch.items()}, randomness.to(device, dtype)


def _cast(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return tensor.to(dtype) if tensor is not None and tensor.is_floating_point() else tensor
