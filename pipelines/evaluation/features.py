"""The feature network that video metrics look through; CLIP is in pipelines.clip_features."""

import numpy as np
import torch

from pipelines.evaluation.video_classifier import VideoClassifier
from pipelines.models import frozen, resolve_model


class ClassifierFeatures:
    """Features of the tiny video classifier."""

    def __init__(self, path: str, device: str = "cpu") -> None:
        self.device = device
        self.model = frozen(VideoClassifier.from_pretrained(resolve_model(path), use_safetensors=True)).to(
            device
        )

    @property
    def frame_count(self) -> int:
        return int(self.model.config.frames)

    @torch.inference_mode()
    def video(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 → (64,)."""
        pixels = torch.from_numpy(frames).to(self.device).permute(3, 0, 1, 2)[None].float() / 255
        return self.model(pixels).features[0].float().cpu().numpy()
