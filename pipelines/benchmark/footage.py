"""Footage of every kind that the filters are tried on."""

from collections.abc import Callable

import cv2
import numpy as np

from pipelines.benchmark import overlays
from pipelines.benchmark.scenery import Camera, Scene, Thing, handheld, straight, thing_picture
from pipelines.benchmark.studio import Film, Rng, Studio, blur, crossfade, exposed, grain, scaled

PREVIEW_SIZE = (336, 596)


# ---------------------------------------------------------------- footage that stands still, more or less


def photo(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    return Film(_held(studio, studio.still(rng, height, width, 1.0)), crf=int(rng.integers(20, 36)))


def grainy_photo(studio: Studio, rng: Rng) -> Film:
    film = photo(studio, rng)
    return Film(grain(rng, film.frames, rng.uniform(1, 2.5)), crf=int(rng.integers(23, 30)))


def hard_cut_slideshow(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    photos = [_held(studio, studio.still(rng, height, width, 1.0)) for _ in range(2)]
    return Film(np.concatenate(photos), crf=int(rng.integers(20, 30)))


def still_card(studio: Studio, rng: Rng) -> Film:
    return Film(overlays.title_card(rng, studio.frames, *studio.size(rng)))


def small_thing_before_a_still_camera(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    thing = studio.thing(rng, min(height, width), (0.15, 0.25))
    return _filmed(studio, rng, Scene(studio.still(rng, height, width), None, (thing,)), height, width)


def swaying_before_a_still_camera(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    things = tuple(studio.thing(rng, min(height, width), (0.15, 0.3)) for _ in range(3))
    return _filmed(studio, rng, Scene(studio.still(rng, height, width), None, things), height, width)


def slow_pan(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    camera = Camera(straight((0, 0), rng.uniform(0, 360), rng.uniform(0.03, 0.06)))
    return _filmed(studio, rng, Scene(studio.still(rng, height, width), camera=camera), height, width)


def creeping_pan(studio: Studio, rng: Rng) -> Film:
    """So slow that a clip of a few seconds shows nothing of it."""
    height, width = studio.size(rng)
    camera = Camera(straight((0, 0), rng.uniform(0, 360), rng.uniform(0.0005, 0.0025)))
    return _filmed(studio, rng, Scene(studio.still(rng, height, width), camera=camera), height, width)


def flickering_lamp(studio: Studio, rng: Rng) -> Film:
    """Nothing moves, but the light of the whole place comes and goes a little."""
    film = photo(studio, rng)
    gains = 1 + rng.uniform(0.01, 0.03) * np.sin(np.arange(len(film.frames)) * rng.uniform(0.5, 2))
    return Film(np.concatenate([exposed(f[None], g) for f, g in zip(film.frames, gains, strict=True)]))


def noisy_standstill(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    return _filmed(
        studio, rng, Scene(studio.still(rng, height, width), noise=rng.uniform(2, 5)), height, width
    )


def handheld_standstill(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    camera = Camera(handheld(rng, rng.uniform(0.008, 0.015)))
    return _filmed(studio, rng, Scene(studio.still(rng, height, width), camera=camera), height, width)


# ---------------------------------------------------------------- photographs under a moving camera


def ken_burns_pan(studio: Studio, rng: Rng) -> Film:
    camera = Camera(straight((0, 0), rng.uniform(0, 360), rng.uniform(0.03, 0.12)))
    return _ken_burns(studio, rng, camera)


def ken_burns_zoom(studio: Studio, rng: Rng) -> Film:
    rate, start = rng.choice((-1, 1)) * rng.uniform(0.03, 0.12), rng.uniform(1.1, 1.2)
    drift = straight((0, 0), rng.uniform(0, 360), rng.uniform(0, 0.04))
    return _ken_burns(studio, rng, Camera(drift, zoom=lambda seconds: start * float(np.exp(rate * seconds))))


def ken_burns_roll(studio: Studio, rng: Rng) -> Film:
    rate = rng.choice((-1, 1)) * rng.uniform(1, 4)
    return _ken_burns(studio, rng, Camera(zoom=lambda _: 1.15, roll_degrees=lambda seconds: rate * seconds))


def crossfaded_slideshow(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    one, other = (_held(studio, studio.still(rng, height, width, 1.0)) for _ in range(2))
    return Film(crossfade(one, other))


def good_shot(studio: Studio, rng: Rng) -> Film:
    return Film(studio.shot(rng), crf=int(rng.integers(20, 31)))


def pan_with_a_thing(studio: Studio, rng: Rng) -> Film:
    """A distant place, so no parallax; one thing of its own motion."""
    height, width = studio.size(rng)
    camera = Camera(straight((0, 0), rng.uniform(0, 360), rng.uniform(0.05, 0.2)))
    thing = studio.thing(rng, min(height, width), (0.2, 0.35))
    return _filmed(
        studio, rng, Scene(studio.still(rng, height, width), None, (thing,), camera), height, width
    )


# ---------------------------------------------------------------- text


def overlaid(overlay: Callable[[Rng, np.ndarray], np.ndarray]) -> Callable[[Studio, Rng], Film]:
    return lambda studio, rng: Film(overlay(rng, studio.shot(rng)), crf=int(rng.integers(20, 29)))


def scrolling_credits(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    back = np.zeros((studio.frames, height, width, 3), np.uint8) if rng.random() < 0.5 else None
    frames = exposed(studio.shot(rng, height=height, width=width), 0.4) if back is None else back
    return Film(overlays.credits(rng, frames, rng.uniform(0.08, 0.2)))


def wall_of_strokes(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    camera = Camera(straight((0, 0), rng.uniform(0, 360), rng.uniform(0.03, 0.2)))
    things = (studio.thing(rng, min(height, width)),)
    return _filmed(studio, rng, Scene(studio.wall(rng, height, width), None, things, camera), height, width)


def street_sign(studio: Studio, rng: Rng) -> Film:
    """A board with a word that belongs to the place and moves with it."""
    height, width = studio.size(rng)
    camera = Camera(straight((0, 0), rng.uniform(-30, 30), rng.uniform(0.1, 0.2)))
    return _signed(studio, rng, height, width, camera)


def _signed(studio: Studio, rng: Rng, height: int, width: int, camera: Camera) -> Film:
    side = min(height, width)
    text = overlays.line(rng, overlays.words(rng, 1).upper(), round(side * rng.uniform(0.045, 0.06)))
    board = np.zeros((text.shape[0] + 16, text.shape[1] + 20, 4), np.uint8)
    board[..., :3], board[..., 3] = rng.uniform(0, 110, 3), 255
    board[8:-8, 10:-10, :3] = np.where(text[..., 3:] > 127, text[..., :3], board[8:-8, 10:-10, :3])
    place = (rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.2))
    things = (studio.thing(rng, side), Thing(board, lambda _: place))
    return _filmed(studio, rng, Scene(studio.still(rng, height, width), None, things, camera), height, width)


def sign_before_a_still_camera(studio: Studio, rng: Rng) -> Film:
    """Text of the place that no camera motion tells from an overlay."""
    height, width = studio.size(rng)
    return _signed(studio, rng, height, width, Camera())


def preview(make: Callable[[Studio, Rng], np.ndarray]) -> Callable[[Studio, Rng], Film]:
    """Footage under the mark of a stock site's previews."""
    return lambda studio, rng: Film(overlays.preview_mark(rng, make(studio, rng)))


def preview_shot(studio: Studio, rng: Rng) -> np.ndarray:
    return studio.shot(rng, height=PREVIEW_SIZE[0], width=PREVIEW_SIZE[1])


def overlaid_preview(overlay: Callable[[Rng, np.ndarray], np.ndarray]) -> Callable[[Studio, Rng], Film]:
    return preview(lambda studio, rng: overlay(rng, preview_shot(studio, rng)))


def preview_card(studio: Studio, rng: Rng) -> np.ndarray:
    return overlays.title_card(rng, studio.frames, *PREVIEW_SIZE)


def preview_credits(studio: Studio, rng: Rng) -> np.ndarray:
    return overlays.credits(rng, exposed(preview_shot(studio, rng), 0.3), rng.uniform(0.08, 0.2))


# ---------------------------------------------------------------- focus


def out_of_focus(studio: Studio, rng: Rng) -> Film:
    frames = studio.shot(rng)
    return Film(blur(frames, min(frames.shape[1:3]) * rng.uniform(0.012, 0.03)))


def defocused_disc(studio: Studio, rng: Rng) -> Film:
    """Blurred by the disc of an open lens; the sensor's noise stays sharp."""
    frames = studio.shot(rng)
    radius = round(min(frames.shape[1:3]) * rng.uniform(0.022, 0.04))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2).astype(np.float32)
    soft = np.stack([cv2.filter2D(frame, -1, disc / disc.sum()) for frame in frames])
    return Film(grain(rng, soft, rng.uniform(0.5, 1.5)))


def enlarged_thumbnail(studio: Studio, rng: Rng) -> Film:
    frames = studio.shot(rng, height=288, width=512)
    small = scaled(frames, rng.uniform(0.08, 0.14))
    return Film(np.stack([cv2.resize(f, (512, 288), interpolation=cv2.INTER_CUBIC) for f in small]))


def thing_before_smooth_sky(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    sky = np.linspace(rng.uniform(90, 150, 3), rng.uniform(170, 250, 3), round(1.5 * height))
    back = np.repeat(sky[:, None], round(1.5 * width), 1).astype(np.uint8)
    thing = studio.thing(rng, min(height, width), (0.3, 0.45))
    return _filmed(studio, rng, Scene(back, None, (thing,), noise=0.7), height, width)


def shallow_focus(studio: Studio, rng: Rng) -> Film:
    """The background is out of focus, the subject is not."""
    height, width = studio.size(rng)
    back = blur(studio.still(rng, height, width)[None], 0.02 * min(height, width))[0]
    things = tuple(studio.thing(rng, min(height, width), (0.3, 0.5)) for _ in range(2))
    return _filmed(studio, rng, Scene(back, None, things, noise=1), height, width)


def fog(studio: Studio, rng: Rng) -> Film:
    return Film(exposed(studio.shot(rng), rng.uniform(0.3, 0.45), rng.uniform(90, 130)))


def motion_blur(studio: Studio, rng: Rng) -> Film:
    frames = studio.shot(rng)
    length = round(min(frames.shape[1:3]) * 0.05)
    return Film(np.stack([cv2.blur(frame, (length, 1)) for frame in frames]))


# ---------------------------------------------------------------- light


def black(studio: Studio, rng: Rng) -> Film:
    frames = np.full((studio.frames, *studio.size(rng), 3), rng.integers(0, 3), np.uint8)
    return Film(grain(rng, frames, rng.uniform(0, 2)))


def lens_cap(studio: Studio, rng: Rng) -> Film:
    return Film(exposed(studio.shot(rng), rng.uniform(0.01, 0.03)))


def night(studio: Studio, rng: Rng) -> Film:
    """Dark, with lamps and lit windows, some of which move."""
    height, width = studio.size(rng)
    side = min(height, width)
    back = exposed(studio.still(rng, height, width), rng.uniform(0.06, 0.12))
    for _ in range(int(rng.integers(25, 60))):
        at = (int(rng.uniform(0, back.shape[1])), int(rng.uniform(0, back.shape[0])))
        cv2.circle(
            back, at, int(rng.uniform(2, 5)), rng.uniform([160, 120, 40], 255).tolist(), -1, cv2.LINE_AA
        )
    lamp = np.zeros((side // 12, side // 12, 4), np.uint8)
    cv2.circle(lamp, (side // 24,) * 2, side // 30, (255, 240, 200, 255), -1, cv2.LINE_AA)
    things = tuple(
        Thing(lamp, straight((rng.uniform(-0.6, 0), rng.uniform(0, 0.3)), 0, rng.uniform(0.3, 0.6)))
        for _ in range(3)
    )
    camera = Camera(handheld(rng))
    return _filmed(studio, rng, Scene(back, None, things, camera, noise=1), height, width)


def dusk(studio: Studio, rng: Rng) -> Film:
    return Film(exposed(studio.shot(rng), rng.uniform(0.18, 0.3)))


def low_key(studio: Studio, rng: Rng) -> Film:
    """A lit subject before black."""
    height, width = studio.size(rng)
    back = np.full((round(1.5 * height), round(1.5 * width), 3), 3, np.uint8)
    thing = studio.thing(rng, min(height, width), (0.4, 0.5))
    return _filmed(studio, rng, Scene(back, None, (thing,), noise=1), height, width)


def white(studio: Studio, rng: Rng) -> Film:
    frames = np.full((studio.frames, *studio.size(rng), 3), rng.integers(251, 256), np.uint8)
    return Film(grain(rng, frames, rng.uniform(0, 2)))


def overexposed(studio: Studio, rng: Rng) -> Film:
    return Film(exposed(studio.shot(rng), rng.uniform(0.5, 1), rng.uniform(235, 250)))


def snow(studio: Studio, rng: Rng) -> Film:
    return Film(exposed(studio.shot(rng), rng.uniform(0.3, 0.45), rng.uniform(140, 160)))


def white_studio(studio: Studio, rng: Rng) -> Film:
    height, width = studio.size(rng)
    back = np.full((round(1.5 * height), round(1.5 * width), 3), rng.integers(235, 250), np.uint8)
    picture = thing_picture(rng, int(0.6 * min(height, width)))
    thing = Thing(picture, straight((-0.2, 0), 0, rng.uniform(0.1, 0.2)))
    return _filmed(studio, rng, Scene(back, None, (thing,), noise=1), height, width)


# ---------------------------------------------------------------- shared


def _held(studio: Studio, picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[None], studio.frames, 0)


def _filmed(studio: Studio, rng: Rng, scene: Scene, height: int, width: int) -> Film:
    return Film(scene.film(rng, studio.frames, height, width), crf=int(rng.integers(20, 28)))


def _ken_burns(studio: Studio, rng: Rng, camera: Camera) -> Film:
    height, width = studio.size(rng)
    return _filmed(
        studio, rng, Scene(studio.still(rng, height, width), camera=camera, noise=0), height, width
    )
