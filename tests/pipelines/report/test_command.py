"""`dreamer report` as a person and a script see it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.layout import RunLayout
from pipelines.recipe import Recipe


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(run: Recipe, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.run_directory, tmp_path / "run"))


def test_it_ends_with_where_the_page_is(copy: Path):
    done = report(copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0].strip() == "Report"
    assert done.stdout.split()[-2:] == ["page", str(copy / "report.html")]
    assert (copy / "report.html").is_file()


def test_json_is_all_that_stands_on_stdout(copy: Path):
    done = report(copy, "--json")
    summary = json.loads(done.stdout)
    assert summary["report"] == str(copy / "report.html")
    assert summary["sources"] == 18
    assert summary["bytes"] == (copy / "report.html").stat().st_size


def test_two_runs_are_compared_on_a_page_of_their_own(trained: RunLayout, other: RunLayout):
    done = report(trained.root, "--with", other.root)
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()[1:]]
    assert said[:3] == [["A", str(trained.root)], ["B", str(other.root)], ["settings", "that", "differ", "2"]]
    assert done.stdout.split()[-1] == str(trained.root / "report-with-second.html")


def test_what_is_no_run_directory_is_said_in_one_line(tmp_path: Path):
    done = report(tmp_path, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == f"{tmp_path} is no run directory: it has no recipe.yaml"
    assert "Traceback" not in done.stderr
