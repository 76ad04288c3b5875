"""`dreamer ablate`: what each design adds, measured."""

import sys
from typing import Annotated

import typer

from jobs.shell import Debug, Json, Overrides, RecipeName, Rows, Summary, execute
from jobs.submittable import submittable


@submittable
def ablate(
    recipe: RecipeName,
    overrides: Overrides = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Seeds of each arm; default: ablate.seeds.")
    ] = None,
    arms: Annotated[
        str | None, typer.Option("--arms", metavar="A,B", help="Some of the recipe's arms; default: all.")
    ] = None,
    parallel: Annotated[int, typer.Option("--parallel", min=1, help="Runs at a time.")] = 1,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Train and evaluate a recipe with one design changed at a time.

    Every arm of the recipe's section `ablate` and the recipe as it is, with each seed: same data, same
    budget, same held-out clips. The table shows the mean over seeds, and the difference to the recipe as it
    is with its 95 % interval, paired by seed. The same command goes on where it stopped.

    \b
    dreamer ablate ablation --seeds 3 --parallel 2
    dreamer ablate ablation --arms no_paca,no_adapter
    dreamer report runs/ablation
    """

    def work() -> Summary:
        from pipelines.ablation.run import ablate as run_ablation
        from pipelines.recipe_file import load_recipe

        return run_ablation(
            load_recipe(recipe, tuple(overrides or ())),
            command=(sys.executable, "-m", "jobs.cli", "run"),
            seeds=seeds,
            arms=tuple(name.strip() for name in (arms or "").split(",") if name.strip()),
            parallel=parallel,
        )

    execute("Ablation", work, ablation_rows, json_output=json_output, debug=debug)


def ablation_rows(summary: Summary) -> Rows:
    """A block for each metric: a line an arm, its mean and spread, and the paired difference."""
    for metric in summary["metrics"]:
        name = metric["name"]
        yield (
            name,
            f"mean ± deviation over seeds ({metric['better']} is better); difference to the first line",
        )
        for arm in summary["arms"]:
            yield f"  {arm['name']}", _line(arm["results"].get(name))
    yield "seeds", ", ".join(map(str, summary["seeds"]))
    yield "table", summary["paths"]["ablation"]


def _line(result: Summary | None) -> str:
    if result is None:
        return "not measured"
    text = f"{result['mean']:.4g}"
    if result["deviation"] is not None:
        text += f" ± {result['deviation']:.2g}"
    if "difference" in result:
        text += f"   {result['difference']:+.3g} ({result['low']:+.3g} to {result['high']:+.3g})"
    return text
