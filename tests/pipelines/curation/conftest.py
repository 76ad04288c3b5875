"""Small real video files and random tiny networks for the tests of curation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

FPS = 16


def write_video(
    path: Path, frames: np.ndarray, *, fps: int = FPS, codec: str = "libx264", **options: str
) -> Path:
    """frames (T, H, W, 3) uint8 RGB → a video file.

    `rotation` in degrees counterclockwise, `pixels`: the pixel format; others (movflags, crf) go to the
    container.
    """
    pixels = options.pop("pixels", "yuv420p")
    rotation = options.pop("rotation", None)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        if rotation is not None:
            stream.set_display_rotation(int(rotation))
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def scene(
    seed: int, frames: int, *, height: int = 96, width: int = 128, pixels_per_frame: float = 2.0
) -> np.ndarray:
    """(T, H, W, 3) uint8: a textured square that moves to the right over a texture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (8, 8, 3), np.uint8)
    back = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    square = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
    clip = np.repeat(back[None], frames, 0)
    for number in range(frames):
        left = int(8 + pixels_per_frame * number) % (width - 32)
        clip[number, 30:62, left : left + 32] = square
    return clip


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    return write_video


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., np.ndarray]:
    return scene


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`models` section of a recipe: random networks of the classes that the big ones have."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    _stable_diffusion(folder / "stable_diffusion")
    _clip(folder / "clip")
    _t5(folder / "t5")
    return {
        "text_to_image": str(folder / "stable_diffusion"),
        "image_encoder": str(folder / "clip"),
        "motion_encoder": str(folder / "t5"),
    }


def _stable_diffusion(folder: Path) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
    vae.save_pretrained(folder / "vae")
    _tokenizer(length=16).save_pretrained(folder / "tokenizer")


def _clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"projection_dim": 8}
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": 64, "max_position_embeddings": 16},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)


def _t5(folder: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    _tokenizer(length=32).save_pretrained(folder)


def _tokenizer(length: int) -> Any:
    """A tokenizer of words with an end token, padding 0."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    text = "a the red blue star circle square moves slides to left right over grass still camera pans"
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *text.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )
