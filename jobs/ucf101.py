"""`dreamer ucf101`: zero-shot FVD and IS on UCF101, beside published results."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.run import metric_rows, mlflow_command
from jobs.shell import (
    Debug,
    Json,
    ModelFolder,
    Overrides,
    RecipeName,
    Rows,
    Summary,
    duration,
    execute,
)
from jobs.submittable import submittable
from pipelines.storage import storage_path

SPLITS = ("train", "test", "all")
NAME = "ucf101"


@submittable
def ucf101(
    recipe: RecipeName,
    videos: Annotated[
        Path, typer.Option("--videos", metavar="FOLDER", help="UCF-101, with a folder for each class.")
    ],
    splits: Annotated[
        Path, typer.Option("--splits", metavar="FOLDER", help="ucfTrainTestlist, with UCF101's split files.")
    ],
    overrides: Overrides = None,
    model: ModelFolder = None,
    clips: Annotated[
        int | None,
        typer.Option(
            "--clips",
            min=2,
            help="Videos to draw; default: 10,000 when evaluate.networks.c3d is given, else 2,048.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Real videos: train, test or all.")] = "train",
    number: Annotated[int, typer.Option("--list", min=1, max=3, help="Which of the three splits.")] = 1,
    first_frame: Annotated[
        str,
        typer.Option(
            "--first-frame", help="drawn: from text; real: of a real video, which makes it image to video."
        ),
    ] = "drawn",
    name: Annotated[str, typer.Option("--name", help="Results go to evaluate/NAME.")] = NAME,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Draw videos of UCF101's classes and compare them with real ones.

    FVD (I3D) over 2,048 drawn and 2,048 real clips of 16 frames, IS (C3D of UCF101) over 10,000 drawn ones;
    the networks are the recipe's evaluate.networks. Interrupt whenever you like: what is drawn is kept.

    \b
    dreamer ucf101 runs/mine/recipe.yaml --videos UCF-101 --splits ucfTrainTestlist \\
        evaluate.networks.i3d.file=i3d_torchscript.pt evaluate.networks.i3d.sha256=HASH
    dreamer ucf101 runs/mine/recipe.yaml --videos UCF-101 --splits ucfTrainTestlist --clips 256 \\
        evaluate.allow_few_clips=true
    dreamer ucf101 runs/mine/recipe.yaml --videos UCF-101 --splits ucfTrainTestlist \\
        --first-frame real --clips 2048 --name ucf101_i2v
    """
    if split not in SPLITS:
        raise typer.BadParameter(f"--split is one of {', '.join(SPLITS)}, not {split!r}")
    if first_frame not in ("drawn", "real"):
        raise typer.BadParameter(f"--first-frame is drawn or real, not {first_frame!r}")

    def work() -> Summary:
        from pipelines.recipe_file import load_recipe

        settings = load_recipe(recipe, tuple(overrides or ()))
        from pipelines.evaluation.ucf101 import Ucf101Settings, evaluate_ucf101
        from pipelines.workflow import exclusive

        wanted = Ucf101Settings(videos, splits, split, number, clips, first_frame == "real")  # type: ignore[arg-type]
        with exclusive(storage_path(settings.run_directory)):
            return evaluate_ucf101(settings, wanted, model=model, name=name)

    execute("UCF101", work, ucf101_rows, json_output=json_output, debug=debug)


def ucf101_rows(summary: Summary) -> Rows:
    """Ours, how it was measured, then each published result with what it was measured otherwise."""
    yield from metric_rows(summary["metrics"])
    for name, value in summary["protocol"].items():
        if value is not None:
            yield f"  {name.replace('_', ' ').replace('fvd', 'FVD').replace('is clips', 'IS clips')}", value
    if summary["left_out"]:
        yield "left out", f"{summary['left_out']} real videos, too short or unreadable: see metrics.json"
    yield "", ""
    for row in summary["published"]:
        yield row["model"], _published(row)
    yield "", ""
    for name, path in summary["paths"].items():
        yield name, path
    yield "in MLflow", mlflow_command(summary["tracking"]["uri"])
    yield "took", duration(summary["seconds"])


def _published(row: dict[str, Any]) -> str:
    numbers = f"FVD {_number(row['fvd'])}, IS {_number(row['inception_score'])}"
    marks = []
    if row["differences"]["differ"]:
        marks.append("differs: " + ", ".join(row["differences"]["differ"]))
    if row["differences"]["unknown"]:
        marks.append("not known: " + ", ".join(row["differences"]["unknown"]))
    return (
        f"{numbers}; {'; '.join(marks) or 'same protocol as far as it is stated'}; "
        f"trained on {row['training_data']}; {row['source']}"
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
