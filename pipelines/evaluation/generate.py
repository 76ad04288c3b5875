"""A trained pipeline, and the videos that it draws for held-out clips."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling.pipeline import FactorizedDreamerPipeline
from modeling.schedule import SchedulerKind, sampler_like
from pipelines.evaluation.reference import EvaluationClip
from pipelines.models import resolve_model
from pipelines.recipe import SamplingSettings


def load_pipeline(
    folder: Path | str, scheduler: SchedulerKind, device: str = "cpu"
) -> FactorizedDreamerPipeline:
    """A pipeline folder with the sampler that is asked for, over the betas that it was trained with."""
    pipeline = FactorizedDreamerPipeline.from_pretrained(resolve_model(str(folder)), use_safetensors=True)
    return ready(pipeline, scheduler, device)


def ready(
    pipeline: FactorizedDreamerPipeline, scheduler: SchedulerKind, device: str = "cpu"
) -> FactorizedDreamerPipeline:
    """Set a pipeline's sampler and device, and silence its progress bar."""
    pipeline.scheduler = sampler_like(pipeline.scheduler, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def generator_of(seed: int, clip_id: str) -> torch.Generator:
    """All randomness of one clip: a function of the seed and the clip's id, whatever is drawn beside it."""
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw_clips(
    pipeline: FactorizedDreamerPipeline,
    clips: Sequence[EvaluationClip],
    images: Sequence[np.ndarray],
    sampling: SamplingSettings,
    seed: int,
) -> list[np.ndarray]:
    """Animate the first frames (H, W, 3) uint8 of clips of one size: a list of (T, H, W, 3) uint8."""
    if len({clip.size for clip in clips}) != 1:
        raise ValueError("clips of one batch must have one size")
    clip = clips[0]
    output = pipeline(
        prompt=[clip.appearance_caption for clip in clips],
        motion_prompt=[clip.motion_caption for clip in clips],
        image=np.stack(images).astype(np.float32) / 255,
        num_frames=clip.frames,
        fps=clip.fps,
        height=clip.height,
        width=clip.width,
        generator=[generator_of(seed, clip.clip_id) for clip in clips],
        output_type="np",
        **sampling_arguments(sampling),
    )
    return [to_uint8(frames) for frames in output.frames]


def sampling_arguments(sampling: SamplingSettings) -> dict[str, Any]:
    return {
        "num_inference_steps": sampling.steps,
        "guidance_scale_text": sampling.guidance_scale_text,
        "guidance_scale_image": sampling.guidance_scale_image,
        "guidance_rescale": sampling.guidance_rescale,
        "motion_score": sampling.motion_score,
    }


def to_uint8(frames: np.ndarray) -> np.ndarray:
    return (np.asarray(frames).clip(0, 1) * 255).round().astype(np.uint8)
