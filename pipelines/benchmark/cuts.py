"""Films whose cuts are known, and films without any that look as if they had some."""

import numpy as np

from pipelines.benchmark.labelled import Kind
from pipelines.benchmark.scenery import FPS, Camera, Scene, held, straight
from pipelines.benchmark.studio import Film, Rng, Studio, crossfade

DISSOLVE_FRAMES = 16


def hard_cuts(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    return _joined([studio.shot(rng, _length(rng), height=height, width=width) for _ in range(3)], rng)


def cuts_within_one_place(studio: Studio, rng: Rng) -> Film:
    """The same place at other camera positions, with other things in it: the colours hardly change."""
    height, width = studio.size(rng)
    place = studio.still(rng, height, width, 2.2)
    shots = []
    for corner in rng.permutation(4)[:3]:
        x, y = 0.3 * (1 if corner % 2 else -1), 0.3 * (1 if corner // 2 else -1)
        camera = Camera(straight((x, y), rng.uniform(0, 360), 0.05), zoom=held(rng.uniform(1, 1.5)))
        things = tuple(studio.thing(rng, min(height, width)) for _ in range(2))
        shots.append(Scene(place, None, things, camera).film(rng, _length(rng), height, width))
    return _joined(shots, rng)


def flashes(studio: Studio, rng: Rng) -> Film:
    """Photographers' flashes and lightning: one or two frames of light."""
    frames = studio.shot(rng, 2 * FPS)
    for first in rng.choice(np.arange(8, len(frames) - 8), 2, replace=False):
        span = slice(first, first + int(rng.integers(1, 3)))
        frames[span] = np.clip(frames[span] * np.float32(0.4) + rng.uniform(120, 190), 0, 255).astype(
            np.uint8
        )
    return Film(frames)


def whip_pan(studio: Studio, rng: Rng) -> Film:
    """The camera swings fast from one end of a place to the other."""
    height, width = studio.size(rng)
    place = studio.still(rng, height, width, 3)
    reach = 0.9 * (place.shape[1] - width) / min(height, width)

    def path(seconds: float) -> tuple[float, float]:
        return reach * (1 / (1 + float(np.exp(-9 * (seconds - 1)))) - 0.5), 0.0

    things = (studio.thing(rng, min(height, width)),)
    return Film(Scene(place, None, things, Camera(path)).film(rng, 2 * FPS, height, width))


def passer_by(studio: Studio, rng: Rng) -> Film:
    """Something near and large crosses the whole frame."""
    height, width = studio.size(rng)
    near = studio.thing(rng, height, (0.9, 1.0)).picture
    start = -0.8 * width / min(height, width)
    frames = studio.shot(rng, 2 * FPS, height=height, width=width)
    for number in range(len(frames)):
        left = (start + 1.6 * number / FPS) * min(height, width)
        frames[number] = _pasted(frames[number], near, round(left))
    return Film(frames)


def calm_shot(studio: Studio, rng: Rng) -> Film:
    return Film(studio.shot(rng, 2 * FPS))


def dissolve(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    one, other = (studio.shot(rng, FPS + DISSOLVE_FRAMES, height=height, width=width) for _ in range(2))
    middle = crossfade(one[-DISSOLVE_FRAMES:], other[:DISSOLVE_FRAMES])
    frames = np.concatenate([one[:-DISSOLVE_FRAMES], middle, other[DISSOLVE_FRAMES:]])
    return Film(frames, dissolves=((FPS, FPS + DISSOLVE_FRAMES),))


def _length(rng: Rng) -> int:
    return int(rng.integers(FPS, 2 * FPS))


def _joined(shots: list[np.ndarray], rng: Rng) -> Film:
    ends = np.cumsum([len(shot) for shot in shots]).tolist()
    return Film(np.concatenate(shots), crf=int(rng.integers(20, 30)), cuts=tuple(ends[:-1]))


def _pasted(frame: np.ndarray, picture: np.ndarray, left: int) -> np.ndarray:
    """A frame with a picture over it, its left edge at `left`, vertically in the middle."""
    height, width = frame.shape[:2]
    top = (height - picture.shape[0]) // 2
    picture = picture[max(0, -top) :][:height]
    first, last = max(0, left), min(width, left + picture.shape[1])
    if first >= last:
        return frame
    part = picture[:, first - left : last - left]
    result = frame.copy()
    place = result[max(0, top) : max(0, top) + len(part), first:last]
    place[:] = np.where(part[..., 3:] > 127, part[..., :3], place)
    return result


KINDS = (
    Kind("hard cuts", True, hard_cuts),
    Kind("cuts within one place", True, cuts_within_one_place),
    Kind("flashes", False, flashes),
    Kind("whip pan", False, whip_pan),
    Kind("passer-by", False, passer_by),
    Kind("calm shot", False, calm_shot),
    Kind("dissolve", None, dissolve),
)
