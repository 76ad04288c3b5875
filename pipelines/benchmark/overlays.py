"""What editors and stock sites lay over footage: subtitles, name boxes, credits, logos, watermarks."""

from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = (
    "the city wakes before the sun market opens every morning and boats return from their night at sea "
    "nobody knows how long it takes to cross over mountain river we met them again in autumn with music "
    "directed produced written edited by camera sound assistant special thanks to our friends live news "
    "report weather storm expected tonight interview professor history season episode subscribe follow"
)
MARKS = ("stockvideo", "FootageBank", "clipshelf", "videoarchive", "PREVIEW", "filmstock.example")
LONG_MARKS = ("stockarchive", "footagebanks", "videoshelves")
STEADY_FONTS = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


def words(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(WORDS.split(), count))


def line(rng: np.random.Generator, text: str, pixels: int, *, outline: bool = False) -> np.ndarray:
    """(h, w, 4) uint8: one line of light text, in one of a few typefaces."""
    colour = (255, 255, 255) if rng.random() < 0.7 else (255, int(rng.integers(200, 256)), 40)
    if rng.random() < 0.6:
        font = _font(pixels)
        stroke = max(1, pixels // 14) if outline else 0
        box = font.getbbox(text, stroke_width=stroke)
        size = (int(box[2] - box[0]) + 2, int(box[3] - box[1]) + 2)
        image = Image.new("RGBA", size, (0, 0, 0, 0))
        place = (1 - box[0], 1 - box[1])
        ImageDraw.Draw(image).text(place, text, colour, font, stroke_width=stroke, stroke_fill=(0, 0, 0))
        return np.asarray(image)
    font_name = int(rng.choice(STEADY_FONTS))
    scale, thick = pixels / 30, max(1, pixels // 14)
    (width, height), low = cv2.getTextSize(text, font_name, scale, thick)
    picture = np.zeros((height + low + 6, width + 6, 4), np.uint8)
    at = (3, height + 3)
    if outline:
        cv2.putText(picture, text, at, font_name, scale, (0, 0, 0, 255), thick + 2, cv2.LINE_AA)
    cv2.putText(picture, text, at, font_name, scale, (*colour, 255), thick, cv2.LINE_AA)
    return picture


def lay(
    frames: np.ndarray, picture: np.ndarray, left: float, top: float, *, opacity: float = 1.0
) -> np.ndarray:
    """`frames` (T, H, W, 3) with an RGBA picture over them, its corner at (left, top) pixels, cut to fit."""
    height, width = frames.shape[1:3]
    layer = cv2.warpAffine(picture, np.array([[1, 0, left], [0, 1, top]], np.float32), (width, height))
    alpha = layer[..., 3:].astype(np.float32) / 255 * opacity
    return np.clip(frames * (1 - alpha) + layer[..., :3] * alpha + 0.5, 0, 255).astype(np.uint8)


def lay_line(
    frames: np.ndarray, picture: np.ndarray, x: float, y: float, *, opacity: float = 1.0
) -> np.ndarray:
    """As `lay`, with the picture's middle at shares x, y of the frame."""
    left = x * frames.shape[2] - picture.shape[1] / 2
    return lay(frames, picture, left, y * frames.shape[1] - picture.shape[0] / 2, opacity=opacity)


def bar(frames: np.ndarray, box: tuple[float, float, float, float], colour: list[float]) -> np.ndarray:
    """Frames with a filled box (left, top, right, bottom as shares of the frame)."""
    height, width = frames.shape[1:3]
    result = frames.copy()
    left, top, right, bottom = (round(s * n) for s, n in zip(box, (width, height) * 2, strict=True))
    result[:, top:bottom, left:right] = np.array(colour, np.uint8)
    return result


# ---------------------------------------------------------------- text overlays


def subtitles(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """One or two outlined lines near the bottom."""
    pixels = round(min(frames.shape[1:3]) * rng.uniform(0.055, 0.075))
    for row in range(int(rng.integers(1, 3))):
        text = words(rng, int(rng.integers(4, 7)))
        frames = lay_line(frames, line(rng, text, pixels, outline=True), 0.5, 0.92 - 0.095 * row)
    return frames


def lower_third(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """A box with a name and a line below it."""
    x = rng.uniform(0.05, 0.3)
    frames = bar(frames, (x, 0.74, x + rng.uniform(0.4, 0.6), 0.93), rng.uniform(0, 120, 3).tolist())
    height, width = frames.shape[1:3]
    name, rest = words(rng, 2).title(), words(rng, int(rng.integers(2, 4)))
    frames = lay(frames, line(rng, name, round(0.08 * height)), (x + 0.02) * width, 0.755 * height)
    return lay(frames, line(rng, rest, round(0.055 * height)), (x + 0.02) * width, 0.855 * height)


def news_banner(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """A banner over the whole width, with words from edge to edge."""
    frames = bar(frames, (0, 0.84, 1, 0.96), rng.uniform([120, 0, 0], [220, 60, 60]).tolist())
    text = line(rng, words(rng, 9).upper(), round(0.075 * frames.shape[1]))
    return lay(frames, text, 0.02 * frames.shape[2], 0.87 * frames.shape[1])


def big_caption(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Two or three big lines in the middle, as short videos have."""
    pixels = round(min(frames.shape[1:3]) * rng.uniform(0.09, 0.13))
    for row in range(int(rng.integers(2, 4))):
        text = line(rng, words(rng, int(rng.integers(2, 4))), pixels, outline=True)
        frames = lay_line(frames, text, 0.5, 0.35 + 0.15 * row)
    return frames


def credits(rng: np.random.Generator, frames: np.ndarray, speed: float) -> np.ndarray:
    """Lines that scroll up; `speed` in heights per second at 24 frames per second."""
    height, width = frames.shape[1:3]
    pixels = round(height * rng.uniform(0.05, 0.07))
    lines = [line(rng, words(rng, int(rng.integers(2, 5))).title(), pixels) for _ in range(18)]
    result = frames.copy()
    for number in range(len(frames)):
        for row, text in enumerate(lines):
            top = height * (0.05 + 0.1 * row - speed * number / 24)
            if -pixels < top < height:
                left = (width - text.shape[1]) / 2
                result[number : number + 1] = lay(result[number : number + 1], text, left, top)
    return result


def title_card(rng: np.random.Generator, frames: int, height: int, width: int) -> np.ndarray:
    """Words on one colour, or on a slow gradient."""
    shade = np.linspace(rng.uniform(0.3, 1), rng.uniform(0.3, 1), width, dtype=np.float32)[None, :, None]
    back = np.broadcast_to(shade * rng.uniform(20, 130, 3), (height, width, 3)).astype(np.uint8)
    return big_caption(rng, np.repeat(back[None], frames, 0))


# ---------------------------------------------------------------- watermarks


def centred_watermark(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """A translucent name across the middle, over a third to half of the width, as WebVid's previews have."""
    mark = line(rng, str(rng.choice(MARKS)), 64)
    wide = frames.shape[2] * rng.uniform(0.33, 0.5)
    mark = _scaled(mark, wide / mark.shape[1])
    return lay_line(frames, mark, 0.5, rng.uniform(0.45, 0.55), opacity=rng.uniform(0.35, 0.6))


def preview_mark(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """One long translucent word in the middle of a landscape frame, as on WebVid's previews."""
    mark = line(rng, str(rng.choice(LONG_MARKS)), 64)
    mark = _scaled(mark, frames.shape[2] * rng.uniform(0.33, 0.42) / mark.shape[1])
    return lay_line(frames, mark, 0.5, 0.5, opacity=rng.uniform(0.35, 0.6))


def tiled_watermark(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """The name again and again over the whole frame."""
    mark = _legible(line(rng, str(rng.choice(MARKS)), 40), rng.uniform(0.2, 0.28), frames)
    opacity = rng.uniform(0.3, 0.55)
    for row in range(4):
        for column in range(3):
            x = (column + 0.3 + 0.4 * (row % 2)) / 3
            frames = lay_line(frames, mark, x, (row + 0.5) / 4, opacity=opacity)
    return frames


def corner_logo(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """A name in one corner, nearly opaque, with or without a disc beside it."""
    mark = _legible(line(rng, str(rng.choice(MARKS)), 40), rng.uniform(0.18, 0.26), frames)
    half = mark.shape[1] / frames.shape[2] / 2 + 0.03
    x, y = rng.choice((half, 1 - half)), rng.choice((0.08, 0.92))
    return lay_line(frames, mark, x, y, opacity=rng.uniform(0.6, 1.0))


def address_bar(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """A dark strip at the bottom with the seller's address."""
    frames = bar(frames, (0, 0.93, 1, 1), [12, 12, 12])
    text = f"www.{str(rng.choice(MARKS)).lower()}.example  ID {rng.integers(10**7, 10**8)}"
    mark = line(rng, text, round(0.05 * frames.shape[1]))
    return lay_line(frames, mark, 0.5, 0.965, opacity=0.9)


def _legible(mark: np.ndarray, share: float, frames: np.ndarray) -> np.ndarray:
    """A mark over a share of the frame's width, its letters at least a twentieth of the short side high."""
    wide, high = share * frames.shape[2] / mark.shape[1], 0.05 * min(frames.shape[1:3]) / mark.shape[0]
    return _scaled(mark, max(wide, high))


def _scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
