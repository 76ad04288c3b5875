"""A Ray cluster that wants a token, for the tests that submit jobs to one."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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


@contextmanager
def ray_head(unknown: Collection[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """(address of a Ray cluster with token authentication, environment that holds the token).

    As in ray_cluster.yaml the head has no CPUs; a second node has two. Its files lie beside the token.
    unknown: variables of this process that the cluster does not see.
    """
    # Short: Ray's sockets lie in there, and their paths have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        mine = {name: os.environ[name] for name in unknown}
        environment = {
            **{
                name: os.environ[name]
                for name in os.environ
                if not name.startswith("RAY_") and name not in mine
            },
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
                            yield f"http://127.0.0.1:{base + 1}", environment | mine
                            return
                    finally:
                        stop(worker)
            finally:
                stop(process)
        raise RuntimeError(
            f"no Ray head in {START_TRIES} tries: {(folder / str(number) / 'log').read_text()}"
        )


def start_head(folder: Path, environment: dict[str, str], base: int) -> subprocess.Popen:
    ports = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    flags = [f"--{name}={base + number}" for number, name in enumerate(ports)]
    flags += ["--head", "--num-cpus=0", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}/r"]
    return start_ray_process(folder, environment, flags)


def start_node(folder: Path, environment: dict[str, str], address: str) -> subprocess.Popen:
    # A directory of its own, as on another machine: the second node to unpack a job's code deletes it first.
    flags = [f"--address={address}", "--num-cpus=2", f"--temp-dir={folder}/r"]
    return start_ray_process(folder, environment, flags)


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
