"""`dreamer study`: people say which of two runs' videos are better."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.run import mlflow_command
from jobs.shell import Debug, Json, Rows, Summary, execute

HOST, PORT = "127.0.0.1", 8765


def study(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Evaluated run directories, two or more; or a study's folder."),
    ],
    raters: Annotated[
        int, typer.Option("--raters", min=1, help="Links, one a rater; those there are stay the same.")
    ] = 1,
    results: Annotated[bool, typer.Option("--results", help="Count the votes; serve nothing.")] = False,
    serve: Annotated[bool, typer.Option(help="Serve the page, or only make the study and its links.")] = True,
    evaluation: Annotated[
        str | None,
        typer.Option("--evaluation", metavar="NAME", help="Videos of evaluate/NAME; default: final."),
    ] = None,
    set_: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="Of one evaluation set; default: of all.")
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option("--pairs", min=1, help="Pairs that each rater sees; default: 40, or all if fewer."),
    ] = None,
    with_real: Annotated[
        bool | None, typer.Option("--with-real", help="Real videos of the first run take part too.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Chooses clips, orders and sides.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The study's folder; default: study/OTHERS in the first run."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve at; 0.0.0.0: all.")] = HOST,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = PORT,
    url: Annotated[
        str | None,
        typer.Option("--url", help="What links begin with, where raters reach the server by another name."),
    ] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Show people pairs of videos side by side, and count which run they find better.

    Raters see two videos of the same description, without names, in random order and on random sides, and
    compare visual quality, motion quality, prompt following and temporal consistency. Each has a link of
    their own, opens it in any browser, on a phone too, and can stop and go on at any time.

    \b
    dreamer study runs/mine runs/other --raters 5           five links; serves until Ctrl-C
    dreamer study runs/mine runs/other                      serves it again; links and votes stay
    dreamer study runs/mine runs/other --results            the table, results.csv, votes.csv, MLflow
    dreamer study runs/a runs/b runs/c --pairs 60           every two of three runs, equally often
    dreamer study runs/mine --with-real --set held_out      against the real videos
    dreamer study runs/mine runs/other --host 0.0.0.0       for raters on other machines
    dreamer study runs/mine/study/other --results --json    by the study's folder

    Videos, pairs and seed are fixed when a study is made, in its study.json; votes are in study.sqlite.
    """
    asked = {
        "evaluation": evaluation,
        "set": set_,
        "pairs": pairs,
        "with_real": with_real,
        "seed": seed,
    }
    given = {name: value for name, value in asked.items() if value is not None}

    def work() -> Summary:
        if results:
            return count(runs, out, given)
        return collect(runs, out, given, raters=raters, host=host, port=port, url=url, serving=serve)

    execute("Study", work, result_rows if results else study_rows, json_output=json_output, debug=debug)


def count(runs: list[Path], out: Path | None, given: dict[str, Any]) -> Summary:
    """The results of a study that is there."""
    from pipelines.study.plan import open_study
    from pipelines.study.results import write_results

    return write_results(*open_study(runs, out, given, make=False))


def collect(
    runs: list[Path],
    out: Path | None,
    given: dict[str, Any],
    *,
    raters: int,
    host: str,
    port: int,
    url: str | None,
    serving: bool,
) -> Summary:
    """Make or open a study and its links, serve it if asked to, and say what it holds then."""
    from pipelines.study.plan import check_videos, open_study, votes_file
    from pipelines.study.server import base_address, bind, serve
    from pipelines.study.votes import VoteStore

    folder, found = open_study(runs, out, given)
    check_videos(found)
    listening = bind(host, port) if serving else None
    if listening is not None:
        port = listening.getsockname()[1]
    store = VoteStore(votes_file(folder))
    base = base_address(host, port, url)
    links = [f"{base}/{token}" for token in store.ensure_raters(raters)]
    if listening is not None:
        serve(found, store, listening, links)
    return {
        "study": str(folder),
        "runs": [contestant.name for contestant in found.contestants],
        "pairs": len(found.pairs),
        "links": links,
        "votes": len(store.votes()),
    }


def study_rows(summary: Summary) -> Rows:
    yield "study", summary["study"]
    yield "runs", " against ".join(summary["runs"])
    yield "pairs a rater", summary["pairs"]
    yield "votes", summary["votes"]
    for number, link in enumerate(summary["links"], 1):
        yield f"rater {number}", link


def result_rows(summary: Summary) -> Rows:
    for question, told in summary["questions"].items():
        yield question.replace("_", " "), f"{told['votes']:,} votes, {_agreement(told)}"
        for run, standing in told["standings"].items():
            won = f"{standing['wins']} won, {standing['ties']} about the same, {standing['losses']} lost"
            rate, strength = _estimate(standing["win_rate"]), _estimate(standing["strength"], "+.2f")
            yield f"  {run}", f"win rate {rate}, strength {strength}; {won}"
    raters = summary["raters"]
    yield "raters", f"{raters['voted']} of {raters['invited']} voted, {raters['finished']} finished"
    yield "how", summary["protocol"]
    yield from summary["paths"].items()
    if "uri" in summary["tracking"]:
        yield "in MLflow", mlflow_command(summary["tracking"]["uri"])


def _estimate(estimate: dict[str, Any], form: str = ".2f") -> str:
    """`0.64 (0.55 to 0.72)`."""
    if estimate["interval"] is None:
        return f"{estimate['value']:{form}} (no interval: all votes are alike)"
    low, high = estimate["interval"]
    return f"{estimate['value']:{form}} ({low:{form}} to {high:{form}})"


def _agreement(told: dict[str, Any]) -> str:
    if told["agreement"] is None:
        return "no pair judged by two raters yet"
    alpha = "" if told["alpha"] is None else f", Krippendorff's alpha {told['alpha']:.2f}"
    return f"raters agree in {told['agreement']:.2f}{alpha}"
