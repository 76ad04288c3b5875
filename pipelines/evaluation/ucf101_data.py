"""UCF101 as it is distributed: its split files, its videos, and which clips of them are compared with."""

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from pipelines.curation.verdicts import reason
from pipelines.curation.video import UnreadableVideoError, open_video, read_clip
from pipelines.evaluation.ucf101_prompts import PROMPTS
from pipelines.recipe import Bucket

Split = Literal["train", "test", "all"]
FRAME_HEIGHT, FRAME_WIDTH = 240, 320  # of all its videos
LISTS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test",), "all": ("train", "test")}


class Ucf101Error(RuntimeError):
    """A UCF101 folder that is not as it is distributed, or too few videos; says what and where."""


def read_split(videos: Path, splits: Path, split: Split = "train", number: int = 1) -> dict[str, list[str]]:
    """{class: paths of its videos relative to `videos`}, as the split files list them.

    videos: the folder `UCF-101` of class folders. splits: the folder `ucfTrainTestlist` with classInd.txt,
    trainlist0N.txt and testlist0N.txt, N = 1, 2, 3. Raises Ucf101Error for a file, class or video that is
    missing or unknown.
    """
    known = _classes(splits / "classInd.txt")
    found: dict[str, list[str]] = {}
    for kind in LISTS[split]:
        path = splits / f"{kind}list{number:02d}.txt"
        for line in _lines(path):
            name, _, file = line.split()[0].partition("/")  # train lists name the class's number too
            if name not in known or not file or ".." in Path(file).parts:
                raise Ucf101Error(f"{path}: {line!r} names no video of a class of {splits / 'classInd.txt'}")
            found.setdefault(name, []).append(f"{name}/{file}")
    listed = [path for paths in found.values() for path in paths]
    missing = [path for path in listed if not (videos / path).is_file()]
    if missing or not listed:
        raise Ucf101Error(
            f"{videos} lacks {len(missing)} of the {len(listed)} videos that {splits} lists for {split!r}"
            + (f", the first is {missing[0]}" if missing else "")
        )
    return dict(sorted(found.items()))


def _classes(path: Path) -> set[str]:
    names = {line.split()[-1] for line in _lines(path)}
    if unknown := sorted(names - set(PROMPTS)):
        raise Ucf101Error(f"{path}: {unknown[0]!r} is no class of UCF101")
    return names


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise Ucf101Error(f"no {path}: give the folder ucfTrainTestlist with UCF101's split files")
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def in_proportion(shares: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """(class, number within the class, from 0), without end.

    Of any first n each class has its share (Webster's method, as for seats of a parliament): so more clips
    only add to fewer, and the first 2,048 of 10,000 are a set of their own.
    """
    queue = [(0.5 / share, name, 0) for name, share in shares.items()]
    heapq.heapify(queue)
    while queue:
        _, name, number = queue[0]
        yield name, number
        heapq.heapreplace(queue, ((number + 1.5) / shares[name], name, number + 1))


def real_order(classes: Mapping[str, Sequence[str]], seed: int) -> list[str]:
    """All listed videos once, classes in proportion, in a random order within each that the seed fixes."""
    waiting = {name: sorted(paths, key=lambda path: chance(seed, path)) for name, paths in classes.items()}
    shares = {name: len(paths) for name, paths in classes.items()}
    # The first so many as there are videos are all of each class.
    return [waiting[name][number] for name, number in islice(in_proportion(shares), sum(shares.values()))]


def chance(seed: int, path: str) -> float:
    """A number in 0..1 that seed and path fix, whatever else is drawn."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def read_random_clip(
    path: str, frames: int, fps: float, height: int, width: int, chance: float
) -> np.ndarray:
    """(T, height, width, 3) uint8 of a clip whose start is drawn from all possible ones.

    chance: 0 is the earliest start, 1 the latest. Frames are scaled to cover the size, their middle is cut
    out. Raises UnreadableVideoError for a file that cannot be read, or is shorter than a clip.
    """
    video = open_video(path)
    latest = float(video.starts_seconds[-1]) - (frames - 1) / fps
    if latest < 0:
        detail = f"{video.end_seconds:.2f} s, {frames} frames at {fps:g} fps take {(frames - 1) / fps:.2f} s"
        raise UnreadableVideoError(reason("too_short", detail))
    bucket = Bucket(frames=frames, height=height, width=width)
    return read_clip(path, chance * latest, fps, (bucket,))[0]


def compared_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which drawn and real videos are compared: UCF101's, or the model's where smaller.

    Nothing is enlarged, and a wide video loses its sides, as in Stable Video Diffusion's appendix E.4.
    """
    return min(height, FRAME_HEIGHT), min(width, FRAME_WIDTH)
