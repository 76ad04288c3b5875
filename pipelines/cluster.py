"""Ray for a command: the cluster that it was sent to, or a quiet local one."""

import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

GIGABYTE = 10**9
OBJECT_STORE_GIGABYTES = 1.0
OBJECT_STORE_SHARE_OF_MEMORY = 0.2
LOCAL_START_TRIES = 3
LOOK_EVERY_SECONDS = 1.0
COUNT_NODES_EVERY_SECONDS = 5.0
# Ray itself waits for a minute, while calls hang, and then ends the process with a line that tells of GCS.
HEAD_SILENCE_SECONDS = 15.0

# Tasks get their parallelism from Ray; networks that want threads ask for them (torch.set_num_threads).
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # pipelines.progress shows one bar per step instead
    "RAY_DATA_LOG_LEVEL": "WARNING",
}
DRIVER_ENVIRONMENT = {
    # ray.train.report waits for this poll: 1.3-1.8 s a report by default, 0.09 s with this.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # It asks the dashboard's state API, which a local Ray runs without, and logs each refusal.
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "WARNING",
}


class HeadLostError(ConnectionError):
    """The cluster that a command works on is gone."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the cluster's head at {address} is gone. What is whole stays: give the same command again when "
            "there is a head, and it goes on where this one stopped"
        )


class NoHeadError(ConnectionError):
    """There is no cluster where a command should work."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"no head of a Ray cluster answers at {address}, which RAY_ADDRESS names. Start one there (ray "
            "start --head), or unset RAY_ADDRESS to work on this machine alone"
        )


def end_at_once(error: Exception) -> None:
    """End this process, whatever its threads wait for."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)


# What becomes of a command whose cluster is gone; it is told by a thread, while the main one may hang in Ray.
when_head_is_lost: Callable[[Exception], None] = end_at_once


@contextmanager
def start_ray(cpus: float | None = None) -> Iterator[dict[str, float]]:
    """Ray's resources (`{"CPU": 2.0, ...}`), with Ray connected for the time of the `with` block.

    Joins the cluster that RAY_ADDRESS names (Ray Jobs sets it for a submitted command), and ends the process
    when that loses its head; otherwise starts a local one (token-protected, no dashboard) and shuts it down
    at the end. Nested use is a no-op.

    cpus: what a local Ray believes it has; default: this process's cores, at least 2, because a worker
    group and the tasks that feed it both need room. Raises NoHeadError when nobody is at the
    named address, HeadLostError for what goes wrong because nobody is there any more.
    """
    with environment(DRIVER_ENVIRONMENT):
        import ray

        if ray.is_initialized():
            yield ray.cluster_resources()
            return
        address = os.environ.get("RAY_ADDRESS")
        # That local clusters are protected by a token in ~/.ray, and that progress bars are off as we asked,
        # is no news at every start.
        for name in ("ray._private.authentication.authentication_token_setup", "ray.data._internal.progress"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if address:
            _join(address)
        else:
            _start_local(cpus)
        try:
            with _watched() if address else nullcontext():
                yield ray.cluster_resources()
        finally:
            ray.shutdown()


@contextmanager
def _watched() -> Iterator[None]:
    """Tell what becomes of the cluster's head and nodes."""
    import ray

    address = ray.get_runtime_context().gcs_address
    if not _listens(address):  # it cannot be reached from here, and only Ray knows how
        yield
        return
    over = threading.Event()
    nodes = threading.Thread(target=tell_of_nodes, args=(over,), daemon=True)
    nodes.start()
    threading.Thread(target=watch_head, args=(address, over), daemon=True).start()
    try:
        yield
    except Exception as error:
        if not _listens(address):
            raise HeadLostError(address) from error
        raise
    finally:
        over.set()
        nodes.join(LOOK_EVERY_SECONDS)  # it asks Ray, which must be there to answer


def watch_head(address: str, over: threading.Event) -> None:
    """Call `when_head_is_lost` when nobody listens at the head's address any more, until `over`."""
    heard_at = time.monotonic()
    while not over.wait(LOOK_EVERY_SECONDS):
        if _listens(address):
            heard_at = time.monotonic()
        elif time.monotonic() - heard_at > HEAD_SILENCE_SECONDS:
            when_head_is_lost(HeadLostError(address))
            return


def tell_of_nodes(over: threading.Event) -> None:
    """Say so on stderr when nodes join the cluster or leave it, until `over`: work speeds up, or waits."""
    known = _living_nodes()
    while not over.wait(COUNT_NODES_EVERY_SECONDS):
        nodes = _living_nodes()
        total = sum((Counter(node["Resources"]) for node in nodes.values()), Counter())
        now = f"{len(nodes)} now, with {total['CPU']:g} CPU and {total['GPU']:g} GPU"
        if joined := nodes.keys() - known.keys():
            print(f"cluster: nodes joined: {len(joined)} ({now})", file=sys.stderr)
        if left := known.keys() - nodes.keys():
            print(f"cluster: nodes left: {len(left)} ({now})", file=sys.stderr)
        known = nodes


def _living_nodes() -> dict[str, Any]:
    import ray

    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_SILENCE_SECONDS / 3).close()
    except OSError:
        return False
    return True


def available_cpus() -> int:
    """Cores that this process may use (a container's share, not the machine's)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def environment(defaults: dict[str, str]) -> Iterator[None]:
    """Set the variables that are not set yet, and take them back at the end."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _start_local(cpus: float | None) -> None:
    import ray

    for tries_left in reversed(range(LOCAL_START_TRIES)):
        try:
            # A local raylet hands its environment to its workers. A runtime_env would do the same at the
            # price of a second set of worker processes.
            with environment(WORKER_ENVIRONMENT):
                ray.init(
                    address="local",
                    num_cpus=int(cpus or max(2, available_cpus())),
                    object_store_memory=_object_store_bytes(),
                    # Eleven processes, a gigabyte and 1-5 s of start-up on two cores. Without it Train's
                    # cleaner of placement groups notes once a second, in its own log file, that it cannot see
                    # the controller; it has nothing to clean here, for a local Ray ends with its driver.
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
            return
        except Exception as error:
            # Ray gives its own processes 30 s, which is too short for a machine that is busy with others.
            # It raises a bare Exception, so its words are all that tells this one from the rest.
            ray.shutdown()
            if "timed out during startup" not in str(error) or not tries_left:
                raise


def _join(address: str) -> None:
    import ray

    # Ray itself tries for a quarter of an hour.
    if re.fullmatch(r"[^/]+:[0-9]+", address) and not _listens(address):
        raise NoHeadError(address)
    # Variables that the submitted job already carries are its own: Ray refuses to merge two values of one.
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}").get("runtime_env", {})
    worker_environment: dict[str, Any] = {**WORKER_ENVIRONMENT}
    for name in job.get("env_vars", {}):
        worker_environment.pop(name, None)
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level=logging.WARNING,
        runtime_env={"env_vars": worker_environment},
    )


def _object_store_bytes() -> int:
    """A small store: no full-size frame ever enters it, and blocks are a few MB."""
    import psutil

    share = OBJECT_STORE_SHARE_OF_MEMORY * psutil.virtual_memory().total
    return int(min(OBJECT_STORE_GIGABYTES * GIGABYTE, share))
