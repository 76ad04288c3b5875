"""`--submit` and `dreamer jobs`: commands as Ray jobs on a real head that wants a token."""

import asyncio
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

import jobs.submit
from jobs.ray_jobs import JobError, log_text
from jobs.sealed import SEALED, SealError, open_sealed, seal
from jobs.submit import PROJECT, SUBMITTED_RECIPE, project_files, working_tree
from pipelines.recipe_file import load_recipe
from tests.ray_head import ray_head


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, dict[str, str]]]:
    with ray_head() as (address, environment):
        # Of the cluster alone: who has a token is not asked for more.
        yield address, {name: value for name, value in environment.items() if name != "RAY_AUTH_MODE"}


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


def test_a_job_that_went_with_its_head_is_not_waited_for(head):
    address, environment = head
    follow = (
        "import sys\nfrom jobs import ray_jobs\nclient = ray_jobs.connect(sys.argv[1])\n"
        "ray_jobs.follow_to_the_end(client, sys.argv[1], 'raysubmit_gone')"
    )
    command = [sys.executable, "-c", follow, address]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert "JobError: no job raysubmit_gone on this cluster, or its head was started anew" in done.stderr


def wait_for_its_log(following: "subprocess.Popen[str]") -> None:
    assert following.stderr is not None
    while "Running entrypoint" not in (line := following.stderr.readline()):
        assert line, "no log is shown"


def test_a_job_is_listed_followed_left_and_stopped(head):
    address, environment = head
    where = {**environment, "RAY_ADDRESS": address}
    other = ["ray", "job", "submit", "--no-wait", "--submission-id", "other", "--", "true"]
    subprocess.run(other, check=True, capture_output=True, env={**where, "RAY_AUTH_MODE": "token"})
    command = [sys.executable, "-m", "jobs.cli", "benchmark", "filters", "stock", "--count", "100000"]
    command += ["data.table=/no/videos.csv", "run_directory=/no/run", "--submit", address, "--json"]
    # As a terminal starts it: what a script starts in its background does not hear Ctrl-C.
    heard = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}
    pipes: dict[str, Any] = {"stdout": PIPE, "stderr": PIPE, "text": True}
    with subprocess.Popen(command, **pipes, **heard, env=environment) as following:
        wait_for_its_log(following)
        listed = {job["job_id"]: job for job in json.loads(dreamer(where, "jobs", "list").stdout)["jobs"]}
        (job,) = (job for job in listed.values() if job["command"] == "dreamer benchmark filters")
        assert (job["recipe"], job["status"]) == ("stock", "RUNNING")
        assert (listed["other"]["command"], listed["other"]["entrypoint"]) == (None, "true")
        log = json.loads(dreamer(where, "jobs", "logs", job["job_id"]).stdout)["log"]
        assert "Running entrypoint" in log
        following.send_signal(signal.SIGINT)
        said, _ = following.communicate(timeout=60)
        assert following.returncode == 1
        error = json.loads(said)["error"]
        assert all(text in error for text in (f"job {job['job_id']} goes on", "--follow", "jobs stop"))
    logs = [sys.executable, "-m", "jobs.cli", "jobs", "logs", job["job_id"], "--follow", "--json"]
    with subprocess.Popen(logs, **pipes, env=where) as following:
        wait_for_its_log(following)
        listed = {job["job_id"]: job for job in json.loads(dreamer(where, "jobs", "list").stdout)["jobs"]}
        assert listed[job["job_id"]]["status"] == "RUNNING"
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


def test_ctrl_c_is_heard_in_the_moment_in_which_a_text_comes():
    class Cluster:
        async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
            for _ in range(100):
                reader.cancel()  # what Ctrl-C does
                yield "text\n"
                await asyncio.sleep(0)

    async def read() -> None:
        async for _ in log_text(Cluster(), "job"):
            pass

    async def follow() -> bool:
        nonlocal reader
        reader = asyncio.create_task(read())
        await asyncio.wait([reader], timeout=5)
        return reader.cancelled()

    reader: Any = None
    assert asyncio.run(follow())


def test_a_wrong_token_is_refused_with_what_to_do(head, tmp_path: Path):
    address, environment = head
    token = tmp_path / "token"
    token.write_text("wrong")
    arguments = ("curate", "demo", "data.table=/x.csv", f"run_directory={tmp_path}")
    done = submit(address, {**environment, "RAY_AUTH_TOKEN_PATH": str(token)}, *arguments)
    assert done.returncode == 1
    assert "wants another token" in done.stderr
    nowhere = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none"), "HOME": str(tmp_path)}
    assert "wants a token: " in submit(address, {**environment, **nowhere}, *arguments).stderr
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
