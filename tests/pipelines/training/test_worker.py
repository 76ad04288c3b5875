"""One worker group at a time writes to a folder."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines.training.group import Group, TrainingStoppedError
from pipelines.training.worker import LOCK, sole_writer

ALONE = Group(rank=0, size=1, device=torch.device("cpu"))
HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that writes to the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / LOCK], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_a_new_group_waits_until_an_orphan_has_ended(
    tmp_path: Path, orphan: "subprocess.Popen[bytes]"
) -> None:
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {orphan.pid}"])
    began = time.monotonic()
    with sole_writer(tmp_path, ALONE):
        assert 0.4 < time.monotonic() - began < 10


def test_a_group_that_does_not_end_is_named(tmp_path: Path, orphan: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(TrainingStoppedError, match="trains in"), sole_writer(tmp_path, ALONE, 0.1):
        pass
