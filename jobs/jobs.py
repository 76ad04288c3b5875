"""`dreamer jobs`: what was submitted to a cluster."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from jobs.shell import Debug, Json, Rows, Summary, duration, execute

ADDRESS = "http://127.0.0.1:8265"
OTHERS_CHARACTERS = 60  # of the shell command of a job that dreamer did not submit

jobs = typer.Typer(
    help="Jobs of a Ray cluster: those that --submit sent there, and others.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Address = Annotated[
    str,
    typer.Option(
        "--address", metavar="ADDRESS", envvar="RAY_ADDRESS", help="The head's dashboard, as for --submit."
    ),
]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, as --submit and `dreamer jobs list` say it.")
]


@jobs.command("list")
def list_(address: Address = ADDRESS, json_output: Json = False, debug: Debug = False) -> None:
    """Command, recipe, status, start and duration of every job, the newest first.

    \b
    dreamer jobs list
    dreamer jobs list --address http://127.0.0.1:8265 --json
    """

    def work() -> Summary:
        from jobs.ray_jobs import connect

        found = sorted(connect(address).list_jobs(), key=lambda job: -(job.start_time or 0))
        return {"address": address, "jobs": [described(job) for job in found]}

    execute("Jobs", work, list_rows, json_output=json_output, debug=debug)


def list_rows(summary: Summary) -> Rows:
    for job in summary["jobs"]:
        yield job["job_id"], "; ".join(_told(job))
    if not summary["jobs"]:
        yield summary["address"], "no job was submitted"


def described(job: Any) -> dict[str, Any]:
    """Ray's JobDetails as plain data; `recipe` and `command` of a job that dreamer submitted."""
    own = (job.metadata or {}) if "jobs.cli" in job.entrypoint else {}
    ended = job.end_time / 1000 if job.end_time else None
    started = job.start_time / 1000 if job.start_time else None
    return {
        "job_id": job.submission_id or job.job_id,
        "command": f"dreamer {own['command']}" if "command" in own else None,
        "recipe": own.get("recipe"),
        "status": job.status.value,
        "entrypoint": job.entrypoint,
        "started": started,
        "seconds": None if started is None else round((ended or time.time()) - started, 1),
    }


def _told(job: dict[str, Any]) -> Iterator[str]:
    yield job["command"] or f"not dreamer's: {job['entrypoint'][:OTHERS_CHARACTERS]}"
    if job["recipe"]:
        yield f"recipe {job['recipe']}"
    yield job["status"]
    if job["started"] is not None:
        yield f"started {datetime.fromtimestamp(job['started']):%Y-%m-%d %H:%M}"
        yield duration(job["seconds"])


@jobs.command()
def logs(
    job: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job ends, with its exit code, as --submit does.")
    ] = False,
    address: Address = ADDRESS,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Show a job's log, on stdout; with --follow as it comes, on stderr.

    \b
    dreamer jobs logs raysubmit_2vjmLc5BNA4cbjDX
    dreamer jobs logs raysubmit_2vjmLc5BNA4cbjDX --follow
    """

    def work() -> Summary:
        from jobs.ray_jobs import connect, details, follow_to_the_end

        client = connect(address)
        found = details(client, job)
        if follow:
            return {"job_id": job, **follow_to_the_end(client, address, job)}
        return {"job_id": job, "status": found.status.value, "log": client.get_job_logs(job)}

    def rows(summary: Summary) -> Rows | str:
        return summary["log"] if not follow else [("job", job), ("status", "SUCCEEDED")]

    execute("Job", work, rows, json_output=json_output, debug=debug)


@jobs.command()
def stop(job: JobId, address: Address = ADDRESS, json_output: Json = False, debug: Debug = False) -> None:
    """End a job, and wait until it has ended.

    Files that are written are whole or not there: the job gets a minute to end by itself before it is killed,
    and either way its next start goes on from what was reported as done.

    \b
    dreamer jobs stop raysubmit_2vjmLc5BNA4cbjDX
    """

    def work() -> Summary:
        from jobs.ray_jobs import connect
        from jobs.ray_jobs import stop as stop_job

        return described(stop_job(connect(address), job))

    execute("Stopped", work, stop_rows, json_output=json_output, debug=debug)


def stop_rows(summary: Summary) -> Rows:
    yield summary["job_id"], "; ".join(_told(summary))
    if summary["status"] != "STOPPED":
        yield "", "it had ended before"
    elif summary["command"]:
        yield "kept", "all that was reported done: curated units, checkpoints and drawn videos on the cluster"
        yield "to go on", f"submit the same command again: {summary['command']}"
