"""SpriteWorld: what a clip is, which clips there are, and which combinations are held out."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "moon")
COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (246, 208, 40),
    "purple": (134, 58, 180),
    "orange": (244, 128, 30),
    "pink": (246, 130, 180),
    "white": (244, 244, 244),
}
BACKGROUNDS = ("grass", "sand", "water", "bricks", "wood", "stone")
# Displacement per unit of distance (right, down), and the change of the logarithm of size.
MOTIONS = {
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "up": (0.0, -1.0, 0.0),
    "down": (0.0, 1.0, 0.0),
    "up_left": (-0.75, -0.75, 0.0),
    "down_right": (0.75, 0.75, 0.0),
    "grow": (0.0, 0.0, 1.0),
    "shrink": (0.0, 0.0, -1.0),
    "still": (0.0, 0.0, 0.0),
}
PANS = {"pan_left": (-1.0, 0.0), "pan_right": (1.0, 0.0), "pan_up": (0.0, -1.0), "pan_down": (0.0, 1.0)}
CLEAN_CRF = 18
DEFAULT_MOTIONS = ("left", "right", "up", "down", "up_left", "grow", "shrink", "still")

Split = Literal["train", "validation", "held_out", "held_out_two", "held_out_pan", "images"]


@dataclass(frozen=True)
class WorldSettings:
    """What a SpriteWorld holds; distances are shares of the frame's side."""

    clips: int = 512
    seed: int = 0
    motions: tuple[str, ...] = DEFAULT_MOTIONS
    two_sprites_share: float = 0.1
    pan_share: float = 0.1
    crossing: bool = False  # two sprites meet in the middle of their clip, the second in front
    detail: float = 1.0  # contrast of all textures
    light_spread: float = 0.0  # scenes are so much darker or brighter, and no caption says so
    validation_clips: int = 32
    held_out_clips: int = 64
    held_out_two_clips: int = 16
    held_out_pan_clips: int = 16
    images: int = 8
    side_pixels: int = 96
    frames: int = 16
    fps: int = 16
    watermark: str | None = None  # over training and validation clips; held-out ones are clean and sharp
    crf: int = CLEAN_CRF  # H.264 compression of the same clips;

    def __post_init__(self) -> None:
        unknown = set(self.motions) - set(MOTIONS)
        if unknown or not self.motions:
            raise ValueError(f"motions {sorted(unknown)} are none of {sorted(MOTIONS)}")
        if self.side_pixels % 2:
            raise ValueError(f"side_pixels={self.side_pixels}: H.264 with 4:2:0 colour wants an even side")
        if not 0 <= self.light_spread < 1:
            raise ValueError(f"light_spread={self.light_spread} must be at least 0 and less than 1")


@dataclass(frozen=True)
class Sprite:
    """A textured shape; position, radius and distance are shares of the frame's side."""

    shape: str
    colour: str
    motion: str
    x: float
    y: float
    radius: float
    distance: float
    growth: float
    angle_degrees: float
    texture_seed: int

    def at(self, progress: float) -> tuple[float, float, float]:
        """(x, y, radius) when `progress` (0..1) of the clip has passed."""
        right, down, growth = MOTIONS[self.motion]
        travelled = self.distance * progress
        return (
            self.x + right * travelled,
            self.y + down * travelled,
            self.radius * self.growth ** (growth * progress),
        )

    def box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) in the first frame, as shares of its side."""
        r = self.radius
        return (
            round(self.x - r, 4),
            round(self.y - r, 4),
            round(self.x + r, 4),
            round(self.y + r, 4),
        )


@dataclass(frozen=True)
class Clip:
    """One clip of SpriteWorld: everything that its frames, flow and caption follow from."""

    split: Split
    place: int  # within its split
    sprites: tuple[Sprite, ...]
    background: str
    background_seed: int
    camera: str
    pan_distance: float
    detail: float = 1.0
    light: float = 1.0

    @property
    def held_out(self) -> bool:
        """Whether no combination of it occurs in training."""
        return self.split.startswith("held_out")

    @property
    def name(self) -> str:
        """Of its file and its row; in a larger world of the same seed it names the same clip."""
        return f"{self.split}-{self.place:06d}"

    def camera_at(self, progress: float) -> tuple[float, float]:
        """Where the camera has gone, in shares of the frame's side."""
        right, down = PANS.get(self.camera, (0.0, 0.0))
        return right * self.pan_distance * progress, down * self.pan_distance * progress


def is_held_out(shape: str, colour: str, motion: str) -> bool:
    """One combination of shape, colour and motion in seven never occurs in training."""
    return hashlib.sha256(f"{shape}/{colour}/{motion}".encode()).digest()[0] % 7 == 0


def world_clips(settings: WorldSettings) -> Iterator[Clip]:
    """All clips of a world, the training clips first; a clip depends on seed, split and its place in it."""
    sizes: dict[Split, int] = {
        "train": settings.clips,
        "validation": settings.validation_clips,
        "held_out": settings.held_out_clips,
        "held_out_two": settings.held_out_two_clips,
        "held_out_pan": settings.held_out_pan_clips,
    }
    for split, size in sizes.items():
        for place in range(size):
            yield make_clip(settings, split, place)


def make_clip(settings: WorldSettings, split: Split, place: int) -> Clip:
    rng = random.Random(f"{settings.seed}/{split}/{place}")
    if split.startswith("held_out"):
        two, pan = split == "held_out_two", split == "held_out_pan"
    else:
        draw = rng.random()
        two = draw < settings.two_sprites_share
        pan = settings.two_sprites_share <= draw < settings.two_sprites_share + settings.pan_share
    return Clip(
        split=split,
        place=place,
        sprites=_sprites(rng, settings, held_out=split.startswith("held_out"), two=two, place=place),
        background=rng.choice(BACKGROUNDS),
        background_seed=rng.randrange(2**31),
        camera=rng.choice(sorted(PANS)) if pan else "still",
        pan_distance=rng.uniform(0.15, 0.25),
        detail=settings.detail,
        light=_light(rng, settings),
    )


def _light(rng: random.Random, settings: WorldSettings) -> float:
    return rng.uniform(1 - settings.light_spread, 1 + settings.light_spread)


def clips_of_images(settings: WorldSettings) -> Iterator[Clip]:
    """For each image one clip of every motion, all of which begin with it: only words tell them apart."""
    for place in range(settings.images):
        rng = random.Random(f"{settings.seed}/images/{place}")
        centre = (rng.uniform(0.38, 0.62), rng.uniform(0.38, 0.62))
        first = Clip(
            split="images",
            place=place,
            sprites=(_sprite(rng, settings.motions[0], centre, rng.uniform(0.18, 0.22), held_out=False),),
            background=rng.choice(BACKGROUNDS),
            background_seed=rng.randrange(2**31),
            camera="still",
            pan_distance=0.0,
            detail=settings.detail,
            light=_light(rng, settings),
        )
        for motion in settings.motions:
            yield replace(first, sprites=(replace(first.sprites[0], motion=motion),))


def _sprites(
    rng: random.Random, settings: WorldSettings, *, held_out: bool, two: bool, place: int
) -> tuple[Sprite, ...]:
    """Where a sprite starts says nothing about where it goes: the start is drawn alike for every motion."""
    first_motion = settings.motions[place % len(settings.motions)]
    if not two:
        centre = (rng.uniform(0.38, 0.62), rng.uniform(0.38, 0.62))
        return (_sprite(rng, first_motion, centre, rng.uniform(0.18, 0.22), held_out),)
    # Two sprites side by side (or one above the other), smaller, so that they seldom meet.
    across, along = rng.uniform(0.24, 0.3), rng.uniform(0.4, 0.6)
    centres = [(across, along), (1 - across, 1 - along)]
    if rng.random() < 0.5:
        centres = [(y, x) for x, y in centres]
    rng.shuffle(centres)
    motions = (first_motion, rng.choice(settings.motions))
    if settings.crossing:
        centres = [(rng.uniform(0.42, 0.58), rng.uniform(0.42, 0.58))] * 2
        while MOTIONS[motions[0]][:2] == MOTIONS[motions[1]][:2]:  # one would cover the other all along
            motions = (first_motion, rng.choice(settings.motions))
    first, second = (
        _sprite(rng, motion, centre, rng.uniform(0.12, 0.15), held_out)
        for motion, centre in zip(motions, centres, strict=True)
    )
    while (second.shape, second.colour) == (first.shape, first.colour):
        second = _sprite(rng, second.motion, centres[1], second.radius, held_out)
    return (first, _meeting(second, first)) if settings.crossing else (first, second)


def _meeting(sprite: Sprite, other: Sprite) -> Sprite:
    """The sprite, begun where it must to be over the other one when half of the clip is over."""
    (x, y, _), (other_x, other_y, _) = sprite.at(0.5), other.at(0.5)
    return replace(sprite, x=sprite.x + other_x - x, y=sprite.y + other_y - y)


def _sprite(
    rng: random.Random, motion: str, centre: tuple[float, float], radius: float, held_out: bool
) -> Sprite:
    while True:
        shape, colour = rng.choice(SHAPES), rng.choice(sorted(COLOURS))
        if is_held_out(shape, colour, motion) == held_out:
            break
    return Sprite(
        shape=shape,
        colour=colour,
        motion=motion,
        x=centre[0],
        y=centre[1],
        radius=radius,
        distance=rng.uniform(0.24, 0.34),
        growth=rng.uniform(1.6, 1.9),
        angle_degrees=rng.uniform(-12, 12),
        texture_seed=rng.randrange(2**31),
    )
