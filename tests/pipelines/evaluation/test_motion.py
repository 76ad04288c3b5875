"""The motion measure on squares that the test moves itself, over ground, with noise and a moving camera."""

import cv2
import numpy as np
import pytest

from pipelines.evaluation.motion import (
    LOST,
    MOTIONS,
    LabelledObject,
    Movement,
    object_movements,
    parse_objects,
    video_flow,
)

SIDE, FRAMES, SQUARE = 64, 8, 20
VOCABULARY = tuple(MOTIONS)


def ground(rng: np.random.Generator) -> np.ndarray:
    """(2S, 2S, 3): textured ground, greater than the frame."""
    texture = cv2.GaussianBlur(rng.standard_normal((2 * SIDE, 2 * SIDE)).astype(np.float32), (0, 0), 2)
    return 110 + 25 * (texture / texture.std())[..., None] * np.array([0.8, 1.0, 0.6])


def square_video(
    motion: str,
    *,
    seed: int = 0,
    colour: tuple[int, int, int] = (210, 60, 40),
    pan: tuple[float, float] = (0, 0),
    noise: float = 6,
    distance: float = 16,
) -> np.ndarray:
    """(T, S, S, 3) uint8: a square of SQUARE pixels that does what its motion says."""
    rng = np.random.default_rng(seed)
    plane = ground(rng)
    right, down, growth = MOTIONS[motion]
    frames = []
    for progress in np.linspace(0, 1, FRAMES):
        x, y = np.array([SIDE / 2, SIDE / 2]) + progress * (distance * np.array([right, down]) - pan)
        half = SQUARE / 2 * np.exp(0.6 * growth * progress)
        corners = cv2.boxPoints(((float(x), float(y)), (2 * half, 2 * half), 0.0))
        view = np.array([[1, 0, -20 - pan[0] * progress], [0, 1, -20 - pan[1] * progress]], np.float32)
        frame = cv2.warpAffine(plane.astype(np.float32), view, (SIDE, SIDE))
        mask = np.zeros((SIDE * 4, SIDE * 4), np.float32)
        cv2.fillConvexPoly(mask, (corners * 4).astype(np.int32), 1.0)
        mask = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., None]
        frames.append(frame * (1 - mask) + np.array(colour) * mask)
    video = np.stack(frames) + rng.normal(0, noise, (FRAMES, SIDE, SIDE, 3))
    return video.clip(0, 255).astype(np.uint8)


def box(centre: float = SIDE / 2, half: float = SQUARE / 2) -> tuple[float, float, float, float]:
    low, high = (centre - half) / SIDE, (centre + half) / SIDE
    return low, low, high, high


def seen(video: np.ndarray, vocabulary: tuple[str, ...] = VOCABULARY) -> str:
    (movement,) = object_movements(video_flow(video), [LabelledObject("still", box())])
    return movement.nearest(vocabulary)


@pytest.mark.parametrize("motion", VOCABULARY)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_motion_is_recognised_under_noise(motion: str, seed: int) -> None:
    assert seen(square_video(motion, seed=seed)) == motion


@pytest.mark.parametrize("motion", ["left", "right", "up", "still", "grow", "shrink"])
@pytest.mark.parametrize("pan", [(14, 0), (0, -14)])
def test_the_camera_is_taken_off(motion: str, pan: tuple[float, float]) -> None:
    assert seen(square_video(motion, pan=pan, noise=3, distance=12)) == motion


def test_an_object_of_the_ground_s_luminance_is_followed_by_its_colour() -> None:
    colour = (150, 60, 190)
    assert np.dot(colour, (0.299, 0.587, 0.114)) == pytest.approx(105, abs=8)
    assert seen(square_video("left", colour=colour)) == "left"


def test_a_frozen_video_is_still_and_so_is_a_single_frame() -> None:
    video = square_video("right")
    assert seen(np.repeat(video[:1], FRAMES, 0)) == "still"
    assert object_movements(video_flow(video[:1]), [LabelledObject("left", box())]) == [Movement(0, 0, 0)]


def test_an_object_that_dissolves_inside_the_frame_is_lost_and_one_that_leaves_is_not() -> None:
    video = square_video("right", noise=2)
    empty = square_video("right", noise=2, distance=300)[-1]
    dissolving = np.concatenate([video[:4], np.repeat(empty[None], 4, 0)])
    assert seen(dissolving) == LOST
    assert seen(square_video("right", distance=46)) == "right"


def test_two_objects_are_told_apart() -> None:
    left, right = square_video("left", noise=0, distance=8), square_video("grow", noise=0)
    video = np.concatenate([left, right], axis=2)
    low, _, high, _ = box()
    boxes = [(low / 2, low, high / 2, high), (0.5 + low / 2, low, 0.5 + high / 2, high)]
    found = object_movements(video_flow(video), [LabelledObject("left", b) for b in boxes])
    assert [movement.nearest(VOCABULARY) for movement in found] == ["left", "grow"]


def test_the_nearest_of_a_smaller_vocabulary_is_taken() -> None:
    diagonal = Movement(right=-0.9, down=-0.5, growth=0)
    assert diagonal.nearest(VOCABULARY) == "up_left"
    assert diagonal.nearest(("left", "up", "still")) == "left"
    assert Movement(0.1, 0, 0.02).nearest(VOCABULARY) == "still"
    assert Movement(0.1, 0, 0.02).nearest(("left", "right")) == "right"


def test_labels_are_checked() -> None:
    assert parse_objects([{"motion": "up", "box": [0, 0.1, 0.2, 0.3], "colour": "red"}]) == [
        LabelledObject("up", (0, 0.1, 0.2, 0.3))
    ]
    with pytest.raises(ValueError, match="'sideways'"):
        parse_objects([{"motion": "sideways", "box": [0, 0, 1, 1]}])
    with pytest.raises(ValueError, match="box"):
        parse_objects([{"motion": "up", "box": [0.5, 0, 0.2, 1]}])
