"""Two hundred damaged files: all accounted for, none that hangs or crashes, and no wrong picture kept."""

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.score import ScoringSettings, score_video
from pipelines.curation.verdicts import code_of
from pipelines.recipe import DecodeSettings, ShotSettings

VARIANTS = 200
SCORING = ScoringSettings(fps=8, clip_frames=(8,), short_side_pixels=64, shots=ShotSettings(), text=False)
KINDS = [
    ("mp4", "libx264"),
    ("mkv", "libx264"),
    ("ts", "libx264"),
    ("avi", "mpeg4"),
    ("mp4", "libx265"),
    ("webm", "libvpx"),
]
# Neither format can tell a damaged picture from another one, and ffmpeg says little of what it guesses.
UNTOLD = ("libx265", "libvpx")
# Mean absolute error of a frame with a small undetected flaw; a wrong picture has 20 and more.
RIGHT_GREY_LEVELS = 6


def damage(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A few flipped bits, a cut, a header written over, or a hole."""
    data = bytearray(content)
    kind = rng.choice(["flip", "cut", "header", "hole"])
    if kind == "flip":
        for _ in range(rng.choice([1, 5, 50])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[rng.randrange(1, len(data)) :]
    elif kind == "header":
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(400, len(data)))] = rng.randrange(256)
    else:
        start = rng.randrange(len(data))
        length = rng.randint(1, len(data) // 10)
        data[start : start + length] = bytes(len(data[start : start + length]))
    return kind, bytes(data)


def ends_as(decoder: DecoderProcess, path: Path) -> tuple[str, list[dict[str, Any]]]:
    """(code of the reason or `readable`, rows of clips), as pass 1 takes a file."""
    try:
        rows = decoder.call(score_video, str(path), SCORING)
    except DecoderError as error:
        return code_of(error.reason), []
    assert rows
    return ("corrupt" if decoder.complaint() else "readable"), [row for row in rows if "verdict" not in row]


def error_levels(decoder: DecoderProcess, start_seconds: float, path: Path, whole: Path) -> float:
    """Largest mean absolute difference of a frame of the clip, in grey levels; 0 if pass 2 refuses it.

    Whether decord tells of a damaged packet depends on how far its thread has come.
    """
    try:
        got, expected = (
            decoder.clip(str(file), start_seconds, 8, 8, 96, 128).astype(int) for file in (path, whole)
        )
    except DecoderError:
        return 0.0
    return float(np.abs(got - expected).mean((1, 2, 3)).max())


def test_damaged_files_are_accounted_for_and_what_is_kept_is_right(
    tmp_path: Path,
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(0)
    wholes = {
        make_video(tmp_path / f"{codec}{number}.{suffix}", make_scene(number, 48), codec=codec): codec
        for number, (suffix, codec) in enumerate(KINDS)
    }
    ends: dict[str, list[str]] = defaultdict(list)
    wrong: dict[str, float] = {}
    with DecoderProcess(DecodeSettings(timeout_seconds=30)) as decoder:
        for number in range(VARIANTS):
            whole = rng.choice(list(wholes))
            kind, content = damage(whole.read_bytes(), rng)
            path = tmp_path / f"{number:03d}-{kind}-{whole.name}"
            path.write_bytes(content)
            end, clips = ends_as(decoder, path)
            ends[end].append(path.name)
            if end == "readable" and clips:
                error = max(error_levels(decoder, row["start_seconds"], path, whole) for row in clips)
                if error > RIGHT_GREY_LEVELS:
                    wrong[path.name] = error
    with capsys.disabled():
        counts = ", ".join(f"{len(names)} {end}" for end, names in sorted(ends.items()))
        print(f"\n{VARIANTS} damaged files: {counts}\nreadable: {' '.join(ends['readable'])}")
        print(f"of these with wrong pictures: {' '.join(wrong)}")
    assert sum(map(len, ends.values())) == VARIANTS
    assert not {"decoder_crashed", "decoder_timeout", "decoder_memory"} & set(ends)
    assert {"readable", "corrupt", "incomplete", "undecodable", "not_a_video"} <= set(ends)
    assert not [name for name in wrong if not any(codec in name for codec in UNTOLD)]


def test_sound_files_are_not_called_corrupt(
    tmp_path: Path, make_video: Callable[..., Path], make_scene: Callable[..., np.ndarray]
) -> None:
    with DecoderProcess() as decoder:
        for number, (suffix, codec) in enumerate(KINDS):
            path = make_video(tmp_path / f"{number}.{suffix}", make_scene(number, 48), codec=codec)
            assert ends_as(decoder, path)[0] == "readable"
