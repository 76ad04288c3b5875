"""`dreamer runs`: the runs on this disk, and what they can do without."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.shell import Debug, Json, Rows, RunFolder, Summary, execute
from jobs.submittable import submittable
from pipelines.storage import storage_path

SHOWN_PATHS = 8

runs = typer.Typer(
    help="The runs on this disk: how far they are, and what they can do without.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@runs.command("list")
@submittable
def list_(
    folder: Annotated[
        Path,
        typer.Argument(metavar="[FOLDER]", parser=storage_path, help="Where the runs are, or one of them."),
    ] = Path("runs"),
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Recipe, curated clips, steps of each stage, evaluations, size and last change of every run.

    \b
    dreamer runs list
    dreamer runs list /data/runs --json
    """

    def work() -> Summary:
        from pipelines.run_list import list_runs

        return {"folder": str(folder), "runs": [state.as_dict() for state in list_runs(folder)]}

    execute("Runs", work, list_rows, json_output=json_output, debug=debug)


def list_rows(summary: Summary) -> Rows:
    for run in summary["runs"]:
        yield run["run"], "; ".join(_told(run))
    if not summary["runs"]:
        yield summary["folder"], "no run in it"


def _told(run: dict[str, Any]) -> Iterator[str]:
    yield run["recipe"]
    yield "not curated" if run["clips"] is None else f"{run['clips']:,} clips"
    for stage in run["stages"]:
        # A stage whose model is not there yet may have done all its steps.
        end = "" if stage["finished"] or stage["steps"] < stage["of"] else ", model missing"
        yield f"{stage['name']} {stage['steps']:,} of {stage['of']:,} steps{end}"
    if run["evaluated"]:
        yield f"evaluated: {', '.join(run['evaluated'])}"
    yield size(run["bytes"])
    yield f"changed {age(time.time() - run['changed'])} ago"


@runs.command()
@submittable
def clean(
    run: RunFolder,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Delete what a run can make again or has superseded; shows it first and asks.

    What goes:

    \b
    old shards           of other settings, which no manifest knows
    old scores           of other settings, for units that have those of today's
    old caption splits   by another language model
    checkpoints          of finished stages, all but the last: more steps go on from that one
    trials               train/first-N-steps, what `dreamer train --limit-steps` left, models and all
    unfinished files     what a killed command was writing
    unfinished uploads   parts of what a killed command was sending to a bucket, a day ago or longer

    Everything else stays: models, metrics, logs, samples, videos, current shards, the clip table, MLflow.
    Going back to the other settings computes their shards and scores again. A run that a command works on is
    refused: both hold the lock RUN/.lock, on one machine or on a shared file system that knows locks.

    \b
    dreamer runs clean runs/mine
    dreamer runs clean runs/mine --yes --json
    """

    def work() -> Summary:
        from pipelines.run_clean import CleaningError, find_removals, freed_bytes, remove
        from pipelines.workflow import exclusive

        if not run.is_dir():
            raise CleaningError(f"no folder {run}: name a run directory, such as runs/demo")
        find_removals(run)  # a folder that is no run gets no lock either
        with exclusive(run):
            removals = find_removals(run)
            freed = freed_bytes(removals)
            found = {
                "run": str(run),
                "bytes": sum(freed.values()),
                "kinds": freed,
                "paths": [str(removal.path.relative_to(run)) for removal in removals],
            }
            agreed = bool(removals) and (yes or _asked(found))
            if agreed:
                remove(run, removals)
        return found | {"deleted": agreed}

    execute("Cleaning", work, clean_rows, json_output=json_output, debug=debug)


def clean_rows(summary: Summary) -> Rows:
    yield from _kind_rows(summary)
    if not summary["paths"]:
        yield summary["run"], "nothing to delete"
    elif summary["deleted"]:
        yield "deleted", f"{len(summary['paths'])} files and folders, {size(summary['bytes'])}"
    else:
        yield "nothing was deleted", "answer y when asked, or give --yes"


def _kind_rows(found: Summary) -> Rows:
    for kind, count in found["kinds"].items():
        yield kind, size(count)
    for path in found["paths"][:SHOWN_PATHS]:
        yield "", path
    if (more := len(found["paths"]) - SHOWN_PATHS) > 0:
        yield "", f"and {more} more"


def _asked(found: Summary) -> bool:
    """Show what would go and ask a person, if one is there."""
    if not sys.stdin.isatty():
        return False
    for kind, text in _kind_rows(found):
        typer.echo(f"{kind:20} {text}", err=True)
    return typer.confirm(f"Delete {size(found['bytes'])} from {found['run']}?", err=True)


def size(count: float) -> str:
    """`12.3 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def age(seconds: float) -> str:
    """`3 minutes`, `2 days`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := int(seconds // length)) > 0:
            return f"{count} {unit}{'s' * (count > 1)}"
    return "a moment"
