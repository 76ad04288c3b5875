"""A Ray cluster of several nodes on this machine: nodes join, leave in order, are killed, and so is the head.

A node is a raylet with its own CPUs, object store and workers, started by Ray's own test utility. That one
lives in a process of its own, which ends with the one that asked for it, and all nodes with it.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.killing import kill

REPOSITORY = Path(__file__).resolve().parents[2]
START_TRIES = 3  # Ray gives its own processes 30 s, which is too short for a machine that is busy with others
STORE_BYTES = 80_000_000  # near the least that Ray takes
HEAD_TYPE, WORKER_TYPE = "ray.head.default", "worker"  # the first is what Ray's provider calls it
IDLE_MINUTES = 0.1
# What the autoscaler looks up and nodes without machines do not need.
NO_MACHINES: dict[str, Any] = {
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    "cluster_synced_files": [],
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}


class Nodes:
    """The cluster as seen from the process that asks for it. Nodes are known by the ids of their raylets.

    environment: of commands that join it. nodes: those that are there, beside the head.
    """

    def __init__(self, folder: Path, store_bytes: int, most_nodes: int) -> None:
        folder.mkdir()
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.folder = folder
        self.nodes: list[int] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
        }
        ours, theirs = Pipe()
        arguments = [theirs.fileno(), folder, store_bytes, most_nodes]
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.nodes", *map(str, arguments)],
                cwd=REPOSITORY,
                env=self.environment | {"RAY_TMPDIR": str(folder)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        theirs.close()
        self._pipe = ours
        if most_nodes:
            self.environment["DREAMER_CLUSTER"] = str(folder / "cluster.yaml")

    def start_head(self) -> None:
        """A head without CPUs, of a new cluster: nodes of one before it end when they find no head."""
        self.nodes.clear()
        self.environment["RAY_ADDRESS"] = self._ask("start_head")

    def kill_head(self) -> None:
        self._ask("kill_head")

    def have(self, count: int) -> None:
        """Let so many nodes be there."""
        for node in self.nodes[count:]:
            self.remove(node)
        while len(self.nodes) < count:
            self.nodes.append(self._ask("add"))

    def remove(self, node: int) -> None:
        """As `ray stop` does on that machine."""
        self._ask("remove", node)
        self.nodes.remove(node)

    def kill(self, node: int) -> None:
        """As if the machine went off: its raylet and all that runs there, at one blow."""
        self._ask("kill", node)
        self.nodes.remove(node)

    def at_work(self, title: str) -> list[int]:
        """Nodes with a worker that Ray gave such a title."""
        return [node for node in self.nodes if any(_titles(node, title))]

    def alive(self) -> int:
        """Nodes that the head knows to be there, itself included."""
        return int(self._ask("alive"))

    def spilled(self) -> list[Path]:
        """Files of objects that had no room in the stores."""
        return [path for path in self.folder.glob("ray/session_*/ray_spilled*/*") if path.is_file()]

    def close(self) -> None:
        self._pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        kill(_of_cluster(self.folder))
        self._process.wait()

    def _ask(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, arguments))
        try:
            worked, answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the cluster is gone:\n{(self.folder / 'log').read_text()}") from None
        if not worked:
            raise RuntimeError(f"{name}: {answer}\n{(self.folder / 'log').read_text()}")
        return answer


def _of_cluster(folder: Path) -> Iterator[psutil.Process]:
    """What is left of a cluster, known by its logs: agents that lost their head look for it, busily."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(Path(file.path).is_relative_to(folder) for file in process.open_files()):
                yield process


def _titles(node: int, title: str) -> Iterator[bool]:
    for worker in psutil.Process(node).children():
        with suppress(psutil.NoSuchProcess):
            yield " ".join(worker.cmdline()).startswith(title)


@contextmanager
def nodes(count: int = 0, *, store_bytes: int = STORE_BYTES, most_nodes: int = 0) -> Iterator[Nodes]:
    """A head and so many nodes of one CPU, each with an object store of that size.

    most_nodes: Ray's autoscaler starts that many more as they are needed, and ends those that idle.
    """
    # Short: Ray's sockets lie in there, and their paths have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = _started(Path(folder), count, store_bytes, most_nodes)
        try:
            yield cluster
        finally:
            cluster.close()


def _started(folder: Path, count: int, store_bytes: int, most_nodes: int) -> Nodes:
    for number in range(START_TRIES):
        cluster = Nodes(folder / str(number), store_bytes, most_nodes)
        try:
            cluster.start_head()
            cluster.have(count)
            return cluster
        except RuntimeError as error:
            cluster.close()
            failure = error
    raise failure


# ---------------------------------------------------------------- in the process of the cluster


class Raylets:
    """Ray's test cluster by the ids of processes."""

    def __init__(self, folder: Path, store_bytes: int, most_nodes: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self.folder, self.store_bytes, self.most_nodes = folder, store_bytes, most_nodes
        self.nodes: dict[int, Any] = {}

    def start_head(self) -> str:
        self.nodes.clear()
        self.cluster.worker_nodes.clear()
        arguments: dict[str, Any] = {"include_dashboard": False}
        if self.most_nodes:
            arguments |= autoscaling(self.folder / "cluster.yaml", self.most_nodes)
        self._start(0, **arguments)
        return str(self.cluster.address)

    def kill_head(self) -> None:
        _kill_all(self.cluster.head_node)
        self.cluster.head_node = None

    def add(self) -> int:
        node = self._start(1)
        name = int(node.all_processes["raylet"][0].process.pid)
        self.nodes[name] = node
        return name

    def remove(self, name: int) -> None:
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=True)

    def kill(self, name: int) -> None:
        node = self.nodes.pop(name)
        _kill_all(node)
        self.cluster.worker_nodes.discard(node)

    def alive(self) -> int:
        return len(self.cluster.global_state._live_node_ids())

    def _start(self, cpus: int, **arguments: Any) -> Any:
        return self.cluster.add_node(num_cpus=cpus, object_store_memory=self.store_bytes, **arguments)


def autoscaling(file: Path, most_nodes: int) -> dict[str, Any]:
    """Settings of a head that starts nodes by Ray's provider of nodes without machines; writes their file."""
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    address = f"{ray.util.get_node_ip_address()}:{port}"
    provider = {
        "type": "external",  # and not `fake_multinode`, whose defaults Ray's package does not have
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "use_node_id_as_ip": True,  # all nodes have the same address
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    types = {
        HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        WORKER_TYPE: {
            "resources": {"CPU": 1},
            "node_config": {},
            "min_workers": 0,
            "max_workers": most_nodes,
        },
    }
    config = {
        "cluster_name": "chaos",
        "max_workers": most_nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": provider,
        "available_node_types": types,
        "head_node_type": HEAD_TYPE,
        **NO_MACHINES,
    }
    file.write_text(yaml.safe_dump(config))
    os.environ |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    return {"gcs_server_port": port, "autoscaling_config": str(file)}


def _kill_all(node: Any) -> None:
    """Parents before their children: no process may see another end and draw conclusions."""
    started = [info.process for infos in node.all_processes.values() for info in infos]
    parents = [psutil.Process(process.pid) for process in started if process.poll() is None]
    kill([member for parent in parents for member in (parent, *parent.children(recursive=True))])
    for process in started:
        process.wait()


def serve(pipe: Connection, raylets: Raylets) -> None:
    """Do what is asked, until whoever asked is gone."""
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, getattr(raylets, name)(*arguments))
        except Exception as error:
            answer = (False, f"{type(error).__name__}: {error}")
        pipe.send(answer)


if __name__ == "__main__":
    handle, folder, store_bytes, most_nodes = sys.argv[1:]
    serve(Connection(int(handle)), Raylets(Path(folder), int(store_bytes), int(most_nodes)))
