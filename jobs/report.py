"""`dreamer report`: one page about a data set or a run."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.shell import Debug, Json, Rows, Summary, execute
from jobs.submittable import submittable
from pipelines.storage import storage_path


@submittable
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", parser=storage_path, help="A run directory that was curated.")
    ],
    other: Annotated[
        Path | None,
        typer.Option(
            "--with", metavar="OTHER_RUN", parser=storage_path, help="Another run directory to compare with."
        ),
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Write RUN/report.html, one page that needs no network and no file beside it.

    It shows what became of every source and clip and why, the scores with their thresholds, frames of kept
    and dropped clips, captions, buckets, failures, time and memory; and what training, evaluation and
    ablation left: curves, noise schedules, videos, metrics with their intervals.

    With a second run it writes RUN/report-with-OTHER_RUN.html instead: what differs in the recipes, curation,
    losses over each other, metrics with paired differences, and the same clips' videos side by side.

    \b
    dreamer report runs/demo
    dreamer report runs/mine --json
    dreamer report runs/mine --with runs/demo
    """

    def work() -> Summary:
        if other is not None:
            from pipelines.report.comparison import write_comparison

            return write_comparison(run, other)
        from pipelines.report.page import write_report

        return write_report(run)

    rows = report_rows if other is None else comparison_rows
    execute("Report", work, rows, json_output=json_output, debug=debug)


def report_rows(summary: Summary) -> Rows:
    for name in ("sources", "clips", "kept", "in_shards"):
        yield name.replace("_", " "), summary[name]
    if summary["pictures_unreadable"]:
        yield "clips without a picture", f"{summary['pictures_unreadable']} (their sources are gone)"
    yield "size", f"{summary['bytes'] / 1e6:.1f} MB"
    yield "page", summary["report"]


def comparison_rows(summary: Summary) -> Rows:
    yield from zip("AB", summary["runs"], strict=True)
    yield "settings that differ", summary["settings_that_differ"]
    yield "metrics", f"{summary['metrics']}, {summary['metrics_paired']} of them paired by clip"
    yield "clearly different", summary["metrics_that_differ"]
    yield "clips side by side", summary["clips_side_by_side"]
    yield "size", f"{summary['bytes'] / 1e6:.1f} MB"
    yield "page", summary["report"]
