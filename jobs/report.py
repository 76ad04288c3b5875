"""`dreamer report`: one page about a data set or a run."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.shell import Debug, Json, Rows, Summary, execute


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that was curated.")],
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Write RUN/report.html, one page that needs no network and no file beside it.

    It shows what became of every source and clip and why, the scores with their thresholds, frames of kept
    and dropped clips, captions, buckets, failures, time and memory; and what training and evaluation left.

    \b
    dreamer report runs/demo
    dreamer report runs/mine --json
    """

    def work() -> Summary:
        from pipelines.report.page import write_report

        return write_report(run)

    execute("Report", work, report_rows, json_output=json_output, debug=debug)


def report_rows(summary: Summary) -> Rows:
    for name in ("sources", "clips", "kept", "in_shards"):
        yield name.replace("_", " "), summary[name]
    if summary["pictures_unreadable"]:
        yield "clips without a picture", f"{summary['pictures_unreadable']} (their sources are gone)"
    yield "size", f"{summary['bytes'] / 1e6:.1f} MB"
    yield "page", summary["report"]
