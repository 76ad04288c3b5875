"""The three of EvalCrafter's metrics that need CLIP alone, exactly as its Scores_with_CLIP.py computes them.

Its frames go into CLIP as they are decoded, in 0..255, without CLIP's normalisation, and are resized without
antialiasing (torchvision 0.15 for floats, OpenCV for bytes). `frame_consistency` and `prompt_consistency` of
`dreamer evaluate` feed CLIP as it was trained and are other metrics. So are our inception score (C3D on
UCF101, where EvalCrafter's is Inception on single frames), flow score and warping error (its flow is RAFT's):
they are never called EvalCrafter's.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pipelines.evaluation.evalcrafter import EvalCrafterError
from pipelines.evaluation.metrics import frame_consistency, prompt_consistency
from pipelines.evaluation.summary import Metric
from pipelines.models import load_clip, weights_sha256
from pipelines.progress import track

FRAMES_AT_ONCE = 64
VIT_B_32 = {"image_size": 224, "patch_size": 32, "hidden_size": 768, "num_hidden_layers": 12}
PROTOCOLS = {
    "clip_temp": "mean cosine of CLIP features of adjacent frames, resized as floats, bilinear",
    "face": "mean cosine of CLIP features of each later frame and the first, resized as floats, bilinear",
    "clip": "mean cosine of CLIP features of each frame, resized as bytes, bilinear, and of the prompt",
}


def measure(videos: Path, prompts: Sequence[str], clip: str, device: str = "cpu") -> list[Metric]:
    """clip_temp, face and clip over `VIDEOS/NNNN.mp4` of all prompts, as raw values.

    clip: a CLIP folder. They are named `evalcrafter_clip_temp`, ... with a ViT-B/32, which EvalCrafter has,
    and `clip_temp_by_another_clip`, ... with another. Raises EvalCrafterError for a video that is missing or
    has fewer than two frames.
    """
    paths = [videos / f"{number:04d}.mp4" for number in range(len(prompts))]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise EvalCrafterError(
            f"{videos} lacks {len(missing)} of {len(paths)} videos, the first is {missing[0]}: "
            "`dreamer evalcrafter draw` draws those that are missing"
        )
    scores = ClipScores(clip, device)
    measured = []
    with track(len(paths), "evalcrafter: measure") as step:
        for path, prompt in zip(paths, prompts, strict=True):
            frames, fps = _read(path)
            measured.append(scores.video(frames, prompt) | {"frames": len(frames), "fps": fps})
            step.advance()
    return [_metric(key, measured, clip, scores) for key in PROTOCOLS]


def _metric(key: str, measured: Sequence[dict[str, Any]], clip: str, scores: "ClipScores") -> Metric:
    lengths = sorted({row["frames"] for row in measured})
    name = f"evalcrafter_{key}" if scores.is_evalcrafters else f"{key}_by_another_clip"
    return Metric(
        name=name,
        value=float(np.mean([row[key] for row in measured])),
        protocol=f"{PROTOCOLS[key]}; no antialiasing, no normalisation, 0..255; mean over videos of "
        f"{lengths[0]} to {lengths[-1]} frames",
        samples=len(measured),
        frames=lengths[-1],
        fps=measured[0]["fps"],
        resize=f"squeezed to {scores.side_pixels}x{scores.side_pixels}, bilinear, without antialiasing",
        seed=0,
        feature_network_sha256=weights_sha256(clip),
    )


class ClipScores:
    """CLIP as EvalCrafter calls it."""

    def __init__(self, clip: str, device: str = "cpu") -> None:
        model, self.tokenizer = load_clip(clip)
        self.model, self.device = model.to(device), device
        self.side_pixels = int(model.config.vision_config.image_size)
        self.is_evalcrafters = is_vit_b_32(model.config)

    def video(self, frames: np.ndarray, prompt: str) -> dict[str, float]:
        """(T, H, W, 3) uint8 RGB, T >= 2 → {"clip_temp", "face", "clip"}."""
        size = (self.side_pixels, self.side_pixels)
        floats = torch.from_numpy(frames).permute(0, 3, 1, 2).float()  # (T, 3, H, W)
        seen = self._frames(F.interpolate(floats, size, mode="bilinear"))  # (T, D)
        squeezed = np.stack([cv2.resize(frame, size) for frame in frames])
        seen_as_bytes = self._frames(torch.from_numpy(squeezed).permute(0, 3, 1, 2).float())
        return {
            "clip_temp": frame_consistency(seen),
            "face": prompt_consistency(seen[1:], seen[0]),
            "clip": prompt_consistency(seen_as_bytes, self._text(prompt)),
        }

    @torch.inference_mode()
    def _frames(self, pixels: torch.Tensor) -> np.ndarray:
        parts = [
            self.model.get_image_features(pixel_values=part.to(self.device)).pooler_output.float().cpu()
            for part in pixels.split(FRAMES_AT_ONCE)
        ]
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def _text(self, prompt: str) -> np.ndarray:
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], return_tensors="pt", truncation=True, max_length=longest)
        features = self.model.get_text_features(tokens["input_ids"].to(self.device))
        return features.pooler_output[0].float().cpu().numpy()


def is_vit_b_32(config: Any) -> bool:
    """Whether a CLIP's configuration is that of openai/clip-vit-base-patch32."""
    vision = config.vision_config
    return config.projection_dim == 512 and all(
        getattr(vision, name) == value for name, value in VIT_B_32.items()
    )


def _read(path: Path) -> tuple[np.ndarray, float]:
    """All frames (T, H, W, 3) uint8 RGB and frames per second, by OpenCV as EvalCrafter reads them."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    if len(frames) < 2:
        raise EvalCrafterError(f"{path} has {len(frames)} frames that can be read; the metrics compare two")
    return np.stack(frames), fps
