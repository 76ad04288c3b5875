"""`dreamer run`: the whole workflow of a recipe."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from jobs.shell import Debug, Json, Overrides, RecipeName, Rows, Summary, duration, execute
from jobs.submittable import submittable

VARIANTS = ("ground_truth", "untrained")


@submittable
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Curate, train and evaluate as a recipe says.

    What is whole and current is skipped, so the same command goes on where it was stopped.

    \b
    dreamer run stock data.table=videos.csv run_directory=runs/mine
    dreamer run stock data.table=videos/ run_directory=runs/look data.limit=20
    dreamer run runs/mine/recipe.yaml train.workers=2
    dreamer run stock data.table=/data/videos.csv run_directory=/data/mine --submit http://127.0.0.1:8265
    """

    def work() -> Summary:
        from pipelines.recipe_file import load_recipe
        from pipelines.workflow import run_recipe

        return run_recipe(load_recipe(recipe, tuple(overrides or ())))

    execute("Run", work, run_rows, json_output=json_output, debug=debug)


def run_rows(summary: Summary) -> Rows:
    """Metrics first, then where things are and how long they took."""
    yield from metric_rows(summary["metrics"])
    if "curate" in summary["steps"]:
        yield "sources", books(summary["steps"]["curate"])
    paths = summary["paths"]
    yield "run directory", paths["run_directory"]
    if paths["model"]:
        yield "model", paths["model"]
    yield from picture_rows(paths, paths["tracking"])
    yield "took", ", ".join(f"{step} {duration(seconds)}" for step, seconds in summary["seconds"].items())


def books(curated: Summary) -> str:
    """`16: 12 kept, 2 filtered, 2 failed`."""
    from pipelines.curation.verdicts import VERDICTS

    ended = (f"{curated[verdict]} {verdict}" for verdict in VERDICTS if curated[verdict])
    return f"{curated['sources']}: {', '.join(ended)}"


def metric_rows(metrics: dict[str, float | int]) -> Rows:
    """One row a metric and set: the model's value and interval, then ground truth and untrained model."""
    values: dict[str, dict[str, str]] = {}
    for name, value in metrics.items():
        whole, _, bound = name.rpartition("_")
        if bound in ("low", "high") and whole in metrics:
            continue
        variant = next((variant for variant in VARIANTS if f"_{variant}" in name), "")
        row = name.replace(f"_{variant}", "", 1) if variant else name
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
        label = f"{variant.replace('_', ' ')} " if variant else ""
        values.setdefault(row, {})[variant] = f"{label}{value:.4g}{interval}"
    for row, by_variant in values.items():
        yield row, ", ".join(by_variant[variant] for variant in ("", *VARIANTS) if variant in by_variant)


def picture_rows(paths: dict[str, Any], tracking: str) -> Rows:
    """Where the drawn videos are, and how to look at all of it."""
    for name, path in (("contact sheet", "grid.png"), ("all in one video", "grid.mp4"), ("videos", "videos")):
        if path in paths:
            yield name, paths[path]
    if "videos" in paths:
        yield "in MLflow", mlflow_command(tracking)


def mlflow_command(uri: str) -> str:
    """What a person types, or opens, to see the run."""
    if uri.startswith("http"):
        return uri
    mlflow = Path(sys.executable).with_name("mlflow")  # of this environment, active or not
    return shlex.join([os.path.relpath(mlflow), "ui", "--backend-store-uri", uri])
