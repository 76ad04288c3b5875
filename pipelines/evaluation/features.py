"""Feature networks that metrics look through: CLIP for frames and captions, a classifier for videos."""

import numpy as np
import torch

from modeling.image_features import clip_pixels
from pipelines.evaluation.video_classifier import VideoClassifier
from pipelines.models import frozen, load_clip, resolve_model


class ClipFeatures:
    """CLIP's joint space of pictures and captions."""

    def __init__(self, path: str, device: str = "cpu") -> None:
        model, self.tokenizer = load_clip(path)
        self.model, self.device = model.to(device), device
        self.side_pixels = int(model.config.vision_config.image_size)

    @torch.inference_mode()
    def frames(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 → (T, D)."""
        features = self.model.get_image_features(
            pixel_values=clip_pixels(self._pixels(frames), self.side_pixels)
        )
        return features.pooler_output.float().cpu().numpy()

    @torch.inference_mode()
    def text(self, caption: str) -> np.ndarray:
        """(D,)"""
        tokens = self.tokenizer(
            [caption],
            return_tensors="pt",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
        ).to(self.device)
        features = self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"])
        return features.pooler_output[0].float().cpu().numpy()

    def _pixels(self, frames: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float() / 255


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
