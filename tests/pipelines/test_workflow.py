"""The workflow: a step is skipped when, and only when, its output is whole and current."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipelines import workflow
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.workflow import (
    Step,
    WorkflowError,
    current_record,
    exclusive,
    run_steps,
    steps_of,
    write_recipe,
)

STEPS = ("curate", "train")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs two steps that write a file each, in this process; `run.done` lists what was done."""
    monkeypatch.setattr(workflow, "start_ray", nullcontext)
    return Run(tmp_path)


class Run:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe = load_recipe("demo", (f"run_directory={root}",))
        self.stamps = {"curate": "a", "train": "b"}
        self.done: list[str] = []

    def steps(self) -> list[Step]:
        return [
            Step(name, partial(self.work, name), self.stamps[name], self.root / name, (self.root / name,))
            for name in STEPS
        ]

    def work(self, name: str, recipe: Recipe, **options: bool) -> dict:
        self.done.append(name)
        (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / name / "out.bin").write_bytes(b"x" * 10)
        return {"made": name, **options}

    def __call__(self, wanted: tuple[str, ...] = STEPS, **options: bool) -> dict:
        return run_steps(self.steps(), self.recipe, wanted, **options)


def test_a_second_run_does_nothing_and_says_the_same(run):
    first = run()
    assert run.done == ["curate", "train"]
    assert run() == first
    assert run.done == ["curate", "train"]


@pytest.mark.parametrize("harm", ["delete", "truncate", "record"])
def test_a_step_whose_output_is_not_whole_is_done_again(run, harm):
    run()
    match harm:
        case "delete":
            (run.root / "train" / "out.bin").unlink()
        case "truncate":
            (run.root / "train" / "out.bin").write_bytes(b"x")
        case "record":
            (run.root / "train" / "step.json").unlink()
    run()
    assert run.done == ["curate", "train", "train"]


def test_a_step_of_other_settings_is_done_again(run):
    run()
    run.stamps["curate"] = "changed"
    run()
    assert run.done == ["curate", "train", "curate"]


def test_one_step_alone_leaves_the_later_ones_alone(run):
    assert set(run(("curate",))) == {"curate"}
    assert set(run()) == {"curate", "train"}
    assert run.done == ["curate", "train"]


def test_a_step_is_not_done_on_what_other_settings_left(run):
    with pytest.raises(WorkflowError, match="dreamer curate"):
        run(("train",))
    run()
    run.stamps |= {"curate": "changed", "train": "changed too"}
    with pytest.raises(WorkflowError, match="dreamer curate"):
        run(("train",))
    assert run.done == ["curate", "train"]


def test_a_step_with_options_is_never_skipped(run):
    run()
    records = run(("curate",), retry_failed=True)
    assert run.done == ["curate", "train", "curate"]
    assert records["curate"]["summary"] == {"made": "curate", "retry_failed": True}


def test_a_skipped_step_does_what_is_left_of_it(run):
    caught_up = []
    steps = [replace(step, catch_up=caught_up.append) for step in run.steps()]
    run_steps(steps, run.recipe, STEPS)
    assert caught_up == []
    run_steps(steps, run.recipe, STEPS)
    assert caught_up == [run.recipe] * 2


def test_a_step_that_fails_leaves_no_record_of_what_was_there_before(run, monkeypatch: pytest.MonkeyPatch):
    run()
    run.stamps["train"] = "changed"

    def fail(name: str, recipe: Recipe) -> dict:
        raise RuntimeError("no more disk")

    monkeypatch.setattr(run, "work", fail)
    with pytest.raises(RuntimeError, match="no more disk"):
        run()
    run.stamps["train"] = "b"
    assert [current_record(step) is None for step in run.steps()] == [False, True]


def test_a_step_that_refuses_leaves_the_record_of_what_is_there(run):
    first = run()

    def refuse(recipe: Recipe) -> None:
        raise WorkflowError("trained with other settings")

    run.stamps["train"] = "changed"
    steps = [replace(step, check=refuse) if step.name == "train" else step for step in run.steps()]
    with pytest.raises(WorkflowError, match="other settings"):
        run_steps(steps, run.recipe, STEPS)
    run.stamps["train"] = "b"
    assert run() == first
    assert run.done == ["curate", "train"]


def test_a_change_runs_through_to_the_end(tmp_path: Path):
    table, model = tmp_path / "videos.csv", tmp_path / "model"
    table.write_text("videoid,contentUrl,name\n1,1.mp4,a star\n")
    model.mkdir()
    (model / "config.json").write_text("{}")
    parts = ("text_to_image", "image_encoder", "motion_encoder", "video_classifier")
    overrides = (f"data.table={table}", *(f"models.{part}={model}" for part in parts))

    def fingerprints(*more: str) -> list[str]:
        recipe = load_recipe("demo", (*overrides, *more))
        return [step.fingerprint for step in steps_of(recipe, RunLayout(tmp_path))]

    before = fingerprints()
    assert fingerprints() == before
    for change, current in {
        "run_directory=elsewhere": (True, True, True),
        "evaluate.sampling.steps=3": (True, True, False),
        "train.stages.0.steps=3": (True, False, False),
        "data.limit=3": (False, False, False),
    }.items():
        assert tuple(old == new for old, new in zip(before, fingerprints(change), strict=True)) == current


def test_the_recipe_of_a_run_can_be_run_again(tmp_path: Path):
    recipe = load_recipe("demo", (f"run_directory={tmp_path}", "seed=5"))
    layout = RunLayout(tmp_path)
    write_recipe(recipe, layout)
    assert load_recipe(str(layout.recipe)) == recipe
    assert layout.recipe.read_text().startswith(f"# fingerprint: {workflow.recipe_fingerprint(recipe)}")


def test_the_fingerprint_of_a_recipe_does_not_depend_on_where_it_runs():
    here, there = (load_recipe("demo", (f"run_directory={place}",)) for place in ("here", "there"))
    assert workflow.recipe_fingerprint(here) == workflow.recipe_fingerprint(there)
    assert workflow.recipe_fingerprint(here) != workflow.recipe_fingerprint(load_recipe("demo", ("seed=1",)))


def test_two_processes_do_not_work_in_one_run_directory(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path; from pipelines.workflow import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})): print('holds', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "holds"
    with pytest.raises(WorkflowError, match=f"process {holder.pid} is at work"), exclusive(tmp_path):
        pass
    holder.communicate()
    with exclusive(tmp_path):
        pass
