"""`dreamer run --submit` from a table to metrics, with all in a bucket and secrets that nobody is told.

The cluster wants a token, and the bucket's server fails now and then.
"""

import csv
import io
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.layout import RunLayout
from pipelines.report.page import write_report
from pipelines.run_clean import find_removals, freed_bytes, remove
from pipelines.run_list import run_state
from pipelines.storage import file_system, storage_path
from pipelines.training.log import read_log
from tests.object_storage import PART_BYTES, FaultyStorage, begin_upload, object_storage
from tests.ray_head import ray_head

pytestmark = pytest.mark.long

STEPS = 3
FAULTY_SHARE = 0.02
SECRET = secrets.token_hex(16)
RUN = "s3://runs/deep/run"
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
    "run_directory": RUN,
    "data": {"table": "s3://runs/sprites/sprites.csv", "private_networks": ["127.0.0.1"]},
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
        "untrained_clips": 1,
        "workers": 1,
        "sampling": {"steps": 2},
    },
    "tracking": {"uri": "sqlite:///${STORE}/mlflow.db"},
}
VARIABLES = (
    "STORE",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "FSSPEC_S3",
)
LEFT = (
    "recipe.yaml",
    "summary.json",
    "data/manifest/00000.json",
    "data/clips/00000.parquet",
    "data/shards/8x32x32/*.parquet",
    "train/second/log.jsonl",
    "train/second/checkpoints/*/*.safetensors",
    "train/second/model/model_index.json",
    "evaluate/final/metrics.json",
    "evaluate/final/grid.png",
    "evaluate/final/videos/held_out/*.mp4",
)


@dataclass
class Submitted:
    """The run as its user saw it, and where the cluster keeps its files."""

    summary: dict[str, Any]
    told: str
    store: Path
    ray_files: Path


def dreamer(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *arguments, "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def storage(sprites: Path) -> Iterator[FaultyStorage]:
    """The sprites, and two rows with a secret in their address: of a closed server and of a private one."""
    with object_storage("runs") as storage, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)  # which this server does not check
        fs, key = file_system(storage_path("s3://runs/sprites"))
        fs.put(f"{sprites}/", f"{key}/", recursive=True)
        rows = list(csv.DictReader((sprites / "sprites.csv").open(newline="")))
        for host in ("127.0.0.1", "127.0.0.2"):
            signed = f"http://user:{SECRET}@{host}:9/a.mp4?X-Signature={SECRET}"
            rows.append(rows[0] | {"videoid": host, "contentUrl": signed})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        storage_path("s3://runs/sprites/sprites.csv").write_text(text.getvalue())
        yield storage


@pytest.fixture(scope="module")
def recipe(storage: FaultyStorage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bucket")
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(RECIPE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORE", str(folder / "store"))
        yield file


@pytest.fixture(scope="module")
def run(storage: FaultyStorage, recipe: Path) -> Iterator[Submitted]:
    with ray_head(unknown=VARIABLES) as (address, environment):
        names = [argument for name in VARIABLES for argument in ("--env", name)]
        storage.share = FAULTY_SHARE
        done = dreamer("run", str(recipe), "--submit", address, *names, environment=environment)
        storage.share = 0.0
        assert done.returncode == 0, done.stderr
        listed = dreamer("jobs", "list", "--address", address, environment=environment)
        assert "entrypoint" in listed.stdout
        ray_files = Path(environment["RAY_AUTH_TOKEN_PATH"]).parent
        told = done.stdout + done.stderr + listed.stdout + listed.stderr
        yield Submitted(json.loads(done.stdout), told, recipe.parent / "store", ray_files)


def test_everything_is_in_the_bucket_and_whole(run: Submitted, storage: FaultyStorage) -> None:
    assert set(storage.planted) == set(storage.faults)
    layout = RunLayout(storage_path(RUN))
    for name in LEFT:
        assert list(layout.root.glob(name)), name
    for stage in ("first", "second"):
        assert [line["step"] for line in read_log(layout.log(stage))] == [1, 2, 3]
        assert (layout.model(stage) / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    fs, _ = file_system(layout.root)
    assert fs.call_s3("list_multipart_uploads", Bucket="runs").get("Uploads", []) == []
    assert not [path for path in layout.root.rglob("*") if path.name == ".lock"]


def test_the_command_ends_with_the_jobs_own_summary(run: Submitted) -> None:
    summary = dict(run.summary)
    assert summary.pop("job_id") in run.told
    assert summary == json.loads((storage_path(RUN) / "summary.json").read_text())
    curated = summary["steps"]["curate"]
    assert (curated["sources"], curated["kept"]) == (34, 32)
    assert curated["reasons"] == {"download_failed": 1, "private_address": 1}
    metrics = summary["metrics"]
    assert metrics["motion_accuracy_ground_truth"] == 1
    assert metrics["first_frame_psnr_db"] > 5
    for name in ("first_frame_psnr_db", "frame_consistency", "prompt_consistency", "dynamic_degree"):
        assert {name, f"{name}_untrained"} <= set(metrics)


def test_its_size_and_the_jobs_progress_are_shown(run: Submitted) -> None:
    assert re.search(r"sending \d+ files, \d+\.\d MB", run.told)
    assert "curate: enter captions: 1/1, 0:0" in run.told
    assert re.search(rf"train: {2 * STEPS}/{2 * STEPS}, .* so far, second loss", run.told)


def test_a_second_run_has_nothing_to_do(run: Submitted, recipe: Path) -> None:
    again = dreamer("run", str(recipe))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["metrics"] == run.summary["metrics"]
    assert again.stderr.count("whole and current, skipped") == 3
    assert SECRET not in again.stdout + again.stderr


def test_it_is_listed_reported_and_cleaned_as_one_in_a_folder(run: Submitted) -> None:
    folder = storage_path(RUN)
    state = run_state(folder)
    assert [(stage["name"], stage["finished"]) for stage in state.stages] == [
        ("first", True),
        ("second", True),
    ]
    assert state.bytes > 10**6
    assert write_report(folder)["pictures_unreadable"] == 0
    assert (folder / "report.html").stat().st_size > 10**5
    (folder / "data" / ".left.partial").write_text("left")
    begin_upload(folder / "summary.json")
    removals = find_removals(folder)
    freed = freed_bytes(removals)
    assert freed["checkpoints"] > 10**5
    assert freed["unfinished files"] == len("left")
    assert freed["unfinished uploads"] == PART_BYTES
    remove(folder, removals)
    assert find_removals(folder) == []
    assert json.loads((folder / "summary.json").read_text())["metrics"]


def test_nobody_is_told_a_secret(run: Submitted, tmp_path: Path) -> None:
    assert SECRET not in run.told
    assert any(run.ray_files.rglob("runtime_env_agent.log"))  # where Ray keeps what it is told
    assert (run.store / "mlflow.db").is_file()
    assert (storage_path(RUN) / "report.html").is_file()
    fs, key = file_system(storage_path(RUN))
    fs.get(f"{key}/", f"{tmp_path}/run/", recursive=True)
    assert (tmp_path / "run" / "summary.json").is_file()
    assert files_with(SECRET, tmp_path / "run", run.store, run.ray_files) == []


def files_with(secret: str, *folders: Path) -> list[Path]:
    """Files that hold it; of tables, another column than the address that the source is read from."""
    found = []
    for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        content = file.read_bytes()
        if file.suffix == ".parquet":
            columns = pq.ParquetFile(file).schema_arrow.names
            kept = [name for name in columns if name != "source_uri"]
            content = str(pq.read_table(file, columns=kept).to_pydict()).encode()
        if secret.encode() in content:
            found.append(file)
    return found


def test_a_bucket_that_is_not_there_is_said_before_anything_starts(recipe: Path) -> None:
    done = dreamer("run", str(recipe), "run_directory=s3://nobody/run")
    assert done.returncode == 2
    assert "s3://nobody/run cannot be written to" in json.loads(done.stdout)["error"]
