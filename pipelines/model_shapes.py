"""What a recipe's model folders say about shapes: their config.json alone, no weights."""

import json
from math import isqrt
from typing import Any

from pipelines.models import resolve_model
from pipelines.recipe import Bucket, Recipe

FLOAT16_BYTES, INT32_BYTES = 2, 4


def model_config(path: str, part: str = "") -> dict[str, Any]:
    """A model folder's config.json; {} when the folder or the file is missing."""
    return model_json(path, part, "config.json")


def model_json(path: str, part: str, name: str) -> dict[str, Any]:
    """A JSON file of a model folder; {} when the folder or the file is missing."""
    try:
        return json.loads((resolve_model(path) / part / name).read_text())
    except FileNotFoundError:
        return {}


def vae_factor(recipe: Recipe) -> int | None:
    """Pixels per latent pixel; None when the VAE's configuration cannot be read."""
    levels = model_config(recipe.models.text_to_image, "vae").get("block_out_channels")
    return 2 ** (len(levels) - 1) if levels else None


def latent_shape(recipe: Recipe, bucket: Bucket) -> tuple[int, int, int, int]:
    """(C, T, h, w) of a clip's latents; Stable Diffusion's where a VAE's configuration does not say."""
    factor = vae_factor(recipe) or 8
    channels = model_config(recipe.models.text_to_image, "vae").get("latent_channels", 4)
    return channels, bucket.frames, bucket.height // factor, bucket.width // factor


def clip_bytes(recipe: Recipe, bucket: Bucket) -> int:
    """Bytes of one clip in a shard: latents' mean and deviation, flow and its mask, image features, ids."""
    channels, frames, height, width = latent_shape(recipe, bucket)
    area = height * width
    latents = 2 * channels * frames * area * FLOAT16_BYTES
    flow = (frames - 1) * area * (2 * FLOAT16_BYTES + 1)
    tokens, features = image_feature_shape(recipe)
    ids = (text_token_count(recipe) + recipe.curation.precompute.motion_tokens) * INT32_BYTES
    return latents + flow + tokens * features * FLOAT16_BYTES + ids


def image_feature_shape(recipe: Recipe) -> tuple[int, int]:
    """(tokens, width) of a clip's image features: a square of the patches' grid, see `image_tokens`."""
    config = model_config(recipe.models.image_encoder)
    vision = config.get("vision_config") or config
    patches = vision.get("image_size", 224) // vision.get("patch_size", 32)  # CLIPVisionConfig's defaults
    side = min(isqrt(recipe.curation.precompute.image_tokens), patches)
    return side**2, vision.get("hidden_size", 768)


def text_token_count(recipe: Recipe) -> int:
    """Ids of an appearance caption, padding included."""
    config = model_config(recipe.models.text_to_image, "text_encoder")
    return int(config.get("max_position_embeddings", 77))  # CLIPTextConfig's default
