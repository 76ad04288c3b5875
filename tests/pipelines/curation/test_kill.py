"""Killed at any moment and started again, curation leaves the same bytes."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.killing import KILLS, SEED, command, kill_all, start
from tests.outcome import data_files, data_hashes

pytestmark = pytest.mark.long

VIDEOS = 8


def curate(recipe: Path, run_directory: Path) -> list[str]:
    return command("curate", recipe, f"run_directory={run_directory}")


def kill_at(files: int, later_seconds: float, arguments: list[str], run_directory: Path) -> None:
    """Start a command and kill it so long after it has left so many files."""
    process = start(arguments)
    while len(data_files(run_directory)) < files:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(later_seconds)
    kill_all(process)


def test_killed_at_random_moments_it_leaves_the_same_bytes(
    tmp_path: Path,
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(VIDEOS):
        make_video(tmp_path / f"{number}.mp4", make_scene(number, 40, height=240, width=320))
    rows = "".join(f"v{number},{number}.mp4,A square moves right\n" for number in range(VIDEOS))
    (tmp_path / "t.csv").write_text(f"videoid,contentUrl,name\n{rows}")
    recipe = tmp_path / "recipe.yaml"
    settings = {
        "name": "chaos",
        "run_directory": str(tmp_path / "run"),
        "data": {"table": str(tmp_path / "t.csv")},
        "curation": {
            "units": 4,
            "tiers": {"low": ["8x32x32"], "high": ["8x48x64"]},
            "shots": {"detector": "none", "clips_per_shot": 2},
            "precompute": {"batch_clips": 2, "row_group_clips": 2},
        },
        "models": {
            "text_to_image": "embedded://stable_diffusion",
            "image_encoder": "embedded://clip",
            "motion_encoder": "embedded://motion_encoder",
        },
    }
    recipe.write_text(yaml.safe_dump(settings))
    subprocess.run(curate(recipe, tmp_path / "whole"), check=True, capture_output=True)
    whole, run = data_hashes(tmp_path / "whole"), tmp_path / "run"
    rng = random.Random(SEED)
    moments = []
    for _ in range(KILLS):
        if len(data_hashes(run)) > len(whole) - 2:  # nearly whole: once more from nothing
            shutil.rmtree(run)
        files = rng.randint(len(data_hashes(run)) + 1, len(whole) - 1)
        later_seconds = rng.uniform(0, 0.3)
        moments.append(f"{files} files + {later_seconds:.2f} s")
        kill_at(files, later_seconds, curate(recipe, run), run)
    subprocess.run(curate(recipe, run), check=True, capture_output=True)
    with capsys.disabled():
        print(f"\n{KILLS} kills on the way to {len(whole)} files, at {', '.join(moments)}")
    assert data_hashes(run) == whole
    assert not list((run / "data").rglob("*.partial"))
