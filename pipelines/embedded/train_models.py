"""Train the tiny models of the embedded world, saved as the big ones are: Hugging Face folders, safetensors.

None of the models that the generator starts from (VAE, CLIP, T5, text-to-image UNet) sees more than one
frame of a clip. Only the video classifier, which measures, sees motion.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPModel, CLIPTokenizer

from pipelines.embedded.frames import render_stills
from pipelines.embedded.train_classifier import train_classifier
from pipelines.embedded.train_image import train_image_model
from pipelines.embedded.train_text import train_clip, train_t5
from pipelines.embedded.train_vae import train_vae
from pipelines.embedded.wording import caption
from pipelines.embedded.world import DEFAULT_MOTIONS, WorldSettings, world_clips
from pipelines.files import whole_folder
from pipelines.models import load_vae

WORLD = WorldSettings(clips=6000, seed=1)
STILLS_FACTOR = 4  # the text-to-image UNet learns longest, and from so many times as many stills
STEPS = {
    "vae": 8000,
    "clip": 1500,
    "motion_encoder": 1000,
    "stable_diffusion": 16000,
    "image_unet_epsilon": 16000,
    "video_classifier": 600,
}


def train_models(out: Path, *, steps_share: float = 1.0, world: WorldSettings = WORLD) -> dict[str, str]:
    """Train what is not there yet; return the folders by name.

    `steps_share` scales the number of steps of all (0.01: a trial of the job). On two cores the whole
    takes about an hour and a half. The VAE is part of the Stable Diffusion folder; image_unet_epsilon is
    another UNet for it, which predicts ε, with its scheduler.
    """
    steps = {name: max(1, round(count * steps_share)) for name, count in STEPS.items()}
    torch.manual_seed(0)
    motion, image = out / "motion_encoder", out / "stable_diffusion"
    clip_folder, classifier = out / "clip", out / "video_classifier"
    epsilon = out / "image_unet_epsilon"
    if not motion.is_dir():
        texts = [caption(clip) for clip in world_clips(world) if clip.split == "train"]
        encoder, tokenizer = train_t5(texts, steps["motion_encoder"])
        _save(motion, encoder, tokenizer)
    if not clip_folder.is_dir():
        _save(clip_folder, *train_clip(render_stills(world), steps["clip"]))
    if not image.is_dir():
        stills = render_stills(world)
        clip, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
        vae = train_vae(stills, steps["vae"])
        stills = render_stills(replace(world, clips=STILLS_FACTOR * world.clips))
        _save(image, train_image_model(stills, vae, clip, tokenizer, steps["stable_diffusion"]))
    if not epsilon.is_dir():
        stills = render_stills(replace(world, clips=STILLS_FACTOR * world.clips))
        clip, tokenizer = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
        trained = train_image_model(
            stills, load_vae(str(image)), clip, tokenizer, steps["image_unet_epsilon"], prediction="epsilon"
        )
        _save_parts(epsilon, {"unet": trained.unet, "scheduler": trained.scheduler})
    if not classifier.is_dir():
        _save(classifier, train_classifier(world, DEFAULT_MOTIONS, steps["video_classifier"]))
    return {folder.name: str(folder) for folder in (image, epsilon, clip_folder, motion, classifier)}


def _save(folder: Path, *parts: Any) -> None:
    """Save all parts in one folder."""
    with whole_folder(folder) as unfinished:
        for part in parts:
            part.save_pretrained(unfinished)


def _save_parts(folder: Path, parts: Mapping[str, Any]) -> None:
    """Save each part in a folder of its own."""
    with whole_folder(folder) as unfinished:
        for name, part in parts.items():
            part.save_pretrained(unfinished / name)
