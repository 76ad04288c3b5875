"""Base footage of the labelled test set: good shots and stills, generated or taken from a user's clips."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from pipelines.benchmark.scenery import (
    FPS,
    Camera,
    Scene,
    Thing,
    bricks,
    facade,
    fence,
    foliage,
    handheld,
    landscape,
    straight,
    swinging,
    thing_picture,
)
from pipelines.curation.video import crop_to

SIZES = ((288, 512), (270, 480), (288, 384), (480, 270))  # (height, width)
Rng = np.random.Generator
MARGIN = 1.5  # a still is so much larger than the frame, for a camera to move over


@dataclass(frozen=True)
class Film:
    """Frames and the file they become."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    fps: float = FPS
    crf: int = 23
    suffix: str = ".mp4"
    cuts: tuple[int, ...] = ()  # first frames of new shots
    dissolves: tuple[tuple[int, int], ...] = ()  # (first, last) frames of slow transitions


@dataclass(frozen=True)
class Studio:
    """Draws footage `seconds` long. Real `clips`, (T, H, W, 3) at `FPS`, replace the generated scenes."""

    seconds: float
    clips: Sequence[np.ndarray] = field(default=(), repr=False)

    @property
    def frames(self) -> int:
        return round(self.seconds * FPS)

    def size(self, rng: np.random.Generator) -> tuple[int, int]:
        return SIZES[int(rng.integers(len(SIZES)))]

    def shot(self, rng: np.random.Generator, frames: int | None = None, **size: int) -> np.ndarray:
        """Good footage: sharp, moving, without text."""
        frames = frames or self.frames
        height, width = (size["height"], size["width"]) if size else self.size(rng)
        if self.clips:
            return _part(rng, self.clips[int(rng.integers(len(self.clips)))], frames, height, width)
        return self.scene(rng, height, width).film(rng, frames, height, width)

    def scene(self, rng: np.random.Generator, height: int, width: int) -> Scene:
        """A generated place with things that move, under one of four kinds of camera."""
        back = self.still(rng, height, width)
        front: np.ndarray | None = foliage(rng, *back.shape[:2])
        things = tuple(self.thing(rng, min(height, width)) for _ in range(rng.integers(1, 4)))
        speed, degrees = rng.uniform(0.06, 0.3), rng.uniform(0, 360)
        match rng.integers(4):
            case 0:
                camera = Camera(straight((0, 0), degrees, speed))
            case 1:
                camera, front = Camera(), None
            case 2:
                camera = Camera(handheld(rng))
            case _:
                rate = rng.uniform(-0.12, 0.2)
                camera = Camera(
                    handheld(rng, 0.004), zoom=lambda seconds: 1.15 * float(np.exp(rate * seconds))
                )
        return Scene(back, front, things, camera, noise=rng.uniform(0.5, 2.5))

    def thing(self, rng: np.random.Generator, side: int, share: tuple[float, float] = (0.18, 0.45)) -> Thing:
        """Something that crosses the frame or sways in it; `share` of the short side it takes."""
        picture = thing_picture(rng, max(12, int(side * rng.uniform(*share))))
        start = (rng.uniform(-0.5, 0.3), rng.uniform(-0.25, 0.3))
        if rng.random() < 0.6:
            return Thing(picture, straight(start, rng.uniform(-30, 30), rng.uniform(0.15, 0.5)))
        return Thing(
            picture, swinging(start, rng.uniform(0.05, 0.15), rng.uniform(0.4, 1), rng.uniform(0, 6))
        )

    def still(self, rng: np.random.Generator, height: int, width: int, margin: float = MARGIN) -> np.ndarray:
        """A photograph, `margin` times as large as the frame."""
        tall, wide = round(height * margin), round(width * margin)
        if not self.clips:
            return landscape(rng, tall, wide)
        clip = self.clips[int(rng.integers(len(self.clips)))]
        return crop_to(clip[rng.integers(len(clip))][None], tall, wide)[0]

    def wall(self, rng: np.random.Generator, height: int, width: int, margin: float = MARGIN) -> np.ndarray:
        """A picture of regular strokes that are no text."""
        draw = (bricks, facade, fence)[int(rng.integers(3))]
        return draw(rng, round(height * margin), round(width * margin))


def _part(rng: np.random.Generator, clip: np.ndarray, frames: int, height: int, width: int) -> np.ndarray:
    """A span of a real clip at the wanted size; it runs back and forth when it is too short."""
    there_and_back = np.concatenate([clip, clip[-2:0:-1]]) if len(clip) < frames else clip
    first = int(rng.integers(len(there_and_back) - frames + 1)) if len(there_and_back) > frames else 0
    chosen = (first + np.arange(frames)) % len(there_and_back)
    part = crop_to(there_and_back[chosen], height, width)
    return part[:, :, ::-1].copy() if rng.random() < 0.5 else part


def crossfade(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Equal numbers of frames, dissolved from the one into the other."""
    share = np.linspace(0, 1, len(one), dtype=np.float32)[:, None, None, None]
    return (one * (1 - share) + other * share + 0.5).astype(np.uint8)


def blur(frames: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def grain(rng: np.random.Generator, frames: np.ndarray, sigma: float) -> np.ndarray:
    """`frames` with new noise in each."""
    noise = rng.normal(0, sigma, frames.shape).astype(np.float32)
    return np.clip(frames + noise + 0.5, 0, 255).astype(np.uint8)


def exposed(frames: np.ndarray, gain: float, offset: float = 0) -> np.ndarray:
    """Frames at another exposure, clipped as a sensor clips."""
    return np.clip(frames * np.float32(gain) + np.float32(offset) + 0.5, 0, 255).astype(np.uint8)


def scaled(frames: np.ndarray, factor: float) -> np.ndarray:
    height, width = (2 * round(side * factor / 2) for side in frames.shape[1:3])
    method: Any = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames])
