"""What training is measured against: the same steps in PyTorch alone, and encoding in place of reading."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modeling.image_features import image_tokens
from modeling.latents import encode_pixels
from modeling.objective import diffusion_loss
from modeling.randomness import SampleRandomness
from modeling.schedule import NoiseSchedule
from pipelines.models import load_image_encoder, load_vae
from pipelines.recipe import Bucket, Recipe, StageSettings, TrainSettings, parse_bucket
from pipelines.training.ema import decay
from pipelines.training.engine import learning_rate

ModelBatch = tuple[dict[str, Any], SampleRandomness]


def seconds_of(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Wall time of `work` with all that it left to the GPU, and what it returned."""
    _wait(device)
    started = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - started, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class BareLoop:
    """AdamW, clipping and EMA over a network whose batches lie in memory as it takes them, in fp32."""

    def __init__(
        self, network: nn.Module, stage: StageSettings, settings: TrainSettings, schedule: NoiseSchedule
    ) -> None:
        """network: in training mode on its device; what requires a gradient is trained."""
        self.network, self.stage, self.settings, self.schedule = network, stage, settings, schedule
        self.weights = [p for p in network.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.weights]
        # Fused is the fastest AdamW that PyTorch has, on a GPU and on a CPU.
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=stage.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def step(self, number: int, last: int, batch: ModelBatch) -> float:
        """Step `number` (from 1) of `last`; returns the loss."""
        inputs, draws = batch
        self.optimizer.zero_grad()
        losses = diffusion_loss(
            self.network,
            self.schedule,
            inputs,
            draws.noise,
            draws.timesteps,
            flow_weight=self.stage.flow_weight,
            flow_min_snr=self.stage.flow_min_snr,
        )
        losses.total.backward()
        nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.stage, number, last)
        self.optimizer.step()
        clips = self.settings.global_batch_clips
        kept = decay(number * clips, clips, self.settings.ema_half_life_samples)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1.0 - kept)
        return losses.total.item()


class FrameEncoders:
    """The networks that a step needs on top when no shard holds latents and image features."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        # The layout that curation encodes in.
        self.vae = load_vae(recipe.models.text_to_image).to(device, memory_format=torch.channels_last)
        self.image_encoder = load_image_encoder(recipe.models.image_encoder).to(device)
        self.tokens = recipe.curation.precompute.image_tokens
        self.device = device

    def seconds(self, frames: Tensor) -> dict[str, float]:
        """Of encoding frames (B, T, H, W, 3) uint8, which lie decoded in memory, with each network."""

        def pixels() -> Tensor:
            return frames.to(self.device).permute(0, 1, 4, 2, 3).float() / 255  # (B, T, 3, H, W)

        def latents() -> Any:
            images = pixels().flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (BT, 3, H, W)
            return encode_pixels(self.vae, images)

        def features() -> Tensor:
            return image_tokens(self.image_encoder, pixels()[:, 0], self.tokens)

        vae, _ = seconds_of(latents, self.device)
        image, _ = seconds_of(features, self.device)
        return {"vae": vae, "image_encoder": image}


def random_frames(clips: int, bucket: str) -> Tensor:
    """(clips, T, H, W, 3) uint8: what they show makes no network faster or slower."""
    size = Bucket.model_validate(parse_bucket(bucket))
    generator = torch.Generator().manual_seed(0)
    shape = (clips, size.frames, size.height, size.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
