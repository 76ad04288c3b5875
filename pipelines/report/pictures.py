"""Pictures as data URIs, still and playing, for a page without files beside it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

QUALITY = 66
GAP_PIXELS = 4
PLAYING_HEIGHT_PIXELS = 144
PLAYING_BYTES = 2_400_000  # of all playing pictures of a page together
SMALLER = ((1.0, 75), (1.0, 45), (0.7, 40), (0.5, 30))  # (share of the size, quality) to try in turn


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, or the reason why there is none.

    still: the first frame of a playing one, for whoever asks for reduced motion.
    """

    uri: str = ""
    width: int = 0
    height: int = 0
    fault: str = ""
    still: str = ""


def encoded(image: Image.Image) -> Picture:
    """A picture as WebP in a data URI."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=4)
    return Picture(_uri(stream), image.width, image.height)


def scaled(path: Path, width_pixels: int) -> Picture:
    """A picture file, no wider than that and no higher than four times that."""
    with path.open("rb") as file, Image.open(file) as picture:
        image = picture.convert("RGB")
        image.thumbnail((width_pixels, 4 * width_pixels), Image.Resampling.LANCZOS)
        return encoded(image)


def playing(frames: np.ndarray, fps: float, most_bytes: int) -> Picture:
    """Frames (T, H, W, 3 or 4) uint8 as an endless animated WebP of at most that many bytes.

    A larger one gives up detail first and size next, down to half; beyond that it stays what it is.
    """
    for share, quality in SMALLER:
        size = (max(1, round(frames.shape[2] * share)), max(1, round(frames.shape[1] * share)))
        images = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in frames]
        stream = io.BytesIO()
        milliseconds = max(20, round(1000 / fps))
        images[0].save(
            stream,
            "WEBP",
            save_all=True,
            append_images=images[1:],
            duration=milliseconds,
            loop=0,
            quality=quality,
            method=4,
        )
        if stream.tell() <= most_bytes:
            break
    return Picture(_uri(stream), *size, still=encoded(images[0]).uri)


def in_step(
    videos: Sequence[tuple[np.ndarray, float]], height_pixels: int = PLAYING_HEIGHT_PIXELS
) -> tuple[np.ndarray, float]:
    """Videos side by side, playing in step, and their frames per second.

    videos: (frames (T, H, W, 3) uint8, frames per second) of each. Returns frames (T, H', W', 4), transparent
    between the videos, at the highest of their rates; the slower ones repeat frames, the shorter ones hold
    their last.
    """
    from pipelines.media import enlarge

    fps = max(rate for _, rate in videos)
    length = max(round(len(frames) * fps / rate) for frames, rate in videos)
    columns = []
    for frames, rate in videos:
        shown = np.minimum((np.arange(length) * rate / fps + 1e-6).astype(int), len(frames) - 1)
        big = enlarge(frames, height_pixels)[shown]
        opaque = np.full((*big.shape[:3], 1), 255, np.uint8)
        gap = np.zeros((length, height_pixels, GAP_PIXELS, 4), np.uint8)
        columns += [np.concatenate([big, opaque], axis=3), gap]
    return np.concatenate(columns[:-1], axis=2), fps


def _uri(stream: io.BytesIO) -> str:
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
