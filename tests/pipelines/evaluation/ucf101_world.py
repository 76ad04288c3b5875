"""A small UCF101 in the layout and format in which it is distributed: XviD in AVI, 25 fps, split files."""

from pathlib import Path

import av
import numpy as np

FPS, HEIGHT, WIDTH = 25, 48, 64
# (class, as its files spell it, brightness, videos): the archive spells one class in two ways.
CLASSES = (
    ("ApplyEyeMakeup", "ApplyEyeMakeup", 20, 8),
    ("HandstandPushups", "HandStandPushups", 90, 4),
    ("YoYo", "YoYo", 160, 4),
)
LONG, SHORT = 70, 20  # frames: a clip of 16 at 8 fps takes 48
SHORT_ONES = {"v_ApplyEyeMakeup_g02_c01", "v_YoYo_g03_c01"}


def make(folder: Path) -> tuple[Path, Path]:
    """(UCF-101, ucfTrainTestlist); group 1 of each class is the test set of list 1."""
    videos, splits = folder / "UCF-101", folder / "ucfTrainTestlist"
    splits.mkdir(parents=True)
    train, test = [], []
    for number, (name, spelt, brightness, count) in enumerate(CLASSES, start=1):
        for group in range(1, count + 1):
            stem = f"v_{spelt}_g{group:02d}_c01"
            length = SHORT if stem in SHORT_ONES else LONG
            write_avi(
                videos / name / f"{stem}.avi", footage(brightness + group, length, seed=10 * number + group)
            )
            path = f"{name}/{stem}.avi"
            test.append(path) if group == 1 else train.append(f"{path} {number}")
    index = [f"{number} {name}" for number, (name, *_) in enumerate(CLASSES, start=1)]
    for file, lines in (("classInd.txt", index), ("trainlist01.txt", train), ("testlist01.txt", test)):
        (splits / file).write_text("\r\n".join(lines) + "\r\n")
    return videos, splits


def footage(brightness: int, frames: int, seed: int) -> np.ndarray:
    """(T, H, W, 3) uint8: ground of one brightness, which rises by one a frame, and a square that moves."""
    rng = np.random.default_rng(seed)
    video = np.zeros((frames, HEIGHT, WIDTH, 3)) + brightness + np.arange(frames)[:, None, None, None]
    top, left, colour = rng.integers(4, 20), rng.integers(4, 20), rng.integers(0, 255, 3)
    for t, frame in enumerate(video):
        frame[top : top + 12, left + t // 4 : left + t // 4 + 12] = colour
    return video.clip(0, 255).astype(np.uint8)


def write_avi(path: Path, frames: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=FPS, options={"qscale": "3"})
        stream.codec_context.codec_tag = "XVID"
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
