"""`dreamer`: one subcommand per thing that can be asked for."""

from collections.abc import Callable

import typer

from jobs.ablate import ablate
from jobs.benchmark import benchmark
from jobs.curate import curate
from jobs.demo import demo
from jobs.embedded import models, sprites
from jobs.evaluate import evaluate
from jobs.generate import generate
from jobs.plan import plan
from jobs.report import report
from jobs.run import run
from jobs.runs import runs
from jobs.study import study
from jobs.train import train

HELP = """
Train a video generator from limited, low-quality video, and measure it.

\b
  dreamer demo                              the whole walk on generated data, on a laptop
  dreamer run stock data.table=videos.csv   the same on your own videos
  dreamer generate "A red star over grass" --motion "It slides to the left"

A recipe is a YAML file. Any setting of it can be given on the command line as section.key=value.
Each command says more with --help.
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
embedded = typer.Typer(
    help="Generated videos, and tiny models trained on them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    demo,
    plan,
    run,
    curate,
    train,
    evaluate,
    generate,
    ablate,
    study,
    report,
)
for command in COMMANDS:
    app.command()(command)
embedded.command()(sprites)
embedded.command()(models)
app.add_typer(embedded, name="embedded")
app.add_typer(benchmark, name="benchmark")
app.add_typer(runs, name="runs")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
