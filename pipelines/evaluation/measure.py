"""What the saved videos of an evaluation show: measures of each video, from its mp4 file alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip_features import ClipFeatures
from pipelines.evaluation.feature_networks import ClassifierFeatures
from pipelines.evaluation.metrics import frame_consistency, motion_strength, prompt_consistency, psnr_db, ssim
from pipelines.evaluation.motion import Movement, object_movements, parse_objects, video_flow
from pipelines.evaluation.reference import EvaluationClip
from pipelines.media import read_mp4

VARIANTS = ("generated", "ground_truth", "untrained")
Row = dict[str, Any]


@dataclass(frozen=True)
class Networks:
    """Folders of the feature networks."""

    clip: str
    video_classifier: str | None


def video_path(folder: Path, variant: str, clip: EvaluationClip) -> Path:
    """Where a clip's video lies in the folder of an evaluation."""
    places = {
        "generated": Path("videos"),
        "ground_truth": Path("reference"),
        "untrained": Path("untrained") / "videos",
    }
    return folder / places[variant] / clip.set / f"{clip.clip_id}.mp4"


def variants_of(clip: EvaluationClip) -> tuple[str, ...]:
    return VARIANTS if clip.untrained else VARIANTS[:2]


class Measurer:
    """Measures videos; holds the feature networks."""

    def __init__(self, networks: Networks, vocabulary: tuple[str, ...], device: str = "cpu") -> None:
        self.vocabulary = vocabulary
        self.clip_features = ClipFeatures(networks.clip, device)
        self.classifier = (
            ClassifierFeatures(networks.video_classifier, device) if networks.video_classifier else None
        )

    def measure(self, folder: Path, variant: str, clip: EvaluationClip) -> Row:
        """One row of measures of one video file, as JSON's own types.

        objects: for each labelled object the motion asked for, the one seen, and the movement.
        features: the classifier's, None without one.
        """
        frames, _ = read_mp4(video_path(folder, variant, clip))
        seen = self.clip_features.frames(frames)
        flow = video_flow(frames)
        reference = (
            frames if variant == "ground_truth" else read_mp4(video_path(folder, "ground_truth", clip))[0]
        )
        return {
            "variant": variant,
            "set": clip.set,
            "clip_id": clip.clip_id,
            "frames": len(frames),
            "objects": self._objects(flow, clip),
            "first_frame_psnr_db": psnr_db(frames[0], reference[0]),
            "first_frame_ssim": ssim(frames[0], reference[0]),
            "frame_consistency": frame_consistency(seen),
            "prompt_consistency": prompt_consistency(seen, self.clip_features.text(clip.appearance_caption)),
            "motion_strength": motion_strength(flow.flow, clip.fps),
            "features": self._features(frames),
        }

    def _objects(self, flow: Any, clip: EvaluationClip) -> list[Row]:
        objects = parse_objects(clip.objects)
        movements = object_movements(flow, objects) if objects else []
        return [
            self._object(asked.motion, movement) for asked, movement in zip(objects, movements, strict=True)
        ]

    def _object(self, asked: str, movement: Movement) -> Row:
        return {
            "asked": asked,
            "seen": movement.nearest(self.vocabulary),
            "right": round(movement.right, 4),
            "down": round(movement.down, 4),
            "growth": round(movement.growth, 4),
        }

    def _features(self, frames: np.ndarray) -> list[float] | None:
        return None if self.classifier is None else [float(x) for x in self.classifier.video(frames)]


def vocabulary_of(clips: list[EvaluationClip]) -> tuple[str, ...]:
    """All motions that the labels of an evaluation ask for."""
    return tuple(sorted({thing["motion"] for clip in clips for thing in clip.objects}))
