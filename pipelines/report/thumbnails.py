"""Clips as strips of small frames, for a page without files beside it."""

import numpy as np
from PIL import Image

from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.reach import reach_of
from pipelines.curation.remote import source_file
from pipelines.recipe import DataSettings, DecodeSettings
from pipelines.report.pictures import GAP_PIXELS, Picture, encoded
from pipelines.report.sample import Row

STRIP_WIDTH_PIXELS, FRAME_HEIGHT_PIXELS = 768, 108
FEWEST_FRAMES, MOST_FRAMES = 3, 12


class Strips:
    """Decodes clips from their sources, each as a few frames side by side."""

    def __init__(self, data: DataSettings, decode: DecodeSettings) -> None:
        self.reach = reach_of(data)
        self.decoder = DecoderProcess(decode)

    def __enter__(self) -> "Strips":
        return self

    def __exit__(self, *_: object) -> None:
        self.decoder.close()

    def strip(self, clip: Row) -> Picture:
        """A row of the clip table → its picture; a source that cannot be read any more is no error."""
        width, count = strip_frames(clip["width"], clip["height"])
        fps = count / (clip["end_seconds"] - clip["start_seconds"])
        try:
            with source_file(clip["source_uri"], self.reach) as path:
                frames = self.decoder.clip(
                    path, clip["start_seconds"], count, fps, FRAME_HEIGHT_PIXELS, width
                )
        except DecoderError as error:
            return Picture(fault=error.reason)
        return encoded(Image.fromarray(side_by_side(frames), "RGBA"))


def strip_frames(width: int, height: int) -> tuple[int, int]:
    """(width of a frame in pixels, number of frames) that fill a strip.

    As many frames as come nearest to the clip's own aspect ratio; what is over at their sides is cut off.
    """
    pixels = FRAME_HEIGHT_PIXELS * width / height
    count = round((STRIP_WIDTH_PIXELS + GAP_PIXELS) / (pixels + GAP_PIXELS))
    count = min(max(count, FEWEST_FRAMES), MOST_FRAMES)
    return (STRIP_WIDTH_PIXELS + GAP_PIXELS) // count - GAP_PIXELS, count


def side_by_side(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 → (H, W', 4) with transparent gaps."""
    count, height, width = frames.shape[:3]
    strip = np.zeros((height, count * (width + GAP_PIXELS) - GAP_PIXELS, 4), np.uint8)
    for number, frame in enumerate(frames):
        left = number * (width + GAP_PIXELS)
        strip[:, left : left + width] = np.dstack([frame, np.full((height, width), 255, np.uint8)])
    return strip
