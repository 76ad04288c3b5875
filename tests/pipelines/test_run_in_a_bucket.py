"""`dreamer run` from a table to metrics with everything in a bucket, on a server that fails now and then."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.layout import RunLayout
from pipelines.report.page import write_report
from pipelines.run_clean import find_removals, freed_bytes, remove
from pipelines.run_list import run_state
from pipelines.storage import file_system, storage_path
from pipelines.training.log import read_log
from tests.object_storage import FaultyStorage, object_storage

pytestmark = pytest.mark.long

STEPS = 3
FAULTY_SHARE = 0.02
STAGE = {
    "tier": "low",
    "steps": STEPS,
    "learning_rate": 1e-3,
    "schedule": {"shift": 12},
    "trainable": ["temporal_modules.*"],
}
RECIPE = {
    "extends": "demo",
    "name": "bucket",
    "run_directory": "s3://runs/deep/run",
    "data": {"table": "s3://runs/sprites/sprites.csv"},
    "curation": {"tiers": {"low": ["8x32x32"], "high": ["8x32x32"]}, "units": 1},
    "train": {
        "workers": 1,
        "global_batch_clips": 4,
        "checkpoint_every_steps": 2,
        "stages": [{"name": "first", **STAGE}, {"name": "second", **STAGE}],
    },
    "evaluate": {
        "tier": "low",
        "sets": [{"name": "held_out", "split": "held_out", "clips": 4}],
        "untrained_clips": 0,
        "workers": 1,
        "sampling": {"steps": 2},
    },
}


def dreamer(*arguments: str) -> tuple[dict[str, Any], str]:
    command = [sys.executable, "-m", "jobs.cli", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def storage(sprites: Path) -> Iterator[FaultyStorage]:
    with object_storage("runs") as storage:
        fs, key = file_system(storage_path("s3://runs/sprites"))
        fs.put(f"{sprites}/", f"{key}/", recursive=True)
        yield storage


@pytest.fixture(scope="module")
def recipe(storage: FaultyStorage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bucket")
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**RECIPE, "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"}}))
    return file


@pytest.fixture(scope="module")
def summary(storage: FaultyStorage, recipe: Path) -> dict[str, Any]:
    storage.share = FAULTY_SHARE
    found, _ = dreamer("run", str(recipe))
    storage.share = 0.0
    return found


def test_everything_is_in_the_bucket_and_whole(summary: dict[str, Any], storage: FaultyStorage) -> None:
    assert set(storage.planted) == set(storage.faults)
    layout = RunLayout(storage_path("s3://runs/deep/run"))
    for stage in ("first", "second"):
        assert [line["step"] for line in read_log(layout.log(stage))] == [1, 2, 3]
        assert (layout.model(stage) / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert summary["metrics"]["first_frame_psnr_db"] > 5
    assert json.loads((layout.evaluation("final") / "metrics.json").read_text())["summary"]
    fs, _ = file_system(layout.root)
    assert fs.call_s3("list_multipart_uploads", Bucket="runs").get("Uploads", []) == []
    assert not [path for path in layout.root.rglob("*") if path.name == ".lock"]


def test_a_second_run_has_nothing_to_do(summary: dict[str, Any], recipe: Path) -> None:
    again, said = dreamer("run", str(recipe))
    assert again["metrics"] == summary["metrics"]
    assert said.count("whole and current, skipped") == 3


def test_it_is_listed_reported_and_cleaned_as_one_in_a_folder(summary: dict[str, Any]) -> None:
    run = storage_path("s3://runs/deep/run")
    state = run_state(run)
    assert [(stage["name"], stage["finished"]) for stage in state.stages] == [
        ("first", True),
        ("second", True),
    ]
    assert state.bytes > 10**6
    assert write_report(run)["pictures_unreadable"] == 0
    assert (run / "report.html").stat().st_size > 10**5
    (run / "data" / ".left.partial").write_text("left")
    removals = find_removals(run)
    freed = freed_bytes(removals)
    assert freed["checkpoints"] > 10**5
    assert freed["unfinished files"] == len("left")
    remove(run, removals)
    assert find_removals(run) == []


def test_a_bucket_that_is_not_there_is_said_before_anything_starts(recipe: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "jobs.cli",
        "run",
        str(recipe),
        "run_directory=s3://nobody/run",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "s3://nobody/run cannot be written to" in json.loads(done.stdout)["error"]
