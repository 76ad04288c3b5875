"""`--submit`: a command as a Ray job on a real head that wants a token."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.submit import PROJECT, SUBMITTED_RECIPE, project_files, working_tree
from pipelines.recipe_file import load_recipe

START_SECONDS = 120  # 7 s on an idle machine
START_TRIES = 3


def free_ports() -> int:
    """The first of four free ports, above those that Ray gives to workers (10002 to 19999)."""
    for base in range(24000 + os.getpid() % 2000, 32000, 4):
        probes = [socket.socket() for _ in range(4)]
        try:
            for number, probe in enumerate(probes):
                probe.bind(("127.0.0.1", base + number))
            return base
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise RuntimeError("no free port")


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, dict[str, str]]]:
    """(address of a Ray head with token authentication, environment that holds the token)."""
    # Short: Ray's sockets lie in there, and their paths have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            # The dashboard gives up when its parts are slow to start, as they are on a busy machine.
            "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": str(START_SECONDS),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        # Ray gives up after 30 s of its own, which a busy machine may need; so there are several tries.
        for number in range(START_TRIES):
            base = free_ports()
            process = start_head(folder / str(number), environment, base)
            try:
                if is_up(folder / str(number), process):
                    yield f"http://127.0.0.1:{base + 1}", environment
                    return
            finally:
                stop(process)
        pytest.fail(f"no Ray head in {START_TRIES} tries: {(folder / str(number) / 'log').read_text()}")


def start_head(folder: Path, environment: dict[str, str], base: int) -> subprocess.Popen:
    folder.mkdir()
    ports = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    flags = [f"--{name}={base + number}" for number, name in enumerate(ports)]
    flags += ["--dashboard-host=127.0.0.1", f"--temp-dir={folder}/r", "--disable-usage-stats"]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            ["ray", "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=100000000", *flags],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def is_up(folder: Path, process: subprocess.Popen) -> bool:
    """Waits until the head says that it runs; False when it ends instead."""
    ends_at = time.monotonic() + START_SECONDS
    while time.monotonic() < ends_at and process.poll() is None:
        if "Ray runtime started" in (folder / "log").read_text():
            return True
        time.sleep(0.25)
    return False


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    # What is left of the head's own process group: nothing of anybody else's.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def submit(address: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *arguments, "--submit", address, "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_job_fails_with_its_own_exit_code_and_the_log_is_shown(head, tmp_path: Path):
    address, environment = head
    done = submit(
        address,
        environment,
        "curate",
        "demo",
        "data.table=/nowhere/x.csv",
        f"run_directory={tmp_path / 'run'}",
    )
    assert done.returncode == 2, done.stderr
    assert "Running entrypoint" in done.stderr
    assert "no table or folder /nowhere/x.csv" in done.stderr
    assert "/nowhere/x.csv" in json.loads(done.stdout)["error"]


SMALL = (
    "curation.units=1",
    *(f"train.stages.{number}.steps=1" for number in range(4)),
    *(f"evaluate.sets.{number}.clips=2" for number in range(4)),
    "evaluate.untrained_clips=1",
    "evaluate.sampling.steps=2",
)
LEFT = (
    "recipe.yaml",
    "summary.json",
    "mlflow.db",
    "data/manifest/00000.json",
    "data/clips/00000.parquet",
    "data/shards/8x32x32/*.parquet",
    "data/shards/8x48x48/*.parquet",
    "train/*/log.jsonl",
    "train/*/checkpoints/*/*.safetensors",
    "train/high_flow/model/model_index.json",
    "evaluate/final/metrics.json",
    "evaluate/final/grid.png",
    "evaluate/final/videos/held_out/*.mp4",
)


def test_a_submitted_run_walks_all_the_way_and_a_second_one_has_nothing_to_do(
    head, sprites: Path, tmp_path: Path
):
    address, environment = head
    run = tmp_path / "run"
    table = f"data.table={sprites / 'sprites.csv'}"
    done = submit(address, environment, "run", "demo", table, f"run_directory={run}", *SMALL)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary.pop("job_id") in done.stderr
    assert summary == json.loads((run / "summary.json").read_text())
    for name in LEFT:
        assert list(run.glob(name)), name
    assert summary["steps"]["curate"]["sources"] == summary["steps"]["curate"]["kept"] == 32
    metrics = summary["metrics"]
    assert metrics["motion_accuracy_ground_truth"] == 1
    for name in ("motion_accuracy", "motion_accuracy_low", "motion_accuracy_two", "motion_accuracy_pan"):
        assert 0 <= metrics[name] <= 1
    for name in ("first_frame_psnr_db", "frame_consistency", "prompt_consistency", "dynamic_degree"):
        assert {name, f"{name}_untrained"} <= set(metrics)

    again = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "run", str(run / "recipe.yaml"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("whole and current, skipped") == 3
    assert json.loads(again.stdout) == summary


def test_a_wrong_token_is_refused_with_what_to_do(head, tmp_path: Path):
    address, environment = head
    token = tmp_path / "token"
    token.write_text("wrong")
    arguments = ("curate", "demo", "data.table=/x.csv", f"run_directory={tmp_path}")
    done = submit(address, {**environment, "RAY_AUTH_TOKEN_PATH": str(token)}, *arguments)
    assert done.returncode == 1
    assert "wants another token" in done.stderr
    assert "Traceback" not in done.stderr


def test_relative_paths_are_refused_before_anything_is_sent():
    done = submit("http://127.0.0.1:1", dict(os.environ), "run", "demo")
    assert done.returncode == 2
    assert "run_directory=runs/demo" in done.stderr
    assert "data.table=runs/demo/sprites/sprites.csv" in done.stderr


def test_the_tree_that_is_sent_holds_the_code_and_the_recipe_and_nothing_that_git_ignores():
    names = {file.relative_to(PROJECT).as_posix() for file in project_files()}
    assert {"jobs/cli.py", "jobs/recipes/demo.yaml", "pipelines/workflow.py", "modeling/unet.py"} <= names
    assert not any(name.startswith((".venv/", "runs/", ".git/")) or "__pycache__" in name for name in names)
    recipe = load_recipe("demo", ("run_directory=/data/run", "seed=4"))
    with working_tree(recipe) as folder:
        assert load_recipe(str(folder / SUBMITTED_RECIPE)) == recipe
        assert (folder / "jobs" / "cli.py").is_file()
    assert not folder.exists()
