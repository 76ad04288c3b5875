"""A known watermark is found in videos that have it, and not in others."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.embedded.sprites import make_sprites
from pipelines.embedded.world import WorldSettings
from pipelines.evaluation.watermark import THRESHOLD, read_mark, watermark_correlation
from pipelines.media import read_mp4


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("marked")
    settings = WorldSettings(
        clips=16, validation_clips=0, held_out_clips=16, held_out_two_clips=0, held_out_pan_clips=0
    )
    make_sprites(out, WorldSettings(**{**vars(settings), "watermark": "STOCK"}), flow=False, processes=1)
    return out


def correlations(folder: Path, split: str) -> list[float]:
    mark = read_mark(folder / "watermark.png")
    videos = [read_mp4(path)[0] for path in sorted((folder / "videos").glob(f"{split}-*.mp4"))]
    return [watermark_correlation(video, mark) for video in videos]


def test_marked_videos_pass_the_threshold_and_clean_ones_do_not(marked: Path) -> None:
    assert min(correlations(marked, "train")) > THRESHOLD
    assert max(correlations(marked, "held_out")) < THRESHOLD


def test_a_faint_mark_correlates_less_and_the_first_frame_says_nothing(marked: Path) -> None:
    mark = read_mark(marked / "watermark.png")
    path = next((marked / "videos").glob("held_out-*.mp4"))
    clean = read_mp4(path)[0].astype(float)
    found = []
    for strength in (0.0, 0.1, 0.4):
        frames = np.clip(clean + strength * mark[None, ..., None], 0, 255).astype(np.uint8)
        frames[0] = 255
        found.append(watermark_correlation(frames, mark))
    assert found == sorted(found)
    assert found[-1] > 5 * abs(found[0])


def test_a_mark_that_is_no_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no picture of a watermark"):
        read_mark(tmp_path / "none.png")
