"""The steps of one recipe in order, each skipped when its output is whole and current."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.cluster import start_ray
from pipelines.curation.exclusions import excluded_sources, remember_exclusions
from pipelines.curation.sources import table_stamp
from pipelines.files import write_json, write_text
from pipelines.fingerprint import file_sha256, fingerprint, recipe_fingerprint, source_fingerprint
from pipelines.layout import RunLayout
from pipelines.lock import HeldError, hold
from pipelines.models import weights_sha256
from pipelines.preflight import STEPS, preflight
from pipelines.progress import stderr_console
from pipelines.recipe import Recipe, with_absolute_paths
from pipelines.storage import file_sizes
from pipelines.tracking import tracking_uri

Summary = dict[str, Any]


class WorkflowError(RuntimeError):
    """A run that cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Step:
    """One step of a run: what it does, what its result depends on, and where it leaves it."""

    name: str
    work: Callable[..., Summary]
    fingerprint: str
    folder: Path
    outputs: tuple[Path, ...]
    check: Callable[[Recipe], Any] | None = None  # raises when the step would refuse what is there
    catch_up: Callable[[Recipe], Any] | None = None  # what is left to do of a step that is skipped

    @property
    def record(self) -> Path:
        """Written last, beside the outputs: fingerprint, summary, and every file with its size."""
        return self.folder / "step.json"


def run_recipe(recipe: Recipe, steps: tuple[str, ...] = STEPS, **options: bool) -> Summary:
    """Curate, train and evaluate as the recipe says; returns what `summary.json` holds.

    With fewer `steps` only those are done, on what the others left. `options` go to the one step that is
    asked for, which is then not skipped. Raises PreflightError before anything
    starts, WorkflowError when another process works on the same run directory, and what the steps raise.
    """
    preflight(recipe, steps)
    recipe = with_absolute_paths(recipe)
    layout = RunLayout.of(recipe)
    with exclusive(layout.root):
        recipe = remember_exclusions(recipe, layout)
        write_recipe(recipe, layout)
        records = run_steps(steps_of(recipe, layout), recipe, steps, **options)
        summary = _summary(recipe, layout, records)
        write_json(layout.summary, summary, default=str)
    return summary


def run_steps(
    steps: Iterable[Step], recipe: Recipe, wanted: tuple[str, ...], **options: bool
) -> dict[str, Summary]:
    """Do the wanted steps that are not whole and current; returns the records of all that are, by name.

    Raises WorkflowError for a wanted step after one that is neither wanted nor whole and current: what it
    would make of the old input must not pass for the result of this recipe.
    """
    records: dict[str, Summary] = {}
    stale: list[str] = []
    with ExitStack() as resources:
        for step in steps:
            record = current_record(step)
            if step.name not in wanted and record is None:
                stale.append(step.name)
            if step.name in wanted and stale:
                raise WorkflowError(
                    f"{step.name} needs what `dreamer {stale[0]}` makes, which is not there or is of other "
                    f"settings: run `dreamer {stale[0]}` of this recipe first, or `dreamer run` for all steps"
                )
            if step.name in wanted and (record is None or options):
                resources.enter_context(start_ray())  # once for all steps that follow
                record = _do(step, recipe, **options)
            elif step.name in wanted:
                _say(f"{step.name}: whole and current, skipped")
                if step.catch_up is not None:
                    step.catch_up(recipe)
            if record is not None:
                records[step.name] = record
    return records


@contextmanager
def prepared(recipe: Recipe, steps: tuple[str, ...]) -> Iterator[RunLayout]:
    """Everything that work beside the recipe's own steps needs: preflight, the run directory, Ray."""
    preflight(recipe, steps)
    layout = RunLayout.of(recipe)
    with exclusive(layout.root), start_ray():
        yield layout


def steps_of(recipe: Recipe, layout: RunLayout) -> Iterator[Step]:
    """The recipe's steps; each fingerprint holds the one before, so that a change runs through to the end."""
    from pipelines.curation.query import query_fingerprint
    from pipelines.curation.run import curate

    models = recipe.models
    frozen = [
        weights_sha256(path) for path in (models.text_to_image, models.image_encoder, models.motion_encoder)
    ]
    frozen += [file_sha256(models.flow)] if models.flow else []
    upstream = fingerprint(
        recipe.data,
        table_stamp(recipe.data),
        sorted(excluded_sources(layout)),
        recipe.curation,
        query_fingerprint(recipe),  # the content of the weights that score and split captions is in it
        frozen,
        source_fingerprint("pipelines.curation"),
    )
    outputs = (layout.manifest, layout.clips, layout.data / "shards")
    yield Step("curate", curate, upstream, layout.data, outputs)
    if recipe.train is not None:
        from pipelines.training.plan import plan_stages
        from pipelines.training.run import send_late, train

        code = source_fingerprint("pipelines.training", "modeling")
        start = weights_sha256(models.start_unet)
        upstream = fingerprint(upstream, recipe.train, recipe.model, start, recipe.seed, code)
        models_made = tuple(layout.model(stage.name) for stage in recipe.train.stages)
        yield Step("train", train, upstream, layout.root / "train", models_made, plan_stages, send_late)
    if recipe.evaluate is not None:
        from pipelines.evaluation.images import image_table_stamp
        from pipelines.evaluation.run import evaluate

        judge = [weights_sha256(path) for path in _judging_folders(recipe)]
        judge += [file_sha256(recipe.evaluate.watermark)] if recipe.evaluate.watermark else []
        judge += [image_table_stamp(recipe, each) for each in recipe.evaluate.sets if each.images is not None]
        code = source_fingerprint(
            "pipelines.evaluation", "pipelines.clip_features", "pipelines.media", "modeling"
        )
        upstream = fingerprint(upstream, recipe.evaluate, recipe.seed, recipe.tracking, judge, code)
        folder = layout.evaluation("final")
        yield Step("evaluate", evaluate, upstream, folder, (folder,))


def current_record(step: Step) -> Summary | None:
    """The step's record when its fingerprint is today's and every file is there in full; None otherwise."""
    if not step.record.is_file():
        return None
    record: Summary = json.loads(step.record.read_text())
    if record["fingerprint"] != step.fingerprint:
        return None
    return record if record["files"].items() <= _files(step).items() else None


def _do(step: Step, recipe: Recipe, **options: bool) -> Summary:
    _say(f"{step.name}: starts")
    if step.check is not None:
        step.check(recipe)  # a refusal leaves the record of what is there
    step.record.unlink(missing_ok=True)
    started = time.monotonic()
    summary = step.work(recipe, **options)
    record = {
        "step": step.name,
        "fingerprint": step.fingerprint,
        "seconds": round(time.monotonic() - started, 1),
        "summary": summary,
        "files": _files(step),
    }
    write_json(step.record, record, default=str)
    _say(f"{step.name}: done in {record['seconds']:.0f} s")
    return record


def _files(step: Step) -> dict[str, int]:
    """Bytes of the files that a step made, by their path in its folder."""
    return {
        path.relative_to(step.folder).as_posix(): size
        for output in step.outputs
        for name, size in sorted(file_sizes(output).items())
        if (path := output / name) != step.record
    }


def _summary(recipe: Recipe, layout: RunLayout, records: dict[str, Summary]) -> Summary:
    evaluated = records.get("evaluate", {}).get("summary", {})
    last_stage = recipe.train.stages[-1].name if recipe.train else None
    return {
        "name": recipe.name,
        "fingerprint": recipe_fingerprint(recipe),
        "metrics": evaluated.get("metrics", {}),
        "seconds": {name: record["seconds"] for name, record in records.items()},
        "paths": {
            "run_directory": str(layout.root),
            "recipe": str(layout.recipe),
            "clips": str(layout.clips),
            "model": str(layout.model(last_stage)) if last_stage else None,
            **evaluated.get("paths", {}),
            "tracking": tracking_uri(recipe),
        },
        "steps": {name: record["summary"] for name, record in records.items()},
    }


# ---------------------------------------------------------------- what a run is


def write_recipe(recipe: Recipe, layout: RunLayout) -> None:
    """recipe.yaml: the recipe as resolved. It can be run again as it is."""
    settings = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    write_text(layout.recipe, f"# fingerprint: {recipe_fingerprint(recipe)}\n{settings}")


def _judging_folders(recipe: Recipe) -> list[str]:
    """Networks that videos are judged through, but for those whose hash the recipe pins."""
    videomae = recipe.evaluate.networks.videomae if recipe.evaluate else None
    return [path for path in (recipe.models.video_classifier, videomae) if path is not None]


@contextmanager
def exclusive(run_directory: Path) -> Iterator[None]:
    """Hold a run directory for this process; the lock goes with the process, however it ends."""
    with ExitStack() as held:
        try:
            held.enter_context(hold(run_directory / ".lock"))
        except HeldError as error:
            raise WorkflowError(
                f"{error.owner} is at work in {run_directory}; wait for it, "
                "or choose another folder with run_directory=FOLDER"
            ) from None
        yield


def _say(text: str) -> None:
    stderr_console().print(text, markup=False, highlight=False)
