"""Scores: each tells apart what its filter is for."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.curation.scores import (
    clip_scores,
    grey_frames,
    motion_score,
    perceptual_hash,
    sharpness,
    text_area,
    unchanged_pairs,
)
from pipelines.curation.video import read_clip
from pipelines.recipe import Bucket

MakeScene = Callable[..., np.ndarray]


def pan(pixels_per_frame: int, frames: int = 8) -> np.ndarray:
    """(T, 96, 160, 3): a camera that moves to the right over a texture, so that the picture moves left."""
    rng = np.random.default_rng(0)
    wide = cv2.resize(rng.integers(0, 255, (12, 60, 3), np.uint8), (480, 96), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, pixels_per_frame * t : pixels_per_frame * t + 160] for t in range(frames)])


def test_motion_is_in_percent_of_the_diagonal_per_second() -> None:
    expected = 100 * 3 * 8 / np.hypot(96, 160)
    assert motion_score(grey_frames(pan(3)), 8) == pytest.approx(expected, rel=0.1)
    assert motion_score(grey_frames(pan(0)), 8) == 0


def test_still_frames_with_coding_noise_are_static(
    tmp_path: Path, make_video: Callable[..., Path], make_scene: MakeScene
) -> None:
    still = make_video(tmp_path / "v.mp4", make_scene(0, 16, pixels_per_frame=0), crf="35")
    (frames,) = read_clip(str(still), 0, 16, (Bucket(frames=8, height=96, width=128),))
    assert unchanged_pairs(grey_frames(frames)).all()
    assert not unchanged_pairs(grey_frames(make_scene(0, 8))).any()


def test_text_is_found_and_texture_is_not(make_scene: MakeScene) -> None:
    frames = make_scene(0, 3, height=256, width=384)
    without = text_area(frames)
    assert without < 0.03
    for frame in frames:
        cv2.putText(frame, "BREAKING NEWS", (20, 230), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (255, 255, 255), 3)
    assert 0.05 < text_area(frames) - without < 0.4


def test_blur_lowers_sharpness(make_scene: MakeScene) -> None:
    grey = grey_frames(make_scene(0, 3))
    blurred = np.stack([cv2.GaussianBlur(frame, (9, 9), 4) for frame in grey])
    assert sharpness(blurred) < 0.3 * sharpness(grey)


def test_hash_survives_resizing_and_tells_scenes_apart(make_scene: MakeScene) -> None:
    def distance(one: np.ndarray, other: np.ndarray) -> int:
        return (int(perceptual_hash(one), 16) ^ int(perceptual_hash(other), 16)).bit_count()

    frame = make_scene(0, 1)[0]
    assert distance(frame, cv2.resize(frame, (320, 240))) <= 4
    assert distance(frame, make_scene(1, 1)[0]) > 12


def test_scores_that_are_not_asked_for_are_null(make_scene: MakeScene) -> None:
    scores = clip_scores(make_scene(0, 4), 8, text=False)
    assert scores.pop("text_area") is None
    assert None not in scores.values()
