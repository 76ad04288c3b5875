"""`dreamer train`: shards to a model, stage by stage."""

from typing import Annotated

import typer

from jobs.shell import Debug, Json, Overrides, RecipeName, Rows, Summary, duration, execute
from jobs.submittable import submittable


@submittable
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    limit_steps: Annotated[
        int | None,
        typer.Option("--limit-steps", min=1, help="A trial: N steps of every stage, in a folder of its own."),
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Train the stages of a recipe on its clips.

    Goes on from the last checkpoint; finished stages are not trained again. The model of the last stage
    becomes a version of the recipe's name in MLflow's registry, for mlflow.pyfunc.load_model.

    \b
    dreamer train stock data.table=videos.csv run_directory=runs/mine
    dreamer train stock data.table=videos.csv run_directory=runs/mine --limit-steps 20
    dreamer train runs/mine/recipe.yaml train.zero_stage=3 train.workers=4
    """

    def work() -> Summary:
        from pipelines.recipe_file import load_recipe
        from pipelines.workflow import prepared, run_recipe

        settings = load_recipe(recipe, tuple(overrides or ()))
        if limit_steps is None:
            return run_recipe(settings, ("train",))["steps"]["train"]
        from pipelines.training.run import train as train_stages

        with prepared(settings, ("train",)):
            return train_stages(settings, limit_steps=limit_steps)

    execute("Training", work, training_rows, json_output=json_output, debug=debug)


def training_rows(summary: Summary) -> Rows:
    """A line a stage: how far the loss came, on how many clips, how fast."""
    for name, stage in summary["stages"].items():
        clips = sum(stage["clips"].values())
        yield (
            name,
            f"{stage['steps']} steps on {clips} clips, loss {stage['loss_first']:.4f} to "
            f"{stage['loss_mean_of_last_50']:.4f}, {stage['samples_per_second']:.1f} clips/s, "
            f"{duration(stage['seconds'])}",
        )
    if (seconds := summary["seconds_to_first_step"]) is not None:
        yield "first step", f"{seconds:.1f} s after the start"
    yield "model", summary["model"]
    if (registered := summary.get("registered")) is not None:
        yield "in MLflow", f"models:/{registered['name']}/{registered['version']}"
