"""What the saved videos of an evaluation show: measures of each video, from its mp4 file alone."""

import base64
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from pipelines.clip_features import ClipFeatures
from pipelines.evaluation.feature_networks import (
    C3dClasses,
    ClassifierFeatures,
    I3dFeatures,
    LpipsDistance,
    VideoMaeFeatures,
    VideoNetwork,
)
from pipelines.evaluation.metrics import (
    brightness,
    flow_score,
    frame_consistency,
    image_repetition,
    motion_strength,
    prompt_consistency,
    psnr_db,
    ssim,
    warping_error,
)
from pipelines.evaluation.motion import (
    Movement,
    VideoFlow,
    object_movements,
    parse_objects,
    unoccluded,
    video_flow,
)
from pipelines.evaluation.reference import EvaluationClip
from pipelines.evaluation.watermark import read_mark, watermark_correlation
from pipelines.media import read_mp4
from pipelines.recipe import FeatureNetworkSettings

VARIANTS = ("generated", "ground_truth", "untrained")
PLACES = {
    "generated": Path("videos"),
    "ground_truth": Path("reference"),
    "untrained": Path("untrained") / "videos",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Networks:
    """CLIP's and the video classifier's folders, and the files of the other feature networks."""

    clip: str
    video_classifier: str | None
    files: FeatureNetworkSettings


def video_path(folder: Path, variant: str, clip: EvaluationClip) -> Path:
    """Where a clip's video lies in the folder of an evaluation."""
    return folder / PLACES[variant] / clip.set / f"{clip.clip_id}.mp4"


def image_path(folder: Path, clip: EvaluationClip) -> Path:
    """Where a given image lies, as it went into the model."""
    return folder / PLACES["ground_truth"] / clip.set / f"{clip.clip_id}.png"


def conditioning_image(folder: Path, clip: EvaluationClip) -> np.ndarray:
    """(H, W, 3) uint8: the given image, or the first frame of the real video, as saved."""
    if not clip.given_image:
        return read_mp4(video_path(folder, "ground_truth", clip))[0][0]
    from PIL import Image

    with image_path(folder, clip).open("rb") as file, Image.open(file) as image:
        return np.asarray(image)


def variants_of(clip: EvaluationClip) -> tuple[str, ...]:
    left_out = {"ground_truth"} if clip.given_image else set()
    left_out |= set() if clip.untrained else {"untrained"}
    return tuple(variant for variant in VARIANTS if variant not in left_out)


class Measurer:
    """Measures videos; holds the feature networks."""

    def __init__(
        self,
        networks: Networks,
        vocabulary: tuple[str, ...],
        device: str = "cpu",
        watermark: str | None = None,
    ) -> None:
        """watermark: picture of a known one, which videos are searched for."""
        self.vocabulary = vocabulary
        self.mark = None if watermark is None else read_mark(watermark)
        self.clip_features = ClipFeatures(networks.clip, device)
        self.classifier = (
            ClassifierFeatures(networks.video_classifier, device) if networks.video_classifier else None
        )
        files = networks.files
        self.lpips = LpipsDistance(files.lpips, device) if files.lpips else None
        self.video_networks: dict[str, VideoNetwork] = {}
        if files.i3d:
            self.video_networks["i3d"] = I3dFeatures(files.i3d, device)
        if files.videomae:
            self.video_networks["videomae"] = VideoMaeFeatures(files.videomae, device)
        if files.c3d:
            self.video_networks["c3d"] = C3dClasses(files.c3d, device)

    def measure(self, folder: Path, variant: str, clip: EvaluationClip) -> Row:
        """One row of measures of one video file, as JSON's own types.

        objects: for each labelled object the motion asked for, the one seen, and the movement. motion_class:
        the classifier's, None without one. features: {network: packed features}; of sets with real videos
        only, but for the classifier.
        """
        frames, _ = read_mp4(video_path(folder, variant, clip))
        image = frames[0] if variant == "ground_truth" else conditioning_image(folder, clip)
        seen = self.clip_features.frames(frames)
        flow = video_flow(frames)
        features, motion_class = self._through_networks(frames, clip)
        return {
            "variant": variant,
            "set": clip.set,
            "clip_id": clip.clip_id,
            "frames": len(frames),
            "asks_for_motion": clip.asks_for_motion,
            "objects": self._objects(flow, clip),
            "motion_class": motion_class,
            **self._first_frame(frames[0], image),
            **self._later_frames(folder, variant, clip, frames),
            "brightness": brightness(frames),
            "image_repetition": image_repetition(frames, image),
            "frame_consistency": frame_consistency(seen),
            "prompt_consistency": prompt_consistency(seen, self.clip_features.text(clip.appearance_caption)),
            "motion_strength": motion_strength(flow.flow, clip.fps),
            "flow_score": flow_score(flow.flow, clip.fps),
            "warping_error": warping_error(flow.frames, flow.flow, unoccluded(flow)),
            "features": features,
            **(
                {}
                if self.mark is None
                else {"watermark_correlation": watermark_correlation(frames, self.mark)}
            ),
        }

    def _first_frame(self, frame: np.ndarray, image: np.ndarray) -> Row:
        lpips = {} if self.lpips is None else {"first_frame_lpips": self.lpips(frame, image)}
        return {"first_frame_psnr_db": psnr_db(frame, image), "first_frame_ssim": ssim(frame, image), **lpips}

    def _later_frames(self, folder: Path, variant: str, clip: EvaluationClip, frames: np.ndarray) -> Row:
        if variant == "ground_truth" or clip.given_image:
            return {}
        real = read_mp4(video_path(folder, "ground_truth", clip))[0]
        return {"later_frames_psnr_db": mean(map(psnr_db, frames[1:], real[1:]))}

    def _through_networks(
        self, frames: np.ndarray, clip: EvaluationClip
    ) -> tuple[dict[str, str], str | None]:
        """({network: packed features}, the classifier's class)"""
        features = {}
        if not clip.given_image:
            features = {name: packed(network.video(frames)) for name, network in self.video_networks.items()}
        if self.classifier is None:
            return features, None
        found, motion_class = self.classifier.look(frames)
        return features | {"classifier": packed(found)}, motion_class

    def _objects(self, flow: VideoFlow, clip: EvaluationClip) -> list[Row]:
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


def packed(features: np.ndarray) -> str:
    """Features (D,) as text: a quarter of the room of decimal numbers, to the bit."""
    return base64.b64encode(np.asarray(features, "<f4").tobytes()).decode()


def unpacked(rows: list[Row], network: str) -> np.ndarray:
    """(N, D) float32 features of a network."""
    return np.stack([np.frombuffer(base64.b64decode(row["features"][network]), "<f4") for row in rows])


def vocabulary_of(clips: list[EvaluationClip]) -> tuple[str, ...]:
    """All motions that the labels of an evaluation ask for."""
    return tuple(sorted({thing["motion"] for clip in clips for thing in clip.objects}))
