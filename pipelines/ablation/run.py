"""`dreamer ablate`: every arm and seed as a run of its own, and one table of what each design adds."""

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.ablation.arms import ArmRun, ablate_settings, ablation_folder, arm_runs
from pipelines.ablation.table import ablation_table
from pipelines.files import link_tree, whole_file, write_json
from pipelines.layout import RunLayout
from pipelines.preflight import preflight
from pipelines.progress import track
from pipelines.recipe import Recipe, with_absolute_paths
from pipelines.storage import is_remote
from pipelines.workflow import current_record, exclusive, run_recipe, steps_of, write_recipe

Metrics = dict[str, float]
Done = list[tuple[ArmRun, Metrics]]
SAID_LINES = 5  # of a failed run's log, in the error


class AblationError(RuntimeError):
    """Arms that could not be run; the message names each with its log. The others are in the table."""


def ablate(
    recipe: Recipe,
    *,
    command: Sequence[str],
    seeds: int | None = None,
    arms: tuple[str, ...] = (),
    parallel: int = 1,
) -> dict[str, Any]:
    """Train and evaluate every arm with every seed, on the same data and budget; compare them.

    command: what runs a recipe file that is given to it. seeds: default as the recipe says. arms: names of
    some of them; the recipe as it is always runs. parallel: runs at a time, each a process of its own.
    What is whole and current is not run again. Leaves in ablate/ARM/seed-N a run directory each, and
    ablate/ablation.json, anew after every run; runs of earlier calls that are current stay in it.
    Returns what ablation.json holds, and paths. Raises AblationError when an arm fails, and RecipeError
    or PreflightError before anything starts.
    """
    recipe = with_absolute_paths(recipe)
    settings = ablate_settings(recipe)
    seeds = seeds or settings.seeds
    runs = arm_runs(recipe, seeds, arms)
    for run in runs:
        if run.seed == runs[0].seed:  # the others ask for the same
            preflight(run.recipe, ("curate", "train", "evaluate"))
    folder = ablation_folder(recipe)
    with exclusive(folder):
        run_recipe(recipe, ("curate",))
        done = _current(arm_runs(recipe, max(seeds, settings.seeds), ()))
        table = _run_all(recipe, runs, done, command, parallel)
    return table | {"paths": {"ablation": str(folder / "ablation.json"), "runs": str(folder)}}


def _current(runs: list[ArmRun]) -> Done:
    return [(run, metrics) for run in runs if (metrics := current_metrics(run.recipe)) is not None]


def _run_all(
    recipe: Recipe, runs: list[ArmRun], done: Done, command: Sequence[str], parallel: int
) -> dict[str, Any]:
    """Do what is not done yet; the table is written before the first run and after each."""
    finished = [run for run, _ in done]
    waiting = [run for run in runs if run not in finished]
    table = _write_table(recipe, runs, done)
    failures: list[str] = []
    with (
        track(len(runs), "ablate: runs") as step,
        ThreadPoolExecutor(parallel) as pool,
        Children() as children,
    ):
        step.update(len(runs) - len(waiting))
        started = {pool.submit(_run, run, recipe, command, children): run for run in waiting}
        try:
            for future in as_completed(started):
                run = started[future]
                try:
                    done.append((run, future.result()))
                except AblationError as error:
                    failures.append(str(error))
                table = _write_table(recipe, runs, done)
                step.advance(detail=str(run))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        raise AblationError("\n".join(failures))
    return table


def current_metrics(recipe: Recipe) -> Metrics | None:
    """Metrics of a run all of whose steps are whole and current; None otherwise."""
    recipe = with_absolute_paths(recipe)
    layout = RunLayout.of(recipe)
    if not layout.recipe.is_file():
        return None
    records = {step.name: current_record(step) for step in steps_of(recipe, layout)}
    if any(record is None for record in records.values()):
        return None
    evaluated = records["evaluate"]
    assert evaluated is not None
    return evaluated["summary"]["metrics"]


class Children:
    """The processes of the runs, ended with the command."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock, self.closed = threading.Lock(), False

    def run(self, arguments: list[str], log: Path) -> int:
        """Exit code of a command whose output goes to `log`."""
        with _on_this_machine(log) as file, file.open("ab") as said:
            with self.lock:
                if self.closed:
                    return -1
                process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=said)
                self.running.add(process)
            try:
                return process.wait()
            finally:
                with self.lock:
                    self.running.discard(process)

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.closed = True
            for process in self.running:
                process.terminate()


@contextmanager
def _on_this_machine(log: Path) -> Iterator[Path]:
    """Where a process can write to while it runs; a log on object storage is there when it has ended."""
    if is_remote(log):
        with whole_file(log) as partial:
            yield partial
    else:
        yield log


def _run(run: ArmRun, base: Recipe, command: Sequence[str], children: Children) -> Metrics:
    """One arm with one seed, as `dreamer run` of its recipe."""
    _share_curation(run, base)
    write_recipe(run.recipe, run.layout)
    log = run.layout.root / "log.txt"
    code = children.run([*command, str(run.layout.recipe)], log)
    if code:
        said = " / ".join(log.read_text(errors="replace").strip().splitlines()[-SAID_LINES:])
        raise AblationError(f"{run}: exit code {code}, see {log}: {said}")
    return json.loads(run.layout.summary.read_text())["metrics"]


def _share_curation(run: ArmRun, base: Recipe) -> None:
    """Begin with data that is there: of the arm's first seed, or of the recipe as it is.

    Curation goes on from there: it does nothing for an arm with the same data, and for one with other
    captions only what depends on them.
    """
    data = run.layout.data
    if data.exists():
        return
    first = RunLayout(run.layout.root.with_name(f"seed-{base.seed}")).data
    sources = [first] + [RunLayout.of(base).data] * (run.recipe.data == base.data)
    for source in sources:
        if source != data and (source / "step.json").is_file():
            return link_tree(source, data, marker="step.json")


def _write_table(recipe: Recipe, runs: list[ArmRun], done: Done) -> dict[str, Any]:
    shown = [*runs, *(run for run, _ in done)]
    values: dict[str, dict[int, Metrics]] = {run.arm: {} for run in shown}
    for run, metrics in done:
        values[run.arm][run.seed] = metrics
    table = ablation_table(ablate_settings(recipe), values, sorted({run.seed for run in shown}))
    write_json(ablation_folder(recipe) / "ablation.json", table)
    return table
