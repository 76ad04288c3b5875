"""Videos and pictures for people: mp4, GIF, contact sheets and grids of captioned videos."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.files import whole_file
from pipelines.storage import local_copy

Captioned = tuple[str, np.ndarray]
"""A caption and its frames (T, H, W, 3) uint8."""

SMPTE170M = 6  # H.264's number for the BT.601 matrix, which swscale uses and small videos are read with
LIMITED_RANGE = 1
PAPER, INK, GAP_PIXELS = (255, 255, 255), (24, 24, 28), 6
FONT_PIXELS, LINE_PIXELS = 15, 19
NEAREST_BELOW_PIXELS = 24  # frames this small are icons: their pixels are shown as they are


class MediaError(ValueError):
    """A video file that holds no whole video; the message names the file."""


def write_mp4(path: Path, frames: np.ndarray, fps: float, *, crf: int = 12) -> Path:
    """Write H.264, 4:2:0, playable by every browser; parent folders are made.

    frames: (T, H, W, 3) uint8 RGB. Odd heights and widths, which 4:2:0 does not know, are padded by
    repeating the last row or column. The file appears whole or not at all (temporary name, then rename).
    crf: 0 (lossless but for the colour subsampling) to 51; 12 is visually lossless.
    """
    frames = _checked(frames)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), "edge")
    rate = Fraction(fps).limit_denominator(1001)
    with (
        whole_file(path) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "medium"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1  # the same bytes on every machine, and files are written in parallel anyway
        codec.colorspace = codec.color_primaries = codec.color_trc = SMPTE170M
        codec.color_range = LIMITED_RANGE
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def read_mp4(path: Path) -> tuple[np.ndarray, float]:
    """All frames (T, H, W, 3) uint8 RGB of a video file, and its frames per second.

    Raises FileNotFoundError, or MediaError for a file without a video that can be decoded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no video {path}")
    try:
        with local_copy(path) as file, av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            fps = float(stream.average_rate or 0)
    except (av.error.FFmpegError, IndexError) as error:
        raise MediaError(f"{path} is not a video: {error}") from error
    if not frames:
        raise MediaError(f"{path} holds no frames")
    return np.stack(frames), fps


def write_png(path: Path, picture: np.ndarray) -> Path:
    """Write a picture (H, W, 3) uint8, whole or not at all; parent folders are made."""
    with whole_file(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG")
    return path


def write_gif(path: Path, frames: np.ndarray, fps: float, *, height_pixels: int | None = None) -> Path:
    """Write an endless GIF with one palette for all frames; `height_pixels` enlarges tiny frames."""
    frames = _checked(frames)
    if height_pixels:
        frames = enlarge(frames, height_pixels)
    sample = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(np.concatenate(list(sample))).quantize(256, Image.Quantize.MEDIANCUT)
    images = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    # A GIF counts time in hundredths of a second; below two of them browsers slow down to ten.
    milliseconds = max(20, round(100 / fps) * 10)
    with whole_file(path) as partial:
        images[0].save(
            partial, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0
        )
    return path


def enlarge(frames: np.ndarray, height_pixels: int) -> np.ndarray:
    """(T, H, W, 3) uint8 resized to a height, aspect ratio kept.

    Lanczos; nearest neighbour for icons that are enlarged, whose pixels Lanczos would wash out.
    """
    height, width = frames.shape[1:3]
    if height == height_pixels:
        return frames
    size = (max(1, round(width * height_pixels / height)), height_pixels)
    icon = height_pixels > height < NEAREST_BELOW_PIXELS
    method = Image.Resampling.NEAREST if icon else Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, method)) for frame in frames])


def contact_sheet(
    path: Path,
    rows: Sequence[Captioned],
    *,
    frames_per_row: int = 8,
    frame_height_pixels: int = 112,
    columns: int = 1,
) -> Path:
    """Write a PNG with a row per video: its caption, and below it frames spread evenly over its time.

    The first and the last frame are always among them. With several `columns` rows fill the sheet from
    left to right.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    strips = [_strip(frames, frames_per_row, frame_height_pixels) for _, frames in rows]
    width = max(strip.shape[1] for strip in strips)
    cells = [_cell(caption, strip, width) for (caption, _), strip in zip(rows, strips, strict=True)]
    return write_png(path, _tile(cells, columns))


def video_grid(
    videos: Sequence[Captioned], *, columns: int = 4, frame_height_pixels: int = 160
) -> np.ndarray:
    """Many captioned videos as one, side by side: (T, H, W, 3) uint8 with even H and W.

    Videos shorter than the longest one hold their last frame.
    """
    if not videos:
        raise ValueError("a grid needs at least one video")
    length = max(len(frames) for _, frames in videos)
    big = [enlarge(_checked(frames), frame_height_pixels) for _, frames in videos]
    width = max(frames.shape[2] for frames in big)
    captions = [caption for caption, _ in videos]
    lines = max(len(_wrapped(caption, width)) for caption in captions)
    moments = [
        _tile(
            [_cell(c, f[min(t, len(f) - 1)], width, lines) for c, f in zip(captions, big, strict=True)],
            columns,
        )
        for t in range(length)
    ]
    grid = np.stack(moments)
    return grid[:, : grid.shape[1] // 2 * 2, : grid.shape[2] // 2 * 2]


def _checked(frames: np.ndarray) -> np.ndarray:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be (T, H, W, 3) uint8 with T >= 1, not {frames.shape} {frames.dtype}")
    return frames


def _strip(frames: np.ndarray, count: int, height_pixels: int) -> np.ndarray:
    chosen = np.unique(np.linspace(0, len(_checked(frames)) - 1, count).round().astype(int))
    big = enlarge(frames[chosen], height_pixels)
    gap = np.full((height_pixels, GAP_PIXELS // 2, 3), PAPER, np.uint8)
    parts = [part for frame in big for part in (frame, gap)]
    return np.concatenate(parts[:-1], axis=1)


def _cell(caption: str, picture: np.ndarray, width: int, lines: int | None = None) -> np.ndarray:
    """Caption above picture, on paper `width` wide; room for `lines` lines of caption."""
    text = _wrapped(caption, width)
    head = LINE_PIXELS * (len(text) if lines is None else lines) + 2
    sheet = Image.new("RGB", (width, head + picture.shape[0]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(text):
        draw.text((0, number * LINE_PIXELS), line, INK, _font())
    sheet.paste(Image.fromarray(picture), (0, head))
    return np.asarray(sheet)


def _tile(cells: list[np.ndarray], columns: int) -> np.ndarray:
    """Cells of equal width, row by row, on paper with gaps between."""
    width = cells[0].shape[1]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    across = min(columns, len(cells))
    gap = 2 * GAP_PIXELS
    sheet = np.full((sum(heights) + gap * (len(rows) + 1), across * (width + gap) + gap, 3), PAPER, np.uint8)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for number, cell in enumerate(row):
            left = gap + number * (width + gap)
            sheet[top : top + cell.shape[0], left : left + width] = cell
        top += height + gap
    return sheet


def _wrapped(caption: str, width: int, most: int = 3) -> list[str]:
    """Lines of a caption that fit a width; what is beyond `most` lines ends in an ellipsis."""
    lines: list[str] = []
    for paragraph in caption.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and _font().getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + " …"]
    return lines


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PIXELS)
