"""Shots: known cuts are found to the frame, and clips begin there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.curation.score import ScoringSettings, score_video
from pipelines.recipe import ShotSettings


def scoring(clip_frames: tuple[int, ...] = (8,), **shots: object) -> ScoringSettings:
    return ScoringSettings(
        fps=8,
        clip_frames=clip_frames,
        short_side_pixels=96,
        shots=ShotSettings.model_validate(shots),
        text=False,
    )


@pytest.fixture(scope="module")
def three_shots(
    tmp_path_factory: pytest.TempPathFactory,
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> str:
    """Cuts at frames 40 and 75 of 120, 24 frames per second."""
    frames = np.concatenate([make_scene(seed, count) for seed, count in ((1, 40), (2, 35), (3, 45))])
    return str(make_video(tmp_path_factory.mktemp("shots") / "v.mp4", frames, fps=24))


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_cuts_are_found_and_clips_start_there(three_shots: str, detector: str) -> None:
    rows = score_video(three_shots, scoring(detector=detector))
    frames = [round(row["shot_start_seconds"] * 24) for row in rows]
    assert frames == [0, 40, 75]
    assert [row["start_seconds"] for row in rows] == [row["shot_start_seconds"] for row in rows]
    assert rows[-1]["shot_end_seconds"] == pytest.approx(5)


def test_without_a_detector_the_file_is_one_shot(three_shots: str) -> None:
    (row,) = score_video(three_shots, scoring(detector="none"))
    assert (row["shot_start_seconds"], row["shot_end_seconds"]) == (0, 5)


def test_more_clips_per_shot_follow_each_other_and_stay_inside(three_shots: str) -> None:
    rows = score_video(three_shots, scoring(clips_per_shot=3))
    for row in rows:
        assert row["end_seconds"] <= row["shot_end_seconds"] + 0.5 / 24
    assert [round(row["start_seconds"] * 24) for row in rows] == [0, 40, 75]
    (first, second, third) = score_video(three_shots, scoring(detector="none", clips_per_shot=3))
    assert (first["end_seconds"], second["end_seconds"], third["end_seconds"]) == (1, 2, 3)


def test_a_shot_shorter_than_a_clip_says_so(
    tmp_path: Path, make_video: Callable[..., Path], make_scene: Callable[..., np.ndarray]
) -> None:
    frames = np.concatenate([make_scene(1, 30), make_scene(2, 20)])
    rows = score_video(str(make_video(tmp_path / "v.mp4", frames, fps=24)), scoring())
    assert [row.get("verdict") for row in rows] == [None, "filtered"]
    assert rows[1]["reason"] == "too_short: 0.83 s of 1.00 s"


def test_a_short_shot_gives_a_clip_for_the_buckets_that_it_has_room_for(
    tmp_path: Path, make_video: Callable[..., Path], make_scene: Callable[..., np.ndarray]
) -> None:
    frames = np.concatenate([make_scene(1, 30), make_scene(2, 20)])
    rows = score_video(str(make_video(tmp_path / "v.mp4", frames, fps=24)), scoring((8, 4)))
    assert [round(row["end_seconds"] - row["start_seconds"], 3) for row in rows] == [1.0, 0.5]
    assert [row.get("verdict") for row in rows] == [None, None]


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_a_flash_of_light_is_no_cut_and_a_cut_through_a_flash_is_one(
    tmp_path: Path, make_video: Callable[..., Path], make_scene: Callable[..., np.ndarray], detector: str
) -> None:
    frames = np.concatenate([make_scene(1, 60), make_scene(2, 40)])
    frames[30:32] = frames[30:32] // 4 + 190  # within a shot
    frames[60:61] = frames[60:61] // 4 + 190  # on the cut
    rows = score_video(str(make_video(tmp_path / "v.mp4", frames, fps=24)), scoring(detector=detector))
    (cut,) = (round(row["shot_start_seconds"] * 24) for row in rows if row["shot_start_seconds"] > 0)
    assert abs(cut - 60) <= 1
