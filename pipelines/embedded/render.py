"""SpriteWorld's frames and their exact optical flow."""

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from pipelines.embedded.world import COLOURS, Clip, Sprite

PATCH_PIXELS = 96  # side of the square that a sprite is drawn in, before it is scaled into the frame
TEXTURE_PIXELS = 512
BACKGROUND_COLOURS = {
    "grass": ((58, 110, 48), (104, 158, 74)),
    "sand": ((190, 164, 112), (224, 204, 154)),
    "water": ((24, 78, 120), (64, 138, 170)),
    "bricks": ((128, 66, 52), (168, 98, 78)),
    "wood": ((92, 60, 34), (146, 102, 62)),
    "stone": ((92, 94, 98), (146, 148, 152)),
}


def render_clip(
    clip: Clip, progresses: np.ndarray, side_pixels: int, watermark: str | None = None
) -> np.ndarray:
    """Frames of a clip at the given shares (0..1) of its length.

    Returns (T, H, W, 3) uint8 RGB.
    """
    texture = background_texture(clip.background, clip.background_seed % 4, clip.detail)
    rng = np.random.default_rng(clip.background_seed)
    corner = rng.uniform(side_pixels / 2, TEXTURE_PIXELS - 1.5 * side_pixels, 2)
    patches = [sprite_patch(sprite, clip.detail) for sprite in clip.sprites]
    frames = np.empty((len(progresses), side_pixels, side_pixels, 3), np.uint8)
    for frame, progress in zip(frames, progresses, strict=True):
        camera_x, camera_y = clip.camera_at(float(progress))
        shift_x, shift_y = corner[0] + camera_x * side_pixels, corner[1] + camera_y * side_pixels
        view = np.array([[1, 0, -shift_x], [0, 1, -shift_y]], np.float32)
        canvas = cv2.warpAffine(texture, view, (side_pixels, side_pixels)).astype(np.float32)
        for sprite, patch in zip(clip.sprites, patches, strict=True):
            placed = cv2.warpAffine(
                patch, placement(sprite, clip, float(progress), side_pixels), (side_pixels, side_pixels)
            )
            alpha = placed[..., 3:]
            canvas = canvas * (1 - alpha) + placed[..., :3]
        frame[:] = np.clip(canvas * clip.light + 0.5, 0, 255)
        if watermark:
            stamp(frame, watermark)
    return frames


def exact_flow(clip: Clip, progresses: np.ndarray, side_pixels: int) -> np.ndarray:
    """Displacement of every pixel from one frame to the next.

    Returns (T − 1, 2, H, W) float32 as (dx, dy) in pixels, right and down positive.
    """
    ys, xs = np.mgrid[:side_pixels, :side_pixels].astype(np.float32)
    ones = np.ones_like(xs)
    patches = [sprite_patch(sprite) for sprite in clip.sprites]
    flows = []
    for now, then in pairwise(progresses):
        (x0, y0), (x1, y1) = clip.camera_at(float(now)), clip.camera_at(float(then))
        flow = np.stack([ones * (x0 - x1), ones * (y0 - y1)]) * side_pixels
        for sprite, patch in zip(clip.sprites, patches, strict=True):
            before, after = (placement(sprite, clip, float(p), side_pixels) for p in (now, then))
            alpha = cv2.warpAffine(patch, before, (side_pixels, side_pixels))[..., 3]
            on_patch = cv2.invertAffineTransform(before)
            u = on_patch[0, 0] * xs + on_patch[0, 1] * ys + on_patch[0, 2]
            v = on_patch[1, 0] * xs + on_patch[1, 1] * ys + on_patch[1, 2]
            moved = np.stack(
                [
                    after[0, 0] * u + after[0, 1] * v + after[0, 2] - xs,
                    after[1, 0] * u + after[1, 1] * v + after[1, 2] - ys,
                ]
            )
            flow = np.where(alpha > 0.5, moved, flow)
        flows.append(flow.astype(np.float32))
    return np.stack(flows)


def placement(sprite: Sprite, clip: Clip, progress: float, side_pixels: int) -> np.ndarray:
    """(2, 3) affine map from the sprite's patch to the frame."""
    x, y, radius = sprite.at(progress)
    camera_x, camera_y = clip.camera_at(progress)
    scale = 2 * radius * side_pixels / PATCH_PIXELS
    centre = PATCH_PIXELS / 2
    turn = cv2.getRotationMatrix2D((centre, centre), sprite.angle_degrees, scale)
    turn[:, 2] += [(x - camera_x) * side_pixels - centre, (y - camera_y) * side_pixels - centre]
    return turn


def sprite_patch(sprite: Sprite, detail: float = 1.0) -> np.ndarray:
    """(P, P, 4) float32: colour 0..255 premultiplied with alpha, and alpha 0..1."""
    alpha = shape_mask(sprite.shape)
    rng = np.random.default_rng(sprite.texture_seed)
    colour = np.array(COLOURS[sprite.colour], np.float32) * rng.uniform(0.92, 1.05)
    ys, xs = np.mgrid[:PATCH_PIXELS, :PATCH_PIXELS] / PATCH_PIXELS
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(1.5, 2.5)
    stripes = np.sin(2 * np.pi * frequency * (xs * np.cos(angle) + ys * np.sin(angle)))
    shade = 1 + 0.1 * detail * stripes
    light = 1.12 - 0.3 * ys
    rim = cv2.GaussianBlur(alpha, (0, 0), 4) ** 2  # a darker rim sets the sprite off from any background
    painted = colour * (shade * light * (0.45 + 0.55 * rim))[..., None]
    painted = np.clip(painted, 0, 255)
    return np.dstack([painted * alpha[..., None], alpha]).astype(np.float32)


@lru_cache(maxsize=32)
def shape_mask(shape: str) -> np.ndarray:
    """(P, P) float32 in 0..1: the shape inscribed in the patch, drawn at four times its size and shrunk."""
    side = 4 * PATCH_PIXELS
    mask = np.zeros((side, side), np.uint8)
    centre, radius = side / 2, side * 0.48
    if shape in ("circle", "moon"):
        cv2.circle(mask, (side // 2, side // 2), int(radius), 255, -1)
        if shape == "moon":
            cv2.circle(mask, (int(side * 0.68), int(side * 0.4)), int(radius * 0.8), 0, -1)
    else:
        points = centre + radius * OUTLINES[shape]()
        cv2.fillPoly(mask, [points.astype(np.int32)], 255)
    return (
        cv2.resize(mask, (PATCH_PIXELS, PATCH_PIXELS), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    )


def _regular(corners: int, turn: float = -np.pi / 2, inner: float | None = None) -> np.ndarray:
    count = corners if inner is None else 2 * corners
    angles = turn + 2 * np.pi * np.arange(count) / count
    radii = np.ones(count) if inner is None else np.where(np.arange(count) % 2, inner, 1.0)
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 80)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 2.5], 1) / 17


def _cross() -> np.ndarray:
    a = 0.32
    corners = [
        (-a, -1),
        (a, -1),
        (a, -a),
        (1, -a),
        (1, a),
        (a, a),
        (a, 1),
        (-a, 1),
        (-a, a),
        (-1, a),
        (-1, -a),
    ]
    return np.array([*corners, (-a, -a)])


OUTLINES = {
    "square": lambda: _regular(4, -np.pi / 4),
    "triangle": lambda: _regular(3) + np.array([0, 0.2]),
    "star": lambda: _regular(5, inner=0.45),
    "diamond": lambda: _regular(4) * np.array([0.75, 1]),
    "heart": _heart,
    "cross": _cross,
}


@lru_cache(maxsize=32)
def background_texture(name: str, variant: int, detail: float = 1.0) -> np.ndarray:
    """(S, S, 3) uint8: a large textured plane that the camera looks at."""
    rng = np.random.default_rng([variant, *name.encode()])
    dark, light = (np.array(c, np.float32) for c in BACKGROUND_COLOURS[name])
    height = PATTERNS[name](rng)
    height = (height - height.min()) / (np.ptp(height) + 1e-6)
    span, height = light - dark, height[..., None]
    return np.clip(dark + span * height + span * (detail - 1) * (height - 0.5), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, grain_x: float, grain_y: float | None = None) -> np.ndarray:
    """Smooth noise whose grains measure about (grain_x, grain_y) pixels, unit variance."""
    white = rng.standard_normal((TEXTURE_PIXELS, TEXTURE_PIXELS)).astype(np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), grain_x, sigmaY=grain_y or grain_x)
    return smooth / smooth.std()


def _bricks(rng: np.random.Generator) -> np.ndarray:
    ys, xs = np.mgrid[:TEXTURE_PIXELS, :TEXTURE_PIXELS]
    row = ys // 16
    column = (xs + (row % 2) * 16) // 32
    mortar = ((ys % 16) < 2) | (((xs + (row % 2) * 16) % 32) < 2)
    tone = rng.standard_normal((64, 64))[row % 64, column % 64]
    return np.where(mortar, 3.0, 0.6 * tone + 0.2 * _noise(rng, 2))


PATTERNS = {
    "grass": lambda rng: _noise(rng, 2, 5) + 0.8 * _noise(rng, 14),
    "sand": lambda rng: 0.5 * _noise(rng, 2) + _noise(rng, 18, 6),
    "water": lambda rng: _noise(rng, 12, 3) + 0.5 * _noise(rng, 30),
    "bricks": _bricks,
    "wood": lambda rng: _noise(rng, 40, 2) + 0.6 * _noise(rng, 80, 7),
    "stone": lambda rng: 0.6 * _noise(rng, 3) + _noise(rng, 10),
}


def stamp(frame: np.ndarray, text: str) -> None:
    """Draw a half-transparent watermark across the middle of a frame (H, W, 3), in place."""
    side = frame.shape[0]
    layer = np.zeros(frame.shape[:2], np.uint8)
    scale = side / 28 / max(len(text), 1)
    cv2.putText(
        layer,
        text,
        (int(side * 0.06), int(side * 0.55)),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale * 1.5,
        255,
        1,
        cv2.LINE_AA,
    )
    alpha = layer[..., None].astype(np.float32) / 255 * 0.5
    frame[:] = frame * (1 - alpha) + 255 * alpha
