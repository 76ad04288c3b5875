"""`--submit` and `dreamer jobs`: commands as Ray jobs on a real head that wants a token."""

import csv
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE

import pyarrow.parquet as pq
import pytest

import jobs.submit
from jobs.ray_jobs import JobError
from jobs.sealed import SEALED, SealError, open_sealed, seal
from jobs.submit import PROJECT, SUBMITTED_RECIPE, project_files, working_tree
from pipelines.recipe_file import load_recipe
from tests.curation_input import write_rows

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
    """(address of a Ray cluster with token authentication, environment that holds the token).

    As in ray_cluster.yaml the head has no CPUs; a second node has two. Its files lie beside the token.
    """
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
                    worker = start_node(folder / f"{number}w", environment, f"127.0.0.1:{base}")
                    try:
                        if is_up(folder / f"{number}w", worker):
                            yield f"http://127.0.0.1:{base + 1}", environment
                            return
                    finally:
                        stop(worker)
            finally:
                stop(process)
        pytest.fail(f"no Ray head in {START_TRIES} tries: {(folder / str(number) / 'log').read_text()}")


def start_head(folder: Path, environment: dict[str, str], base: int) -> subprocess.Popen:
    ports = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    flags = [f"--{name}={base + number}" for number, name in enumerate(ports)]
    flags += ["--head", "--num-cpus=0", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}/r"]
    return start_ray_process(folder, environment, flags)


def start_node(folder: Path, environment: dict[str, str], address: str) -> subprocess.Popen:
    return start_ray_process(folder, environment, [f"--address={address}", "--num-cpus=2"])


def start_ray_process(folder: Path, environment: dict[str, str], flags: list[str]) -> subprocess.Popen:
    folder.mkdir()
    flags += ["--block", "--object-store-memory=100000000", "--disable-usage-stats"]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            ["ray", "start", *flags], env=environment, stdout=log, stderr=log, start_new_session=True
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


def dreamer(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *arguments, "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def submit(address: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return dreamer(environment, *arguments, "--submit", address)


def test_a_job_fails_with_its_own_exit_code_and_the_log_is_shown(head, tmp_path: Path):
    address, environment = head
    table = "data.table=/nowhere/x.csv"
    done = submit(address, environment, "curate", "demo", table, f"run_directory={tmp_path / 'run'}")
    assert done.returncode == 2, done.stderr
    assert "Running entrypoint" in done.stderr
    assert "no table or folder /nowhere/x.csv" in done.stderr
    assert "/nowhere/x.csv" in json.loads(done.stdout)["error"]


# One stage and one set, so that what is left of the walk is the walk.
SMALL = """
extends: demo
curation: {units: 1}
train:
  stages:
    - {name: only, tier: high, steps: 1, learning_rate: 1.0e-4}
evaluate:
  sets: [{name: held_out, split: held_out, clips: 2}]
  untrained_clips: 1
  sampling: {steps: 2}
tracking: {uri: "sqlite:///${STORE}/mlflow.db"}
"""
LEFT = (
    "recipe.yaml",
    "summary.json",
    "data/manifest/00000.json",
    "data/clips/00000.parquet",
    "data/shards/8x48x48/*.parquet",
    "train/only/log.jsonl",
    "train/only/checkpoints/*/*.safetensors",
    "train/only/model/model_index.json",
    "evaluate/final/metrics.json",
    "evaluate/final/grid.png",
    "evaluate/final/videos/held_out/*.mp4",
    "report.html",
)


def test_a_submitted_run_walks_all_the_way_and_tells_nobody_a_secret(head, sprites: Path, tmp_path: Path):
    """Two rows have a signature in their address, a server that is closed and one that is private."""
    address, environment = head
    secret = secrets.token_hex(16)
    run, table, recipe = (tmp_path / name for name in ("run", "table.csv", "small.yaml"))
    recipe.write_text(SMALL)
    with (sprites / "sprites.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for host in ("127.0.0.1", "127.0.0.2"):
        signed = f"http://user:{secret}@{host}:9/a.mp4?X-Signature={secret}"
        rows.append(rows[0] | {"videoid": host, "contentUrl": signed})
    write_rows(table, rows)
    settings = [f"data.table={table}", f"data.root={sprites}", f"run_directory={run}"]
    settings += ["data.private_networks=[127.0.0.1]"]
    store = tmp_path / "store"
    environment = {**environment, "AWS_SECRET_ACCESS_KEY": secret, "STORE": str(store)}
    names = ("--env", "AWS_SECRET_ACCESS_KEY", "--env", "STORE")
    done = submit(address, environment, "run", str(recipe), *settings, *names)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary.pop("job_id") in done.stderr
    assert summary == json.loads((run / "summary.json").read_text())
    curated = summary["steps"]["curate"]
    assert (curated["sources"], curated["kept"]) == (34, 32)
    assert curated["reasons"] == {"download_failed": 1, "private_address": 1}
    metrics = summary["metrics"]
    assert metrics["motion_accuracy_ground_truth"] == 1
    for name in ("first_frame_psnr_db", "frame_consistency", "prompt_consistency", "dynamic_degree"):
        assert {name, f"{name}_untrained"} <= set(metrics)

    again = dreamer(environment, "run", str(run / "recipe.yaml"))
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("whole and current, skipped") == 3
    assert json.loads(again.stdout) == summary

    report = dreamer(environment, "report", str(run))
    assert report.returncode == 0, report.stderr
    for name in LEFT:
        assert list(run.glob(name)), name
    listed = dreamer(environment, "jobs", "list", "--address", address)
    for told in (done, again, report, listed):
        assert secret not in told.stdout + told.stderr
    ray_files = Path(environment["RAY_AUTH_TOKEN_PATH"]).parent
    assert "entrypoint" in listed.stdout
    assert any(ray_files.rglob("runtime_env_agent.log"))  # where Ray keeps what it is told
    assert (store / "mlflow.db").is_file()
    assert files_with(secret, run, store, ray_files) == []


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


PROBE = """
import hashlib, os, time
import ray

def seen():
    return hashlib.sha256(os.environ["PLANTED"].encode()).hexdigest()

for number in range(3):
    print("line", number, flush=True)
    time.sleep(1)
from jobs.sealed import open_sealed
open_sealed()
ray.init(log_to_driver=False, logging_level="ERROR")
print("driver", seen(), "of", ray.get_runtime_context().get_node_id())
print("worker", ray.get(ray.remote(seen).remote()))
"""
FOLLOW = """
import sys
from jobs import ray_jobs
from jobs.submit import runtime_environment, working_tree

address, name = sys.argv[1:]
ray_jobs.FIRST_WAIT_SECONDS = 0.2
with working_tree(None) as folder:
    (folder / "probe.py").write_text(open(name).read())
    client = ray_jobs.connect(address)
    job = client.submit_job(
        entrypoint="python probe.py",
        runtime_env={**runtime_environment(("PLANTED",)), "working_dir": str(folder)},
    )
ray_jobs.follow_to_the_end(client, address, job)
print(ray_jobs.connect(address).get_job_info(job).json())
"""


def test_variables_come_to_driver_and_workers_and_a_lost_connection_loses_no_line(head, tmp_path: Path):
    address, environment = head
    secret = secrets.token_hex(16)
    (tmp_path / "probe.py").write_text(PROBE)
    with breaking_proxy(address, b"line 1") as proxy:
        done = subprocess.run(
            [sys.executable, "-c", FOLLOW, proxy, str(tmp_path / "probe.py")],
            capture_output=True,
            text=True,
            env={**environment, "PLANTED": secret},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    said = [
        line
        for line in done.stderr.splitlines()
        if line.startswith(("line", "driver", "worker", "connection"))
    ]
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert [line.partition(" of ")[0] for line in said if not line.startswith("connection")] == [
        *(f"line {number}" for number in range(3)),
        f"driver {digest}",
        f"worker {digest}",
    ]
    assert any(line.startswith("connection to the cluster lost") for line in said)
    details = json.loads(done.stdout)
    assert details["driver_node_id"] in done.stderr  # on the head, which has no CPUs
    assert secret not in done.stdout + done.stderr


@contextmanager
def breaking_proxy(address: str, mark: bytes) -> Iterator[str]:
    """The address of a way to the server that breaks once, when `mark` has come back from it."""
    host, port = address.removeprefix("http://").split(":")
    broken = threading.Event()
    ends: list[socket.socket] = []

    def copy(source: socket.socket, target: socket.socket, mark: bytes | None) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                if mark is not None and mark in data and not broken.is_set():
                    broken.set()
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                ends.extend((near, far))
                for way in ((near, far, None), (far, near, mark)):
                    threading.Thread(target=copy, args=way, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for end in ends:
        end.close()


def test_a_job_is_listed_shown_and_stopped(head):
    address, environment = head
    where = {**environment, "RAY_ADDRESS": address}
    other = ["ray", "job", "submit", "--no-wait", "--submission-id", "other", "--", "true"]
    subprocess.run(other, check=True, capture_output=True, env=where)
    command = [sys.executable, "-m", "jobs.cli", "benchmark", "filters", "stock", "--count", "100000"]
    command += ["data.table=/no/videos.csv", "run_directory=/no/run", "--submit", address, "--json"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=environment) as following:
        assert following.stderr is not None
        told = ""
        while "Running entrypoint" not in told:
            told = following.stderr.readline()
            assert told, "the job did not start"
        listed = {job["job_id"]: job for job in json.loads(dreamer(where, "jobs", "list").stdout)["jobs"]}
        (job,) = (job for job in listed.values() if job["command"] == "dreamer benchmark filters")
        assert (job["recipe"], job["status"]) == ("stock", "RUNNING")
        assert (listed["other"]["command"], listed["other"]["entrypoint"]) == (None, "true")
        log = json.loads(dreamer(where, "jobs", "logs", job["job_id"]).stdout)["log"]
        assert "Running entrypoint" in log
        stopped = dreamer(where, "jobs", "stop", job["job_id"])
        assert json.loads(stopped.stdout)["status"] == "STOPPED", stopped.stderr
        said, _ = following.communicate(timeout=60)
    assert following.returncode == 130
    assert json.loads(said)["error"] == "it was stopped"
    supervisor = next(
        Path(environment["RAY_AUTH_TOKEN_PATH"]).parent.rglob(f"supervisor-{job['job_id']}.log")
    )
    assert "terminated gracefully" in supervisor.read_text()
    nothing = dreamer(where, "jobs", "logs", "none")
    assert nothing.returncode == 1
    assert "no job none" in json.loads(nothing.stdout)["error"]


def test_a_wrong_token_is_refused_with_what_to_do(head, tmp_path: Path):
    address, environment = head
    token = tmp_path / "token"
    token.write_text("wrong")
    arguments = ("curate", "demo", "data.table=/x.csv", f"run_directory={tmp_path}")
    done = submit(address, {**environment, "RAY_AUTH_TOKEN_PATH": str(token)}, *arguments)
    assert done.returncode == 1
    assert "wants another token" in done.stderr
    assert "Traceback" not in done.stderr


NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "demo"), ("run_directory=runs/demo", "data.table=runs/demo/sprites/sprites.csv")),
        (("generate", "a star"), ("--out=runs/generated", "--model=runs/demo")),
        (("demo", "--out", "/d", "tracking.uri=http://me:pass@host"), ("tracking.uri", "--env NAME")),
        (("report", "/data/run", "--env", "NO_SUCH_VARIABLE"), ("NO_SUCH_VARIABLE is not set",)),
        (("report", "/data/run", "--env", "TOKEN=planted"), ("--env TOKEN: give the name alone",)),
        (("study", "/data/run"), ("`study` serves its page",)),
    ],
)
def test_what_cannot_run_there_is_refused_before_anything_is_sent(arguments, told):
    done = submit(NOBODY, {**os.environ, "RAY_AUTH_TOKEN": "t"}, *arguments)
    assert done.returncode == (1 if "--env" in arguments else 2)
    assert all(text in json.loads(done.stdout)["error"] for text in told)
    assert "sending" not in done.stderr
    assert "planted" not in done.stdout + done.stderr


def test_variables_are_sealed_with_the_token_and_not_handed_on_without_one(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PLANTED", "planted")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    sealed = seal(["PLANTED"])
    assert "planted" not in sealed
    monkeypatch.setenv(SEALED, sealed)
    monkeypatch.setenv("PLANTED", "changed")
    open_sealed()
    assert os.environ["PLANTED"] == "planted"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(SealError, match="another token"):
        open_sealed()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(SealError, match="needs a cluster with a token"):
        seal(["PLANTED"])


def test_a_tree_that_is_too_large_is_refused_with_its_largest_file(monkeypatch):
    monkeypatch.setattr(jobs.submit, "WORKING_TREE_LIMIT_BYTES", 10**6)
    with (
        pytest.raises(
            JobError, match=r"more than 1; the largest file is .*: move it out or add it to \.gitignore"
        ),
        working_tree(None),
    ):
        pass


def test_the_tree_that_is_sent_holds_the_code_and_the_recipe_and_nothing_that_git_ignores():
    names = {file.relative_to(PROJECT).as_posix() for file in project_files()}
    assert {"jobs/cli.py", "jobs/recipes/demo.yaml", "pipelines/workflow.py", "modeling/unet.py"} <= names
    assert not any(name.startswith((".venv/", "runs/", ".git/")) or "__pycache__" in name for name in names)
    recipe = load_recipe("demo", ("run_directory=/data/run", "seed=4"))
    with working_tree(recipe) as folder:
        assert load_recipe(str(folder / SUBMITTED_RECIPE)) == recipe
        assert (folder / "jobs" / "cli.py").is_file()
    assert not folder.exists()
