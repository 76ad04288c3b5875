"""Preflight of the models: folders, configurations and weights that are missing, parts that do not fit."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from pipelines.model_shapes import model_config, model_json
from pipelines.models import is_clip_text, resolve_model
from pipelines.recipe import Recipe

WRITING_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
DECODER_GB = 1.0  # a decoder process without networks, generously
DEFAULT_PROJECTION_DIM = 512  # CLIPConfig's, for a configuration that does not say it

Faults = Iterator[str]


def model_faults(recipe: Recipe, steps: tuple[str, ...]) -> Faults:
    """Folders, configurations and weights that are missing, and parts that do not fit together."""
    models = recipe.models
    yield from _folder_faults("models.text_to_image", models.text_to_image, ("vae", "unet", "text_encoder"))
    if models.image_unet is not None:
        yield from _folder_faults("models.image_unet", models.image_unet, ("unet",))
    if "train" in steps and not model_json(models.start_unet, "scheduler", "scheduler_config.json"):
        where = "models.image_unet" if models.image_unet else "models.text_to_image"
        yield (
            f"{where}: {models.start_unet} has no scheduler/scheduler_config.json, "
            "which says what its weights predict; give a whole Stable Diffusion folder"
        )
    yield from _folder_faults("models.image_encoder", models.image_encoder, ("",))
    yield from _folder_faults("models.motion_encoder", models.motion_encoder, ("",))
    if models.flow is not None and not (Path(models.flow).is_file() and models.flow.endswith(".pt2")):
        yield f"models.flow: no file {models.flow}; `torch.export.save(program, 'raft.pt2')` makes one"
    if "curate" in steps:
        yield from caption_model_faults(recipe)
        yield from image_score_faults(recipe)
    weights = recipe.curation.shots.weights
    if weights is not None and not os.path.isfile(weights):
        yield f"curation.shots.weights: no file {weights}; it is TransNetV2's, .pth or .safetensors"
    if models.video_classifier is not None and recipe.evaluate is not None:
        yield from _folder_faults("models.video_classifier", models.video_classifier, ("",))
    tokenizers = [
        ("models.text_to_image", models.text_to_image, "tokenizer"),
        ("models.motion_encoder", models.motion_encoder, ""),
    ]
    if "evaluate" in steps:  # which compares frames with words
        tokenizers.append(("models.image_encoder", models.image_encoder, ""))
    for where, path, folder in tokenizers:
        yield from _tokenizer_faults(where, path, folder)
    if "evaluate" in steps:
        yield from _tower_faults("models.image_encoder", models.image_encoder, "prompt consistency")
    yield from _fit_faults(recipe)


def caption_model_faults(recipe: Recipe) -> Faults:
    """What is wrong with the language model that shall split captions, if there is one."""
    where, path = "curation.captions.model", recipe.curation.captions.model
    if path is None:
        return
    yield from _folder_faults(where, path, ("",))
    yield from _tokenizer_faults(where, path, "")
    names = model_config(path).get("architectures")
    if names and not any(name.endswith(WRITING_MODELS) for name in names):
        yield (
            f"{where}: {path} holds {', '.join(names)}, which writes no text; give a causal or "
            "sequence-to-sequence language model"
        )


def image_score_faults(recipe: Recipe) -> Faults:
    """What is wrong with the weights of the aesthetic score and the text match, if there are any."""
    from pipelines.curation.image_scores import load_aesthetic_head, misfit

    settings, where = recipe.curation.image_scores, "curation.image_scores.clip"
    if settings.clip is None:
        return
    yield from _folder_faults(where, settings.clip, ("",))
    yield from _tokenizer_faults(where, settings.clip, "")
    config = model_config(settings.clip)
    if config and not (config.get("model_type") == "clip" and config.get("vision_config")):
        kind = config.get("model_type")
        yield (
            f"{where}: {settings.clip} is no CLIP model with a vision tower (model_type {kind!r}); give a "
            "CLIPModel folder"
        )
    else:
        yield from _tower_faults(where, settings.clip, "the text match")
    limit_gb = recipe.curation.decode.max_memory_gb
    held_gb = DECODER_GB + weight_bytes(settings.clip, "") / 1e9
    if held_gb > limit_gb:
        yield (
            f"curation.decode.max_memory_gb: {limit_gb:g} GB are too few for the decoder process, which "
            f"holds {where}; set curation.decode.max_memory_gb={ceil(held_gb + DECODER_GB)}"
        )
    if settings.aesthetic_head is None:
        return
    try:
        head = load_aesthetic_head(settings.aesthetic_head)
    except (FileNotFoundError, ValueError) as error:
        yield f"curation.image_scores.aesthetic_head: {error}"
        return
    width = config.get("projection_dim", DEFAULT_PROJECTION_DIM)
    if config and width != len(head.weight):
        yield misfit(head, width)


def configuration_faults(recipe: Recipe) -> Faults:
    """What a plan needs of the models: their configurations, and no weights."""
    models = recipe.models
    parts = ("vae", "unet", "text_encoder")
    yield from _folder_faults("models.text_to_image", models.text_to_image, parts, weights=False)
    if models.image_unet is not None:
        yield from _folder_faults("models.image_unet", models.image_unet, ("unet",), weights=False)
    yield from _folder_faults("models.image_encoder", models.image_encoder, ("",), weights=False)
    yield from _folder_faults("models.motion_encoder", models.motion_encoder, ("",), weights=False)
    yield from _fit_faults(recipe)


def weight_bytes(path: str, part: str) -> int:
    """Size of a folder's weights as fp32 (files on disk are taken for fp32)."""
    try:
        folder = resolve_model(path) / part
    except FileNotFoundError:
        return 0
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def _folder_faults(where: str, path: str, parts: tuple[str, ...], *, weights: bool = True) -> Faults:
    try:
        folder = resolve_model(path)
    except FileNotFoundError as error:
        yield f"{where}: {error}"
        return
    for part in parts:
        if not (folder / part / "config.json").is_file():
            yield f"{where}: {folder / part} has no config.json; give a folder in Hugging Face format"
            continue
        if weights and not any((folder / part).glob("*.safetensors")):
            others = sorted(file.name for file in (folder / part).glob("*.bin"))
            found = f"only {', '.join(others)}" if others else "no weights"
            yield (
                f"{where}: {folder / part} has {found}; weights are read as .safetensors only "
                "(`model.save_pretrained(FOLDER, safe_serialization=True)` converts them)"
            )


def _tokenizer_faults(where: str, path: str, part: str) -> Faults:
    try:
        folder = resolve_model(path) / part
    except FileNotFoundError:
        return  # said already
    vocabularies = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
    if not any((folder / name).is_file() for name in vocabularies):
        yield f"{where}: no tokenizer in {folder} (one of {', '.join(vocabularies)}); copy it there"


def _tower_faults(where: str, path: str, needed_by: str) -> Faults:
    config = model_config(path)
    sees = config.get("vision_config") or config.get("image_size")
    if sees and not config.get("text_config"):
        yield (
            f"{where}: {path} has no text tower (model_type {config.get('model_type')!r}), "
            f"which {needed_by} needs; give a CLIPModel folder"
        )


def _fit_faults(recipe: Recipe) -> Faults:
    unet, vae, text, image = (
        model_config(recipe.models.start_unet, "unet"),
        model_config(recipe.models.text_to_image, "vae"),
        model_config(recipe.models.text_to_image, "text_encoder"),
        model_config(recipe.models.image_encoder),
    )
    width, expected = text.get("hidden_size"), unet.get("cross_attention_dim")
    if width and expected and width != expected:
        yield (
            f"models.text_to_image: the text encoder gives {width} numbers a token, the UNet's "
            f"cross-attention wants {expected}; take both from one Stable Diffusion folder"
        )
    latent, channels = vae.get("latent_channels"), unet.get("in_channels")
    if latent and channels and latent != channels:
        yield (
            f"models.text_to_image: the VAE has {latent} latent channels, the UNet {channels}; a plain "
            "text-to-image UNet is needed, no inpainting or depth variant"
        )
    if image and not (image.get("vision_config") or image.get("image_size")):
        yield (
            f"models.image_encoder: {recipe.models.image_encoder} is no CLIP model with a vision tower "
            f"(model_type {image.get('model_type')!r}); give a CLIPModel folder"
        )
    inner, outer = (image.get("vision_config") or {}).get("projection_dim"), image.get("projection_dim")
    if inner and outer and inner != outer:
        yield (
            f"models.image_encoder: {recipe.models.image_encoder} says projection_dim {outer}, and {inner} "
            f"for its vision tower; set vision_config.projection_dim of its config.json to {outer}"
        )
    motion = model_config(recipe.models.motion_encoder)
    if motion and "t5" not in str(motion.get("model_type")) and not is_clip_text(motion):
        yield (
            f"models.motion_encoder: {recipe.models.motion_encoder} is a {motion.get('model_type')!r} model; "
            "the motion caption is read by a T5 encoder or a CLIP text model"
        )
