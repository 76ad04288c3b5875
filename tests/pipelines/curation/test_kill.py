"""Killed at any moment and started again, curation leaves the same bytes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
VIDEOS = 8


def command(recipe: Path, run_directory: Path) -> list[str]:
    settings = [f"run_directory={run_directory}", "--json"]
    return [sys.executable, "-m", "jobs.cli", "curate", str(recipe), *settings]


def hashes(run_directory: Path) -> dict[str, str]:
    """Of every file of the data set, temporary ones too."""
    files = [
        path
        for name in ("sources", "scores", "clips", "manifest", "shards")
        for path in (run_directory / "data" / name).rglob("*")
        if path.is_file()
    ]
    return {
        path.relative_to(run_directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """The command and all that it started, at one blow."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()


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
    started = time.monotonic()
    subprocess.run(command(recipe, tmp_path / "whole"), check=True, capture_output=True)
    seconds = time.monotonic() - started
    rng = random.Random(SEED)
    moments, killed = [], 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(recipe, tmp_path / "run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        moment = rng.uniform(0.2, 1) * seconds
        moments.append(round(moment, 1))
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            kill_all(process)
            killed += 1
        if KILLS > 3 and process.returncode == 0:  # whole: the next one starts from nothing
            assert hashes(tmp_path / "run") == hashes(tmp_path / "whole")
            subprocess.run(["rm", "-rf", str(tmp_path / "run")], check=True)
    subprocess.run(command(recipe, tmp_path / "run"), check=True, capture_output=True)
    with capsys.disabled():
        print(f"\n{killed} of {KILLS} runs of {seconds:.0f} s killed, after {moments} s")
    assert killed
    assert hashes(tmp_path / "run") == hashes(tmp_path / "whole")
    leftovers = list((tmp_path / "run" / "data").rglob("*.tmp"))
    assert not leftovers
