"""The command line as a person and a script see it: exit codes, messages, and what stands on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = (
    "demo",
    "plan",
    "run",
    "curate",
    "train",
    "evaluate",
    "generate",
    "report",
    "ucf101",
    "benchmark",
    "embedded",
    "runs",
    "evalcrafter",
)


def dreamer(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_help_shows_every_command_and_examples():
    done = dreamer("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    assert "dreamer demo" in done.stdout


def test_help_needs_no_library_that_is_slow_to_load():
    program = (
        "import sys, jobs.cli; heavy = {'torch', 'ray', 'transformers', 'diffusers', 'mlflow', 'pyarrow'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS[:-4])
def test_every_command_teaches_by_example(command):
    assert f"\n  dreamer {command} " in dreamer(command, "--help").stdout.replace(
        "  dreamer demo\n", "  dreamer demo \n"
    )


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("nothing",), ("run", "demo", "--unknown"), ("generate",), ("curate", "demo", "--limit", "0")],
)
def test_wrong_usage_is_exit_code_2(arguments):
    done = dreamer(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""


def test_a_wrong_recipe_is_exit_code_2_with_one_message_and_a_traceback_only_with_debug():
    done = dreamer("run", "demo", "train.step=4")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "unknown key" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in dreamer("run", "demo", "train.step=4", "--debug").stderr


def test_preflight_stops_a_command_before_anything_starts(tmp_path: Path):
    run = tmp_path / "run"
    done = dreamer(
        "curate",
        "demo",
        "data.table=nothing.csv",
        "models.motion_encoder=nowhere",
        f"run_directory={run}",
        "--json",
    )
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert said["exit_code"] == 2
    for place in ("data.table", "models.motion_encoder"):
        assert place in said["error"]
        assert place in done.stderr
    assert not run.exists()


def test_json_is_all_that_stands_on_stdout(tmp_path: Path):
    done = dreamer(
        "embedded", "sprites", tmp_path, "--clips", 8, "--held-out-clips", 2, "--no-flow", "--json"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert Path(summary["table"]).is_file()
    assert summary["clips"] == 8
    assert "SpriteWorld clips" in done.stderr  # progress


def test_without_json_a_table_ends_the_command():
    program = """
from jobs.shell import execute
execute("Title", lambda: {"clips": 12345, "path": "a/[b]"}, lambda summary: summary.items())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Title", "clips", "12,345", "path", "a/[b]"]


def test_metrics_stand_beside_their_ground_truth_and_untrained_model():
    from jobs.run import metric_rows

    metrics = {
        "motion_accuracy": 0.9375,
        "motion_accuracy_low": 0.9,
        "motion_accuracy_high": 0.96,
        "motion_accuracy_ground_truth": 1.0,
        "motion_accuracy_untrained": 0.125,
        "motion_accuracy_two": 0.8,
        "motion_accuracy_ground_truth_two": 0.99,
    }
    assert list(metric_rows(metrics)) == [
        ("motion_accuracy", "0.9375 (0.900 to 0.960), ground truth 1, untrained 0.125"),
        ("motion_accuracy_two", "0.8, ground truth 0.99"),
    ]


def test_whatever_prints_to_stdout_goes_to_stderr():
    program = """
import os, subprocess, sys
from jobs.shell import execute

def work():
    print("a library")
    os.write(1, b"C++\\n")
    subprocess.run(["echo", "a child"], check=True)
    return {"answer": 1}

try:
    execute("T", work, lambda summary: summary.items(), json_output=True)
finally:
    print("a farewell")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == '{"answer": 1}\n'
    for line in ("a library", "C++", "a child", "a farewell"):
        assert line in done.stderr


def test_errors_for_people_have_no_traceback_and_faults_of_the_program_do():
    program = """
import sys, typer
from jobs.shell import execute
from jobs.ray_jobs import JobError
from pipelines.recipe import RecipeError

def fail(error):
    def work():
        raise error
    try:
        execute("T", work, lambda summary: ())
    except typer.Exit as end:
        print(f"-- {end.exit_code}", file=sys.stderr)

fail(JobError("no cluster there"))
fail(FileNotFoundError("no model in x"))
fail(RecipeError("no such key"))
fail(KeyboardInterrupt())
fail(ZeroDivisionError("a fault"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said = [text.strip() for text in done.stderr.split("-- ")]
    assert said[0] == "error: no cluster there"
    assert said[1].splitlines() == ["1", "error: no model in x"]
    assert said[2].splitlines() == ["1", "error: no such key"]
    assert said[3].startswith("2\nerror: stopped; the same command goes on")
    assert said[4].startswith("130")
    assert "Traceback" in said[4]
    assert said[4].endswith("error: ZeroDivisionError: a fault")
    assert said[5] == "1"
    assert done.stdout == ""


def test_an_error_is_found_under_what_ray_wraps_it_in():
    import ray.exceptions

    from jobs.shell import _known
    from pipelines.recipe import RecipeError

    cause = RecipeError("no such key")
    wrapped = ray.exceptions.RayTaskError("f", "a traceback", cause).as_instanceof_cause()
    assert _known(wrapped) is cause
    outer = RuntimeError("outer")
    outer.__cause__ = wrapped
    assert _known(outer) is cause
    assert _known(RuntimeError("a fault")) is None


RAY_DATA = """\x1b[36mray::Map(_score_row)()\x1b[39m (pid=7, ip=192.0.2.1)
  File "files.py", line 90, in whole_file
OSError: [Errno 28] No space left on device

The above exception was the direct cause of the following exception:

\x1b[36mray::Map(_score_row)()\x1b[39m (pid=7, ip=192.0.2.1)
  File "files.py", line 41, in room_for
{error}

The above exception was the direct cause of the following exception:

\x1b[36mray::Map(_score_row)()\x1b[39m (pid=7, ip=192.0.2.1)
ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, configure `ray.data.DataContext.get_current()`."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("pipelines.files.DiskFullError: the disk is full:\nmake room", "the disk is full:\nmake room"),
        ("KeyError: 'bucket'", "KeyError: 'bucket'"),
    ],
)
def test_an_error_is_told_that_ray_data_keeps_the_text_of(error: str, told: str):
    from jobs.shell import _told

    assert _told(RuntimeError(RAY_DATA.format(error=error))) == told
