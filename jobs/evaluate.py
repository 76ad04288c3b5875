"""`dreamer evaluate`: a model's videos and what they measure."""

from typing import Annotated

import typer

from jobs.run import metric_rows, picture_rows
from jobs.shell import Debug, Json, ModelFolder, Overrides, RecipeName, Rows, Summary, execute
from jobs.submittable import submittable

FINAL = "final"


@submittable
def evaluate(
    recipe: RecipeName,
    overrides: Overrides = None,
    model: ModelFolder = None,
    name: Annotated[str, typer.Option("--name", help="Results go to evaluate/NAME.")] = FINAL,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Measure the videos that are there again; draw none.")
    ] = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Draw the held-out clips and measure them.

    Each number is written with its protocol, and logged to MLflow with parameters and videos.

    \b
    dreamer evaluate runs/mine/recipe.yaml
    dreamer evaluate runs/mine/recipe.yaml --recompute
    dreamer evaluate runs/mine/recipe.yaml --model runs/mine/train/low/model --name low
    """

    def work() -> Summary:
        from pipelines.recipe import RecipeError

        if model is not None and name == FINAL:
            raise RecipeError(
                f"evaluate/{FINAL} is the recipe's own last stage: give --model a --name of its own"
            )
        from pipelines.recipe_file import load_recipe
        from pipelines.workflow import prepared, run_recipe

        settings = load_recipe(recipe, tuple(overrides or ()))
        if model is None and name == FINAL and not recompute:
            return run_recipe(settings, ("evaluate",))["steps"]["evaluate"]
        from pipelines.evaluation.run import evaluate as evaluate_model

        with prepared(settings, ("evaluate",)):
            return evaluate_model(settings, model=model, name=name, recompute=recompute)

    execute("Evaluation", work, evaluation_rows, json_output=json_output, debug=debug)


def evaluation_rows(summary: Summary) -> Rows:
    yield from metric_rows(summary["metrics"])
    yield from picture_rows(summary["paths"], summary["tracking"]["uri"])
