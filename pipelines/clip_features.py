"""CLIP's joint space of pictures and captions (Radford et al. 2021, arXiv 2103.00020), by a folder's path."""

import numpy as np
import torch

from modeling.image_features import clip_pixels
from pipelines.models import load_clip


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
