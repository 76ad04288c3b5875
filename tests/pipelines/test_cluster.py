"""A local Ray: quiet, small, ours, and gone afterwards."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from pipelines import cluster
from pipelines.cluster import DRIVER_ENVIRONMENT, NoHeadError, environment, start_ray, watch_head
from tests.chaos.nodes import REPOSITORY, nodes


def test_a_local_ray_has_room_for_two_hands_its_settings_to_workers_and_ends(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with start_ray() as resources:
        import ray

        assert resources["CPU"] >= 2
        with start_ray() as nested:
            assert nested["CPU"] == resources["CPU"]
        assert ray.is_initialized()  # the nested one did not end it

        @ray.remote
        def threads() -> str | None:
            return os.environ.get("OMP_NUM_THREADS")

        assert ray.get(threads.remote()) == "1"
        assert os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "0.1"
        # A head that could never be reached from here is Ray's affair.
        monkeypatch.setattr(cluster, "_listens", lambda address: False)
        with pytest.raises(RuntimeError, match="what Ray says"), cluster._watched():
            raise RuntimeError("what Ray says")
    assert not ray.is_initialized()
    assert {name for name in DRIVER_ENVIRONMENT if name in os.environ} == {
        name for name in DRIVER_ENVIRONMENT if name in before
    }


def test_a_variable_that_a_person_set_stays_theirs(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with environment({"OMP_NUM_THREADS": "1", "DREAMER_TEST": "1"}):
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["DREAMER_TEST"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "DREAMER_TEST" not in os.environ


def test_a_command_ends_when_its_cluster_has_lost_its_head(monkeypatch):
    told = []
    monkeypatch.setattr(cluster, "when_head_is_lost", told.append)
    monkeypatch.setattr(cluster, "HEAD_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "LOOK_EVERY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        watch = threading.Thread(target=watch_head, args=(address, threading.Event()), daemon=True)
        watch.start()
        watch.join(0.5)
        assert watch.is_alive()  # it listens
    watch.join(10)
    assert [f"head at {address} is gone" in str(error) for error in told] == [True]


def test_where_no_cluster_is_none_is_waited_for(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(NoHeadError, match=f"no head of a Ray cluster answers at {address}"), start_ray():
        pass


WORK = """
from pipelines.cluster import start_ray
with start_ray():
    print("works", flush=True)
    input()
    raise RuntimeError("what Ray says when an actor of its own is gone")
"""


def test_what_goes_wrong_without_a_head_is_told_as_that():
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with nodes() as cluster:
        for lost in (False, True):
            with subprocess.Popen(
                [sys.executable, "-c", WORK], cwd=REPOSITORY, env=cluster.environment, text=True, **pipes
            ) as process:
                assert process.stdout.readline() == "works\n"
                if lost:
                    cluster.kill_head()
                _, said = process.communicate("go\n", timeout=60)
            assert "RuntimeError: what Ray says" in said
            assert lost == ("HeadLostError: the cluster's head at" in said)
