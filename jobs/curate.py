"""`dreamer curate`: source table to clip table and shards."""

from typing import Annotated

import typer

from jobs.shell import Debug, Json, Overrides, RecipeName, Rows, Summary, execute
from jobs.submittable import submittable


@submittable
def curate(
    recipe: RecipeName,
    overrides: Overrides = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N sources (data.limit).")
    ] = None,
    exclude_sources: Annotated[
        str | None,
        typer.Option(
            "--exclude-sources",
            metavar="FILE",
            help="Take down the sources whose ids it lists, one a line: from clips and shards, for good "
            "(data.exclude_sources).",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try sources again that failed or were quarantined.")
    ] = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Turn a table of videos into training clips.

    Sources that cannot be read are listed with the reason at the end; they do not stop the rest.

    \b
    dreamer curate stock data.table=videos.csv run_directory=runs/mine --limit 20
    dreamer curate stock source=webvid data.table=results_10M_train.csv run_directory=runs/webvid
    dreamer curate stock data.table=videos.csv run_directory=runs/mine --exclude-sources removed.txt
    dreamer curate stock data.table=videos/ run_directory=runs/mine curation.filters.max_text_area=null
    """
    settings = [*(overrides or ()), *([f"data.limit={limit}"] if limit else ())]
    settings += [f"data.exclude_sources={exclude_sources}"] if exclude_sources else []

    def work() -> Summary:
        from pipelines.recipe_file import load_recipe
        from pipelines.workflow import run_recipe

        options = {"retry_failed": True} if retry_failed else {}
        return run_recipe(load_recipe(recipe, tuple(settings)), ("curate",), **options)["steps"]["curate"]

    execute("Curation", work, curation_rows, json_output=json_output, debug=debug)


def curation_rows(summary: Summary) -> Rows:
    """The books: sources on top, what became of them below, and the first that could not be read."""
    for name in ("sources", "kept", "filtered", "failed", "quarantined", "clips"):
        if name in summary:
            yield name, summary[name]
    for reason, count in sorted(summary.get("reasons", {}).items(), key=lambda item: -item[1]):
        yield f"  {reason}", count
    for source, reason in summary.get("unreadable", ()):
        yield f"  {source}", reason
    if "captions_asked" in summary:
        yield "captions split by the model", summary["captions_asked"]
    for reason, count in summary.get("captions_refused", {}).items():
        yield f"  {reason}, left to the rules", count
    for bucket, count in summary.get("buckets", {}).items():
        yield f"bucket {bucket}", count
