"""The tiny Stable Diffusion: a text-to-image model that draws single frames of SpriteWorld."""

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from modeling.schedule import Prediction
from pipelines.embedded.frames import Stills
from pipelines.progress import track

TEXT_DROP = 0.1
SIDES_PIXELS = (48, 32, 48)  # in turn
# Of the loss where a sprite is, over that of the background: shapes are little of the picture and are learned
# last. It changes nothing in what the best prediction is, for every place is predicted by itself.
SPRITE_WEIGHT = 6.0


def train_image_model(
    stills: Stills,
    vae: AutoencoderKL,
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    steps: int,
    batch: int = 48,
    prediction: Prediction = "v",
) -> StableDiffusionPipeline:
    """The saved weights are an exponential moving average.

    prediction: v with zero terminal SNR, or ε with Stable Diffusion's own betas: at SNR 0 it has no signal.
    """
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction" if prediction == "v" else "epsilon",
        rescale_betas_zero_snr=prediction == "v",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=12,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    text_encoder = CLIPTextModel(clip.config.text_config)
    text_encoder.load_state_dict(clip.text_model.state_dict())
    text_encoder.eval()
    tokens = tokenizer([*stills.captions, ""], padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        text = text_encoder(
            tokens["input_ids"]
        ).last_hidden_state  # (N + 1, tokens, 64); the last is the empty text
        latents = {side: _encode(vae, stills, side) for side in set(SIDES_PIXELS)}
    weights = {side: _loss_weights(stills, encoded.shape[-1]) for side, encoded in latents.items()}
    average = torch.optim.swa_utils.AveragedModel(
        unet, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.05)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    with track(steps, "text-to-image UNet") as progress:
        for step in range(steps):
            side = SIDES_PIXELS[step % len(SIDES_PIXELS)]
            numbers = rng.integers(0, len(stills.frames), batch)
            x0 = latents[side][numbers].float()
            noise = torch.randn(x0.shape, generator=generator)
            timesteps = torch.randint(0, 1000, (batch,), generator=generator)
            words = np.where(rng.random(batch) < TEXT_DROP, len(stills.frames), numbers)
            predicted = unet(scheduler.add_noise(x0, noise, timesteps), timesteps, text[words]).sample
            target = noise if prediction == "epsilon" else scheduler.get_velocity(x0, noise, timesteps)
            error = F.mse_loss(predicted, target, reduction="none")
            loss = (weights[side][numbers] * error).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(unet)
            progress.advance(detail=f"loss {loss.item():.4f}")
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=average.module.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _loss_weights(stills: Stills, cells: int) -> torch.Tensor:
    """(N, 1, cells, cells) of mean 1."""
    weights = torch.where(stills.sprite_cells(cells), SPRITE_WEIGHT, 1.0)
    return weights / weights.mean()


def _encode(vae: AutoencoderKL, stills: Stills, side_pixels: int) -> torch.Tensor:
    """(N, C, h, w) float16 scaled latents of all stills."""
    chunks = np.array_split(np.arange(len(stills.frames)), max(1, len(stills.frames) // 64))
    means = [vae.encode(stills.pixels(chunk, side_pixels)).latent_dist.mean for chunk in chunks]
    return (torch.cat(means) * vae.config.scaling_factor).half()
