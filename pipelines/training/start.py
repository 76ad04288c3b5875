"""What training starts from: the image UNet, or a video model that was trained before."""

import json
from typing import Any

import torch

from modeling.unet import FactorizedUNet
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.models import is_clip_text, load_image_unet, resolve_model, weights_sha256
from pipelines.recipe import Recipe
from pipelines.storage import storage_path
from pipelines.training.checkpoint import CheckpointError, CheckpointReader, differences, whole_checkpoints

MODEL_MARKER = "training.json"  # a stage's result has it


def start_fingerprint(start: str) -> str:
    """What an identity says of `train.starts_from`: content, wherever it lies."""
    folder = storage_path(start)
    if (folder / MODEL_MARKER).is_file():
        return f"model {weights_sha256(str(folder / 'unet'))[:12]}"
    return f"checkpoint {file_sha256(str(folder / 'state.json'))[:12]}"


def check_start(recipe: Recipe) -> None:
    """Refuse a `train.starts_from` that is not there, not whole, or of another network.

    Raises CheckpointError with every differing setting.
    """
    start = recipe.train.starts_from if recipe.train else None
    if start is None:
        return
    folder = storage_path(start)
    if (folder / MODEL_MARKER).is_file():
        theirs = json.loads((folder / MODEL_MARKER).read_text())["identity"]
    elif folder in whole_checkpoints(folder.parent):
        theirs = json.loads((folder / "state.json").read_text())["identity"]
    else:
        raise CheckpointError(
            f"train.starts_from: {folder} is neither a finished model (RUN/train/STAGE/model) nor a whole "
            "checkpoint (RUN/train/STAGE/checkpoints/step-N)"
        )
    ours = {"model": recipe.model.model_dump(mode="json"), "models": network_hashes(recipe)}
    if found := list(differences({key: theirs[key] for key in ours}, ours)):
        raise CheckpointError(
            f"train.starts_from: {folder} is of another network (there → recipe):\n"
            + "\n".join(f"  {line}" for line in found)
            + "\nTake its settings and model folders; recipe.yaml of its run has them."
        )


def network_hashes(recipe: Recipe) -> dict[str, str]:
    """Hashes of the networks that a video model is trained around."""
    return {
        "image_unet": weights_sha256(recipe.models.start_unet),
        "text_to_image": weights_sha256(recipe.models.text_to_image),
        "motion_encoder": weights_sha256(recipe.models.motion_encoder),
    }


def first_unet(recipe: Recipe) -> tuple[FactorizedUNet, str]:
    """The network that training starts from, on the CPU in fp32, and a word on where it comes from."""
    start = recipe.train.starts_from if recipe.train else None
    if start is None:
        return untrained_unet(recipe), f"image UNet of {recipe.models.start_unet}"
    folder = storage_path(start)
    source = f"EMA weights of {folder}"
    if (folder / MODEL_MARKER).is_file():
        return FactorizedUNet.from_pretrained(resolve_model(start) / "unet", use_safetensors=True), source
    reader = CheckpointReader(folder)
    unet = untrained_unet(recipe)
    unet.load_state_dict(reader.full("ema"), strict=True)
    # It says what the checkpoint was trained to predict; nothing is new in it.
    unet.register_to_config(prediction=reader.position.identity["stage"]["schedule"]["prediction"])
    unet.weight_transfer = None
    return unet, source


def untrained_unet(recipe: Recipe) -> FactorizedUNet:
    """The video model over the recipe's image UNet; its new parts depend on the recipe's seed alone."""
    image_unet, prediction = load_image_unet(recipe.models.start_unet)
    image_unet.register_to_config(_name_or_path=None)  # a saved model must not name folders of this machine
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(fingerprint("new parts", recipe.seed)[:15], 16))
        return FactorizedUNet.from_image_unet(
            image_unet,
            prediction=prediction,  # type: ignore[arg-type]
            **unet_settings(recipe),
        )


def unet_settings(recipe: Recipe) -> dict[str, Any]:
    """Settings of FactorizedUNet beside its image UNet."""
    return {
        "motion_dim": _motion_width(recipe.models.motion_encoder),
        "image_dim": _width(recipe.models.image_encoder, "vision_config", "hidden_size"),
        **recipe.model.model_dump(),
    }


def _motion_width(model: str) -> int:
    config = json.loads((resolve_model(model) / "config.json").read_text())
    return _width(model, "text_config", "hidden_size") if is_clip_text(config) else _width(model, "d_model")


def _width(model: str, *keys: str) -> int:
    """A number of a model folder's config.json; a section that is not there is skipped."""
    config = json.loads((resolve_model(model) / "config.json").read_text())
    for key in keys[:-1]:
        config = config.get(key, config)
    return int(config[keys[-1]])
