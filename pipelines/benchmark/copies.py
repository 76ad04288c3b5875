"""Pairs of films: copies of one, as stock collections hold them, and films that merely look alike."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipelines.benchmark.scenery import FPS, Camera, Scene, Thing, straight
from pipelines.benchmark.studio import Film, Rng, Studio, exposed, scaled

Pair = tuple[Film, Film]


@dataclass(frozen=True)
class PairKind:
    """One kind of pair. `same` None: reported, but not counted."""

    name: str
    same: bool | None
    make: Callable[[Studio, Rng], Pair]


def _copied(change: Callable[[Rng, Film], Film]) -> Callable[[Studio, Rng], Pair]:
    def make(studio: Studio, rng: Rng) -> Pair:
        # Longer than a clip, so that a trimmed copy has a whole one too.
        film = Film(studio.shot(rng, studio.frames + FPS // 2))
        return film, change(rng, film)

    return make


def _low_bitrate(rng: Rng, film: Film) -> Film:
    return replace(film, crf=int(rng.integers(34, 40)))


def _resized(rng: Rng, film: Film) -> Film:
    return replace(film, frames=scaled(film.frames, float(rng.choice((0.5, 0.66, 1.5)))))


def _other_container(rng: Rng, film: Film) -> Film:
    return replace(film, suffix=str(rng.choice((".mkv", ".avi", ".mov"))), crf=int(rng.integers(18, 30)))


def _other_rate(rng: Rng, film: Film) -> Film:
    fps = float(rng.choice((12, 15, 25, 30)))
    times = np.arange(int(len(film.frames) / FPS * fps)) / fps
    return replace(film, frames=film.frames[(times * FPS).astype(int)], fps=fps)


def _graded(rng: Rng, film: Film) -> Film:
    return replace(film, frames=exposed(film.frames, rng.uniform(0.85, 1.1), rng.uniform(-8, 12)))


def _cropped(rng: Rng, film: Film) -> Film:
    height, width = film.frames.shape[1:3]
    share = rng.uniform(0.03, 0.08)
    top, left = (2 * round(side * share / 2) for side in (height, width))
    return replace(film, frames=film.frames[:, top : height - top, left : width - left])


def _trimmed(rng: Rng, film: Film) -> Film:
    return replace(film, frames=film.frames[int(rng.integers(2, FPS // 2)) :])


def _mirrored(rng: Rng, film: Film) -> Film:
    return replace(film, frames=film.frames[:, :, ::-1].copy())


def another_film(studio: Studio, rng: Rng) -> Pair:
    height, width = studio.size(rng)
    one, other = (studio.shot(rng, height=height, width=width) for _ in range(2))
    return Film(one), Film(other)


def same_place(studio: Studio, rng: Rng) -> Pair:
    """A place filmed twice: the camera stands elsewhere, and other things go by."""
    height, width = studio.size(rng)
    place = studio.still(rng, height, width, 2)
    films = []
    for x in (-0.25, 0.25):
        things = tuple(studio.thing(rng, min(height, width), (0.3, 0.5)) for _ in range(2))
        scene = Scene(place, None, things, Camera(straight((x, 0), rng.uniform(0, 360), 0.05)))
        films.append(Film(scene.film(rng, studio.frames, height, width)))
    return films[0], films[1]


def same_studio(studio: Studio, rng: Rng) -> Pair:
    """Two subjects in turn before one plain backdrop, as product videos are filmed."""
    height, width = studio.size(rng)
    side = min(height, width)
    shade = np.linspace(1, rng.uniform(0.5, 0.9), round(1.5 * height))[:, None, None]
    back = np.broadcast_to(shade * rng.uniform(120, 250, 3), (round(1.5 * height), round(1.5 * width), 3))
    films = []
    for _ in range(2):
        picture = studio.thing(rng, side, (0.6, 0.8)).picture
        thing = Thing(picture, straight((rng.uniform(-0.1, 0.1), 0), rng.uniform(0, 360), 0.1))
        scene = Scene(back.astype(np.uint8), None, (thing,), noise=1)
        films.append(Film(scene.film(rng, studio.frames, height, width)))
    return films[0], films[1]


KINDS = (
    PairKind("low bitrate", True, _copied(_low_bitrate)),
    PairKind("resized", True, _copied(_resized)),
    PairKind("other container", True, _copied(_other_container)),
    PairKind("other frame rate", True, _copied(_other_rate)),
    PairKind("another film", False, another_film),
    PairKind("same place", False, same_place),
    PairKind("same studio", False, same_studio),
    PairKind("colour graded", None, _copied(_graded)),
    PairKind("cropped", None, _copied(_cropped)),
    PairKind("trimmed", None, _copied(_trimmed)),
    PairKind("mirrored", None, _copied(_mirrored)),
)
