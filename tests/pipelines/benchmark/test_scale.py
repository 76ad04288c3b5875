"""Curation at the size of a table: what is made up passes through all of curation's own steps."""

import json
import subprocess
import sys

import pytest

from pipelines.benchmark.scale import Meter, caption

ROWS = 2000


@pytest.fixture(scope="module")
def summary() -> dict:
    command = [sys.executable, "-m", "jobs.cli", "benchmark", "scale", "--rows", str(ROWS), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_source_ends_in_the_books(summary):
    assert summary["sources"] == summary["rows"] == ROWS
    assert summary["clips"] + sum(summary["reasons"].values()) == ROWS  # a row each
    assert ROWS / 2 < summary["clips"] < ROWS
    assert {"not_found", "static", "low_motion", "duplicate"} <= set(summary["reasons"])
    assert summary["shards"] == 2 * summary["units"] == 32  # of two tiers with one bucket of that shape


def test_every_step_says_what_it_took(summary):
    steps = {step["step"]: step for step in summary["steps"]}
    assert all(step["seconds"] > 0 and step["core_seconds"] >= 0 for step in steps.values())
    assert steps["made up: table"]["bytes"] > 100 * ROWS
    assert steps["divide"]["files"] == 17  # of 16 units, and their stamp
    assert steps["divide again"]["files"] == 0
    assert "clips to train on" in steps
    assert steps["query"]["files"] == steps["captions"]["files"] == 16
    assert 0.05 < summary["driver_baseline_gb"] < summary["driver_peak_gb"] < 1


def test_captions_are_as_different_as_those_of_a_table():
    assert len({caption(number) for number in range(1, 5001)}) == 5000


def test_a_step_has_its_own_memory_and_files(tmp_path):
    (tmp_path / "old").write_bytes(b"x")
    meter = Meter(rows=10)
    meter.step("large", lambda: bytearray(200_000_000).count(0), tmp_path)
    assert meter.step("small", lambda: (tmp_path / "new").write_bytes(b"xyz"), tmp_path) == 3
    large, small = meter.steps
    assert large["driver_over_baseline_gb"] > 0.15 > small["driver_over_baseline_gb"]
    assert (large["files"], small["files"], small["bytes"]) == (0, 1, 3)
