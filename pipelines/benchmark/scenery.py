"""Moving scenes for the labelled test set: places of fractal texture, things in them, a moving camera.

Nothing here is meant to be recognised. What the scores look at is like that of outdoor footage: spectra near
1/f, soft and hard edges, parallax between the layers, sensor noise, things that move on their own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

FPS = 24
Path2D = Callable[[float], tuple[float, float]]
"""Position at a time in seconds, in short sides of the frame."""


@dataclass(frozen=True)
class Thing:
    """Something that moves: RGB and its opacity (h, w, 4) uint8, placed by its middle."""

    picture: np.ndarray
    path: Path2D
    with_world: bool = True  # moves with the world under the camera, as a sign does; or with the frame


@dataclass(frozen=True)
class Camera:
    """Where the frame looks: its middle in short sides from the place's middle, zoom, roll in degrees."""

    path: Path2D = lambda _: (0.0, 0.0)
    zoom: Callable[[float], float] = lambda _: 1.0
    roll_degrees: Callable[[float], float] = lambda _: 0.0


@dataclass(frozen=True)
class Scene:
    """A place of one or two layers, what is in it, and how it is filmed."""

    background: np.ndarray  # (H, W, 3) uint8, larger than the frame
    foreground: np.ndarray | None = None  # (H, W, 4) uint8, nearer: moves more under the camera
    things: tuple[Thing, ...] = ()
    camera: Camera = field(default_factory=Camera)
    noise: float = 1.5  # standard deviation of the sensor's noise, grey levels

    def film(self, rng: np.random.Generator, frames: int, height: int, width: int) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB at `FPS`."""
        cv2.setRNGSeed(int(rng.integers(2**31 - 1)))  # of its noise, which is faster than numpy's
        return np.stack([self._frame(number / FPS, height, width) for number in range(frames)])

    def _frame(self, seconds: float, height: int, width: int) -> np.ndarray:
        side = min(height, width)
        picture = self._look(self.background, 1.0, seconds, height, width).astype(np.float32)
        for thing in self.things:
            picture = _over(picture, self._placed(thing, seconds, side, height, width))
        if self.foreground is not None:
            picture = _over(picture, self._look(self.foreground, 1.6, seconds, height, width))
        if self.noise:
            picture = picture + cv2.randn(np.empty_like(picture), 0, self.noise)
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def _look(self, layer: np.ndarray, nearness: float, seconds: float, h: int, w: int) -> np.ndarray:
        """The part of a layer that the camera sees; a nearer one moves more."""
        x, y = (nearness * min(h, w) * part for part in self.camera.path(seconds))
        zoom, roll = self.camera.zoom(seconds), self.camera.roll_degrees(seconds)
        middle = (layer.shape[1] / 2 + x, layer.shape[0] / 2 + y)
        view = cv2.getRotationMatrix2D(middle, roll, zoom)
        view[:, 2] += (w / 2 - middle[0], h / 2 - middle[1])
        return cv2.warpAffine(layer, view, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    def _placed(self, thing: Thing, seconds: float, side: int, h: int, w: int) -> np.ndarray:
        """A thing in an otherwise transparent frame."""
        x, y = thing.path(seconds)
        if thing.with_world:
            camera_x, camera_y = self.camera.path(seconds)
            x, y = x - camera_x, y - camera_y
        left = w / 2 + x * side - thing.picture.shape[1] / 2
        top = h / 2 + y * side - thing.picture.shape[0] / 2
        return cv2.warpAffine(thing.picture, np.array([[1, 0, left], [0, 1, top]], np.float32), (w, h))


def _over(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    opacity = above[..., 3:].astype(np.float32) / 255
    return below * (1 - opacity) + above[..., :3] * opacity


# ---------------------------------------------------------------- textures


def fractal(rng: np.random.Generator, height: int, width: int, roughness: float = 0.6) -> np.ndarray:
    """(H, W) float32 in 0..1: octaves of smooth noise, each `roughness` times as strong as the one before."""
    total = np.zeros((height, width), np.float32)
    cells, strength = 3, 1.0
    while cells < max(height, width) / 2:
        rows, columns = max(2, cells * height // width + 1), cells + 1
        grid = rng.random((rows, columns), np.float32)
        total += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, strength = 2 * cells, strength * roughness
    return cv2.normalize(total, None, 0, 1, cv2.NORM_MINMAX)  # type: ignore[call-overload, no-any-return]


def tinted(rng: np.random.Generator, shade: np.ndarray, *, contrast: float = 1.0) -> np.ndarray:
    """(H, W) in 0..1 → (H, W, 3) uint8 between two colours of one place."""
    dark = rng.uniform(10, 90, 3)
    light = dark + contrast * rng.uniform(70, 160, 3)
    return np.clip(dark + shade[..., None] * (light - dark), 0, 255).astype(np.uint8)


def landscape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a bright sky, ridges of hills behind each other, rough ground."""
    sky = np.linspace(1, 0.4, height, dtype=np.float32)[:, None] + 0.3 * fractal(rng, height, width, 0.4)
    picture = np.clip(sky[..., None] * rng.uniform(150, 235, 3), 0, 255).astype(np.uint8)
    rows = np.arange(height)[:, None]
    for depth in np.sort(rng.uniform(0.3, 0.75, 3)):
        ridge = height * (depth + 0.25 * (fractal(rng, 4, width, 0.55)[2] - 0.5))
        ground = tinted(rng, fractal(rng, height, width, 0.85))
        picture = np.where((rows > ridge)[..., None], ground, picture)
    return picture


def facade(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a wall of windows, some lit: a regular grid of strokes that is no text."""
    picture = tinted(rng, fractal(rng, height, width, 0.8), contrast=0.5)
    step_x, step_y = (int(rng.integers(20, 46)) for _ in "xy")
    for top in range(4, height - step_y, step_y):
        for left in range(4, width - step_x, step_x):
            pane = rng.uniform(20, 240, 3) * rng.uniform(0.5, 1)
            corner = (left + int(0.7 * step_x), top + int(0.65 * step_y))
            cv2.rectangle(picture, (left, top), corner, pane.tolist(), -1)
            cv2.line(picture, ((left + corner[0]) // 2, top), ((left + corner[0]) // 2, corner[1]), (30,) * 3)
    return picture


def bricks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: courses of bricks, every other one shifted by half a brick."""
    picture = tinted(rng, fractal(rng, height, width, 0.9))
    step_y = int(rng.integers(12, 26))
    step_x = int(step_y * rng.uniform(2, 3))
    mortar = rng.uniform(120, 220, 3).tolist()
    for row, top in enumerate(range(0, height, step_y)):
        cv2.line(picture, (0, top), (width, top), mortar, 2)
        for left in range((row % 2) * step_x // 2, width, step_x):
            cv2.line(picture, (left, top), (left, top + step_y), mortar, 2)
    return picture


def fence(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: a wire mesh before a landscape."""
    picture = landscape(rng, height, width)
    step, grey = int(rng.integers(16, 40)), rng.uniform(90, 220)
    for start in range(-height, width, step):
        cv2.line(picture, (start, 0), (start + height, height), (grey,) * 3, 1, cv2.LINE_AA)
        cv2.line(picture, (start, height), (start + height, 0), (grey,) * 3, 1, cv2.LINE_AA)
    return picture


def foliage(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 4) uint8: leaves along one side, the rest transparent: a foreground."""
    density = fractal(rng, height, width, 0.75)
    side = np.linspace(1, 0, width, dtype=np.float32)[None] if rng.random() < 0.5 else None
    slope = side if side is not None else np.linspace(0, 1, height, dtype=np.float32)[:, None]
    opaque = (density + 0.9 * slope > 1.05).astype(np.uint8) * 255
    return np.dstack([tinted(rng, fractal(rng, height, width, 0.95)), opaque])


def thing_picture(rng: np.random.Generator, side: int) -> np.ndarray:
    """(h, w, 4) uint8: a textured blob, box or disc with some limbs of its own colour."""
    height, width = int(side * rng.uniform(0.7, 1.4)), side
    texture = tinted(rng, fractal(rng, height, width, 0.8))
    opaque = np.zeros((height, width), np.uint8)
    middle = (width // 2, height // 2)
    if rng.random() < 0.4:
        cv2.rectangle(
            opaque, (width // 10, height // 5), (width - width // 10, height - height // 5), 255, -1
        )
    else:
        cv2.ellipse(opaque, middle, (width // 2 - 2, height // 2 - 2), 0, 0, 360, 255, -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 5))):
        end = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.line(texture, middle, end, rng.uniform(0, 255, 3).tolist(), max(2, side // 16))
        cv2.circle(texture, end, max(2, side // 10), rng.uniform(0, 255, 3).tolist(), -1)
    return np.dstack([texture, opaque])


# ---------------------------------------------------------------- paths


def straight(start: tuple[float, float], degrees: float, speed: float) -> Path2D:
    """A line; speed in short sides per second."""
    step_x, step_y = speed * np.cos(np.radians(degrees)), speed * np.sin(np.radians(degrees))
    return lambda seconds: (start[0] + step_x * seconds, start[1] + step_y * seconds)


def held(value: float) -> Callable[[float], float]:
    return lambda _: value


def swinging(middle: tuple[float, float], reach: float, per_second: float, phase: float) -> Path2D:
    """To and fro, as a head or a leaf moves; reach in short sides."""

    def at(seconds: float) -> tuple[float, float]:
        turn = 2 * np.pi * per_second * seconds + phase
        return middle[0] + reach * float(np.sin(turn)), middle[1] + 0.4 * reach * float(np.sin(2 * turn))

    return at


def handheld(rng: np.random.Generator, reach: float = 0.012) -> Path2D:
    """The small unrest of a hand."""
    rates, phases = rng.uniform(0.4, 2.2, (2, 3)), rng.uniform(0, 6.3, (2, 3))

    def at(seconds: float) -> tuple[float, float]:
        x, y = reach * np.sin(2 * np.pi * rates * seconds + phases).sum(axis=1)
        return float(x), float(y)

    return at
