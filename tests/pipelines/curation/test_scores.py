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
    scene_change,
    sharpness,
    text_area,
    unchanged_pairs,
    watermark_area,
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


def test_light_that_comes_and_goes_is_no_motion(make_scene: MakeScene) -> None:
    photo = 0.7 * make_scene(0, 8, pixels_per_frame=0).astype(np.float32)
    gains = 1 + 0.06 * np.sin(np.arange(8))[:, None, None, None]
    flicker = grey_frames(np.clip(photo * gains, 0, 255).astype(np.uint8))
    assert unchanged_pairs(flicker).all()
    assert motion_score(flicker, 8) == 0


def test_text_is_found_and_texture_is_not(make_scene: MakeScene) -> None:
    frames = make_scene(0, 3, height=256, width=384)
    without = text_area(frames)
    assert without < 0.03
    for frame in frames:
        cv2.putText(frame, "BREAKING NEWS", (20, 230), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (255, 255, 255), 3)
    assert 0.05 < text_area(frames) - without < 0.4


def test_a_mark_is_text_that_stays_while_the_picture_moves(make_scene: MakeScene) -> None:
    moving = make_scene(0, 8, height=256, width=384, pixels_per_frame=20)
    assert watermark_area(moving) == 0
    marked = moving.astype(np.float32)
    for frame in marked:
        mark = np.zeros(frame.shape, np.uint8)
        cv2.putText(mark, "stockvideo", (90, 140), cv2.FONT_HERSHEY_DUPLEX, 1.4, (255, 255, 255), 3)
        frame += 0.5 * (mark > 0) * (255 - frame)
    assert 0.02 < watermark_area(marked.astype(np.uint8)) < 0.15
    passing = moving.copy()
    for number, frame in enumerate(passing):
        at = (40 + 9 * number, 140)
        cv2.putText(frame, "BAKERY", at, cv2.FONT_HERSHEY_DUPLEX, 1.0, (255, 255, 255), 2)
    assert text_area(passing) > 0.01
    assert watermark_area(passing) == 0
    credits = moving.copy()
    for number, frame in enumerate(credits):
        for row in range(3):
            at = (60, 90 + 80 * row - 9 * number)
            cv2.putText(frame, "DIRECTED BY", at, cv2.FONT_HERSHEY_DUPLEX, 1.4, (255, 255, 255), 3)
    assert text_area(credits) > 0.1
    assert watermark_area(credits) < 0.02


@pytest.mark.parametrize("move", ["pan", "zoom"])
def test_a_camera_over_a_photograph_changes_nothing_in_the_scene(make_scene: MakeScene, move: str) -> None:
    photo = make_scene(3, 1, height=400, width=600)[0]
    frames = []
    for t in range(8):
        zoom = 1.1 + (0.02 * t if move == "zoom" else 0)
        view = cv2.getRotationMatrix2D((300, 200), 0, zoom)
        view[:, 2] += (-100 - (6 * t if move == "pan" else 0), -70)
        frames.append(cv2.warpAffine(photo, view, (400, 260)))
    film = np.stack(frames)
    assert motion_score(grey_frames(film), 8) > 1
    assert scene_change(grey_frames(film)) < 0.002
    for number, frame in enumerate(film):  # something moves by itself
        cv2.circle(frame, (60 + 12 * number, 130), 20, (250, 30, 30), -1)
    assert scene_change(grey_frames(film)) > 0.01


def test_a_hand_that_holds_the_camera_is_no_slideshow(make_scene: MakeScene) -> None:
    photo = make_scene(3, 1, height=400, width=600)[0]
    places = [(0, 0), (5, 2), (3, 6), (8, 3), (2, 9), (6, 1), (9, 5), (4, 4)]
    film = np.stack([photo[60 + y : 320 + y, 90 + x : 490 + x] for x, y in places])
    assert scene_change(grey_frames(film)) > 0.01


def test_sharpness_asks_whether_anything_is_in_focus_not_how_much_there_is(make_scene: MakeScene) -> None:
    sharp = make_scene(0, 3, height=256, width=384)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in sharp])
    fog = (sharp // 5 + 150).astype(np.uint8)
    sky = np.full_like(sharp, 180)
    sky[:, 100:140, 150:190] = sharp[:, 30:70, 10:50]  # a little subject before a smooth sky
    assert sharpness(grey_frames(blurred)) < 0.6
    for picture in (sharp, fog, sky):
        assert sharpness(grey_frames(picture)) > 0.7


def test_hash_survives_resizing_and_tells_scenes_apart(make_scene: MakeScene) -> None:
    def distance(one: np.ndarray, other: np.ndarray) -> int:
        return (int(perceptual_hash(one), 16) ^ int(perceptual_hash(other), 16)).bit_count()

    frame = make_scene(0, 1)[0]
    assert distance(frame, cv2.resize(frame, (320, 240))) <= 4
    assert distance(frame, make_scene(1, 1)[0]) > 12


def test_scores_that_are_not_asked_for_are_null(make_scene: MakeScene) -> None:
    scores = clip_scores(make_scene(0, 4), 8, text=False)
    assert scores.pop("text_area") is None
    assert scores.pop("watermark_area") is None
    assert None not in scores.values()


def test_scores_do_not_depend_on_where_things_lie_in_memory(make_scene: MakeScene) -> None:
    frames = make_scene(0, 24, height=64, width=80)
    kept, seen = [], set()
    for taken in range(16, 2000, 16):
        kept.append(np.empty(taken, np.uint8))  # pushes what is allocated next to another alignment
        seen.add((motion_score(grey_frames(frames), 8), sharpness(grey_frames(frames))))
    assert len(seen) == 1


def test_a_small_video_changes_nothing_in_the_scores_of_the_next(make_scene: MakeScene) -> None:
    frames = make_scene(0, 8, height=192, width=256)
    before = clip_scores(frames, 8, text=False)
    clip_scores(make_scene(0, 8, height=64, width=80), 8, text=False)
    assert clip_scores(frames, 8, text=False) == before
