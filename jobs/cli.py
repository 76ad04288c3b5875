"""`dreamer`: one subcommand per thing that can be asked for."""

import json
import sys
from collections.abc import Callable
from typing import Any

import typer

from jobs.ablate import ablate
from jobs.benchmark import benchmark
from jobs.curate import curate
from jobs.demo import demo
from jobs.embedded import models, sprites
from jobs.evalcrafter import evalcrafter
from jobs.evaluate import evaluate
from jobs.generate import generate
from jobs.jobs import jobs
from jobs.plan import plan
from jobs.report import report
from jobs.run import run
from jobs.runs import runs
from jobs.shell import INTERRUPTED
from jobs.study import study
from jobs.train import train
from jobs.ucf101 import ucf101

HELP = """
Train a video generator from limited, low-quality video, and measure it.

\b
  dreamer demo                              the whole walk on generated data, on a laptop
  dreamer run stock data.table=videos.csv   the same on your own videos
  dreamer generate "A red star over grass" --motion "It slides to the left"

A recipe is a YAML file. Any setting of it can be given on the command line as section.key=value.
Each command says more with --help. With --submit ADDRESS a command runs on a Ray cluster.
"""
WITHOUT_SUBMIT = (
    "All commands but two have it, behind their name: `jobs` asks a cluster itself, and `study` serves its "
    "page from where it runs, to raters who must reach it"
)

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
    ucf101,
)
for command in COMMANDS:
    app.command()(command)
embedded.command()(sprites)
embedded.command()(models)
app.add_typer(embedded, name="embedded")
app.add_typer(benchmark, name="benchmark")
app.add_typer(evalcrafter, name="evalcrafter")
app.add_typer(runs, name="runs")
app.add_typer(jobs, name="jobs")


# Typer has Click's errors under names that differ from version to version; this is the public way to them.
WrongUsage: Any = typer.BadParameter.__base__


def main() -> None:
    """Run the command line. Wrong usage is said on stderr and, with --json, as an object on stdout too."""
    command = typer.main.get_command(app)
    try:
        sys.exit(command.main(standalone_mode=False))
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except WrongUsage as error:
        if getattr(error, "option_name", None) == "--submit":
            error.message += f". {WITHOUT_SUBMIT}"
        error.show()
        if "--json" in sys.argv:
            print(json.dumps({"error": error.format_message(), "exit_code": error.exit_code}))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
