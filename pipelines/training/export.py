"""A network of a stage, with everything that it needs to draw, as a diffusers pipeline."""

from typing import Any

from modeling.pipeline import FactorizedDreamerPipeline
from modeling.schedule import STABLE_DIFFUSION_TERMINAL_SNR, NoiseSchedule, Prediction
from modeling.unet import FactorizedUNet
from pipelines.models import load_image_encoder, load_motion_encoder, load_text_encoder, load_vae
from pipelines.recipe import Recipe


def assemble_pipeline(
    recipe: Recipe, unet: FactorizedUNet, schedule: NoiseSchedule
) -> FactorizedDreamerPipeline:
    """`unet` with the recipe's frozen networks and a sampler over the betas that it was trained with."""
    text_encoder, tokenizer = load_text_encoder(recipe.models.text_to_image)
    optional: dict[str, Any] = {}
    if recipe.model.motion_encoder:
        encoder, motion_tokenizer = load_motion_encoder(recipe.models.motion_encoder)
        optional |= {"motion_encoder": encoder, "motion_tokenizer": motion_tokenizer}
    if recipe.model.adapter:
        optional["image_encoder"] = load_image_encoder(recipe.models.image_encoder)
    return FactorizedDreamerPipeline(
        unet=unet.eval().requires_grad_(False),
        vae=load_vae(recipe.models.text_to_image),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=schedule.to_diffusers_scheduler(
            recipe.evaluate.sampling.scheduler if recipe.evaluate else "ddim"
        ),
        image_token_count=recipe.curation.precompute.image_tokens,
        motion_token_count=recipe.curation.precompute.motion_tokens,
        **optional,
    )


def untrained_schedule(recipe: Recipe, unet: FactorizedUNet) -> NoiseSchedule:
    """The schedule of the last stage, or Stable Diffusion's own if the image UNet predicts otherwise."""
    predicts: Prediction = unet.config.prediction or "epsilon"
    if recipe.train is not None and recipe.train.stages[-1].schedule.prediction == predicts:
        return NoiseSchedule(**recipe.train.stages[-1].schedule.model_dump())
    terminal_snr = 0.0 if predicts == "v" else STABLE_DIFFUSION_TERMINAL_SNR
    return NoiseSchedule(terminal_snr=terminal_snr, prediction=predicts)
