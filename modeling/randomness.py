"""Everything random about a training sample, as a pure function of (seed, global sample number).

So a sample is the same whichever worker sees it, in whichever batch, after whichever resume.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from modeling.objective import Batch


class SampleRandomness(NamedTuple):
    """One row per sample; float32 on the CPU unless moved with `.to`."""

    noise: torch.Tensor  # (B, C, T, h, w) standard normal: ε of the diffusion
    vae_noise: torch.Tensor  # (B, C, T, h, w) standard normal: samples the VAE's posterior
    image_noise: torch.Tensor  # (B, C, h, w) normal, scaled: added to the conditioning image's latent
    timesteps: torch.Tensor  # (B,) long, uniform
    keep_text: torch.Tensor  # (B,) bool, False: appearance and motion text are dropped, together
    keep_image: torch.Tensor  # (B,) bool, False: the image is dropped
    keep_motion_score: torch.Tensor  # (B,) bool, False: the motion score is not told

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "SampleRandomness":
        """Moved to a device; floating tensors to `dtype`."""
        return SampleRandomness(*(x.to(device, dtype if x.is_floating_point() else None) for x in self))


def sample_seed(seed: int, sample_number: int) -> int:
    """63 bits of SHA-256 over both numbers: neighbouring samples share nothing."""
    digest = hashlib.sha256(f"{seed}:{sample_number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sample_randomness(
    seed: int,
    sample_numbers: Iterable[int],
    *,
    latent_shape: Sequence[int],
    num_train_timesteps: int = 1000,
    drop_probability: float = 0.05,
    motion_score_drop_probability: float = 0.0,
    image_noise: float = 0.0,
) -> SampleRandomness:
    """Draws for the samples of a batch, each from a generator of its own.

    latent_shape: (C, T, h, w). drop_probability p: one uniform r per sample; text is dropped for r < 2p,
    the image for p ≤ r < 3p. The motion score is dropped independently of both. image_noise: largest
    standard deviation of the noise on the image latent; a sample's is uniform up to that times
    t / (num_train_timesteps − 1), for the leakage of the image is worst at large t (Zhao et al.,
    arXiv 2406.15735).
    """
    channels, _, height, width = latent_shape
    rows = []
    for number in sample_numbers:
        generator = torch.Generator().manual_seed(sample_seed(seed, number))
        # The scalars come first, so that they do not depend on the bucket's size.
        r, strength = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        timestep = torch.randint(num_train_timesteps, (), generator=generator)
        score = torch.rand((), generator=generator)
        deviation = image_noise * strength * timestep.item() / max(num_train_timesteps - 1, 1)
        rows.append(
            (
                torch.randn(*latent_shape, generator=generator),
                torch.randn(*latent_shape, generator=generator),
                torch.randn(channels, height, width, generator=generator) * deviation,
                timestep,
                torch.tensor(not r < 2 * drop_probability),
                torch.tensor(not drop_probability <= r < 3 * drop_probability),
                score >= motion_score_drop_probability,
            )
        )
    return SampleRandomness(*(torch.stack(column) for column in zip(*rows, strict=True)))


def randomised(
    batch: Batch,
    randomness: SampleRandomness,
    *,
    latents_std: torch.Tensor | None,
    empty_text_tokens: torch.Tensor,
) -> dict[str, torch.Tensor | None]:
    """The batch that the model sees: VAE posterior sampled, image latent noised, conditions dropped.

    batch["latents"] is the posterior's mean, latents_std (B, C, T, h, w) its deviation (None: the mean is
    used). The conditioning image is the first frame's mean, as in sampling, plus noise, unless the batch
    brings `image_latents`. empty_text_tokens (1 or B, N, D): CLIP tokens of the empty prompt.
    """
    mean = batch["latents"]
    if mean is None:
        raise ValueError("the batch has no 'latents'")
    result = dict(batch)
    result["latents"] = mean if latents_std is None else mean + latents_std * randomness.vae_noise
    image = batch.get("image_latents")
    result["image_latents"] = (mean[:, :, 0] if image is None else image) + randomness.image_noise
    result["image_mask"] = _both(batch.get("image_mask"), randomness.keep_image)
    score = batch.get("motion_score")
    if score is not None:
        result["motion_score"] = score.masked_fill(~randomness.keep_motion_score, torch.nan)
    text, keep_text = batch["text_tokens"], randomness.keep_text[:, None]
    if text is None:
        raise ValueError("the batch has no 'text_tokens'")
    result["text_tokens"] = torch.where(keep_text[..., None], text, empty_text_tokens)
    motion = batch.get("motion_tokens")
    if motion is not None:
        mask = batch.get("motion_mask")
        mask = motion.new_ones(motion.shape[:2], dtype=torch.bool) if mask is None else mask
        result["motion_mask"] = mask & keep_text
    return result


def _both(mask: torch.Tensor | None, keep: torch.Tensor) -> torch.Tensor:
    return keep if mask is None else mask & keep
