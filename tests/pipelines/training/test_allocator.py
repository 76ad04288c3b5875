"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

# Pages that the second of two equal steps touches for the first time.
FAULTS = """
import resource, sys
import numpy as np
from pipelines.training.allocator import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(77)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones((64, 2**20), np.uint8).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, what], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("no glibc here")
    return int(done.stdout)


def test_a_second_step_takes_the_memory_of_the_first() -> None:
    assert faults("kept") < faults("default") / 5
