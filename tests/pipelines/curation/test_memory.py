"""Peak memory is that of the work and of the process that did it, and of nothing else."""

import subprocess
import sys

import numpy as np
import pytest

from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.memory import Peaks, peak_memory_gb
from pipelines.recipe import DecodeSettings
from tests.pipelines.curation import misbehaving

GB = 10**9


FILL = """
import sys
import numpy as np
from pipelines.curation.memory import with_peak

def fill(gigabytes):
    return int(np.ones(int(gigabytes * 10**9), np.uint8)[-1])

for size in sys.argv[1:]:
    print(*with_peak(fill)(float(size)))
"""


def peaks_of(*gigabytes: float) -> list[float]:
    """Peaks of touching arrays of these sizes one after the other, in a process without a history."""
    arguments = [sys.executable, "-c", FILL, *map(str, gigabytes)]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    results, peaks = zip(*(line.split() for line in printed.splitlines()), strict=True)
    assert set(results) == {"1"}
    return [float(peak) for peak in peaks]


def test_the_peak_is_seen_after_the_memory_is_given_back():
    before, peak = peaks_of(0.001, 0.3)
    assert before + 0.28 < peak < before + 0.4


def test_a_unit_of_work_does_not_have_the_peak_of_the_one_before():
    large, small = peaks_of(0.3, 0.001)
    assert small < large - 0.2


def test_a_child_does_not_inherit_the_peak_of_the_process_that_started_it():
    held = np.ones(int(0.3 * GB), np.uint8)
    program = "from pipelines.curation.memory import peak_memory_gb; print(peak_memory_gb())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 0.005 < float(printed.stdout) < 0.2
    assert held[-1] == 1


def test_of_several_processes_the_largest_counts():
    peaks = Peaks()
    for gigabytes in (0.2, 0.5, 0.1):
        peaks.note("score", gigabytes)
    assert peaks == {"score": 0.5}


def test_a_process_that_is_gone_has_none():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert peak_memory_gb(child.pid) == 0.0


def test_a_decoder_that_grew_and_was_killed_is_remembered():
    with DecoderProcess(DecodeSettings(max_memory_gb=0.5)) as decoder:
        with pytest.raises(DecoderError, match="decoder_memory"):
            decoder.call(misbehaving.grow)
        assert decoder.peak_memory_gb > 0.5
