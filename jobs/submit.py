"""`--submit ADDRESS`: the same command as a Ray job on a cluster."""

import asyncio
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from jobs.shell import Summary
from pipelines.recipe import Recipe, RecipeError, with_absolute_paths
from pipelines.recipe_file import load_recipe

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("jobs", "pipelines", "modeling")
WORKING_TREE_LIMIT_BYTES = 100 * 10**6
SUBMITTED_RECIPE = "submitted-recipe.yaml"
POLL_SECONDS = 0.5
AGENT_START_SECONDS = 120
TOKEN_FILE = Path.home() / ".ray" / "auth_token"
TOKEN_HELP = (
    "Ray's token is taken from RAY_AUTH_TOKEN, from the file that RAY_AUTH_TOKEN_PATH names, or from "
    f"{TOKEN_FILE}; it must be the one that the head was started with."
)


class SubmitError(RuntimeError):
    """A command that could not be handed to a cluster; the message says what to do."""


def submit_command(
    address: str, command: str, recipe: str, overrides: list[str] | None, options: list[str] | None = None
) -> Summary:
    """Run `dreamer COMMAND` on the cluster at `address` (`http://HOST:8265`) and follow it to its end.

    The recipe is resolved here, so that a wrong one is refused before anything is sent; its paths are the
    cluster's. The log goes to stderr. Returns the job's own summary and `job_id`;
    raises SubmittedJobError with the job's exit code.
    """
    settings = load_recipe(recipe, tuple(overrides or ()))
    _refuse_relative_paths(settings)
    arguments = [command, SUBMITTED_RECIPE, *(options or []), "--json"]
    with working_tree(settings) as folder:
        client = _connect(address)
        job_id = _hand_over(
            client,
            entrypoint=shlex.join(["python", "-m", "jobs.cli", *arguments]),
            runtime_env={"working_dir": str(folder)},
            metadata={"recipe": settings.name, "command": command},
        )
    _say(f"job {job_id} on {address}")
    try:
        summary = asyncio.run(_follow(client, job_id))
    except KeyboardInterrupt:
        raise SubmitError(
            f"job {job_id} goes on; `ray job logs --address {address} --follow {job_id}` shows it, "
            f"`ray job stop --address {address} {job_id}` ends it"
        ) from None
    return _result(client, job_id, summary)


def _hand_over(client: Any, **job: Any) -> str:
    """Submit a job; a head that has just started answers before its agent, which takes jobs, is up."""
    deadline = time.monotonic() + AGENT_START_SECONDS
    while True:
        try:
            return client.submit_job(**job)
        except RuntimeError as error:
            # Ray has no type for this one.
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise SubmitError(f"the cluster did not take the job: {error}") from error
            time.sleep(POLL_SECONDS)


@contextmanager
def working_tree(recipe: Recipe) -> Iterator[Path]:
    """A copy of the project without what git ignores, and the resolved recipe, for as long as it is sent."""
    files = project_files()
    size = sum(file.stat().st_size for file in files)
    _say(f"sending {len(files)} files, {size / 1e6:.1f} MB")
    if size > WORKING_TREE_LIMIT_BYTES:
        largest = max(files, key=lambda file: file.stat().st_size)
        raise SubmitError(
            f"the project's tree is {size / 1e6:.0f} MB, more than {WORKING_TREE_LIMIT_BYTES / 1e6:.0f}; "
            f"the largest file is {largest.relative_to(PROJECT)}: move it out or add it to .gitignore"
        )
    with tempfile.TemporaryDirectory(prefix="dreamer-") as temporary:
        folder = Path(temporary)
        for file in files:
            copy = folder / file.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (folder / SUBMITTED_RECIPE).write_text(text, encoding="utf-8")
        yield folder


def project_files() -> list[Path]:
    """Files of the project that git does not ignore; without git, the installed packages."""
    if (PROJECT / ".git").exists() and shutil.which("git"):
        listing = subprocess.run(
            ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True,
            capture_output=True,
        )
        names = listing.stdout.decode().split("\0")
        return sorted(PROJECT / name for name in names if name and (PROJECT / name).is_file())
    found = (file for package in PACKAGES for file in (PROJECT / package).rglob("*") if file.is_file())
    return sorted(file for file in found if "__pycache__" not in file.parts)


def _refuse_relative_paths(recipe: Recipe) -> None:
    anywhere = _paths(with_absolute_paths(recipe))
    relative = {key: path for key, path in _paths(recipe).items() if path != anywhere[key]}
    if relative:
        raise RecipeError(
            "a submitted command runs in a temporary folder of the cluster; these need absolute paths:\n"
            + "\n".join(f"  {key}={path}" for key, path in relative.items())
        )


def _paths(recipe: Recipe) -> dict[str, Any]:
    tree = recipe.model_dump()
    sections = {"data": tree["data"], "models": tree["models"]}
    sections |= {f"curation.{name}": tree["curation"][name] for name in ("shots", "captions")}
    of_sections = {f"{name}.{key}": path for name, keys in sections.items() for key, path in keys.items()}
    return {"run_directory": tree["run_directory"], **of_sections}


def _connect(address: str) -> Any:
    if "RAY_AUTH_MODE" not in os.environ and _has_token():
        os.environ["RAY_AUTH_MODE"] = "token"  # before Ray is imported, which is when it reads this

    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise SubmitError(
            f"the cluster at {address} wants another token: {str(error).splitlines()[0]}\n{TOKEN_HELP}"
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SubmitError(
            f"no Ray dashboard answers at {address}: {error}\n"
            f"Give the address of the head's dashboard, such as http://HOST:8265. {TOKEN_HELP}"
        ) from error


def _has_token() -> bool:
    return (
        any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
        or TOKEN_FILE.is_file()
    )


async def _follow(client: Any, job_id: str) -> Summary:
    """Show the job's log until it ends; returns the summary, the last line of it that is a JSON object.

    Not the last line of all: Ray logs stdout and stderr as one, and libraries print at exit.
    """
    unfinished_line, summary = "", Summary()
    async for text in client.tail_job_logs(job_id):
        *lines, unfinished_line = (unfinished_line + text).split("\n")
        for line in lines:
            summary = _shown(line) or summary
    summary = _shown(unfinished_line) or summary
    while not client.get_job_status(job_id).is_terminal():
        await asyncio.sleep(POLL_SECONDS)
    return summary


def _shown(line: str) -> Summary:
    """A line of the log as a summary, or {} for any other, which is shown."""
    if line.startswith('{"'):
        with suppress(json.JSONDecodeError):
            return json.loads(line)
    if line.strip():
        _say(line)
    return {}


def _result(client: Any, job_id: str, summary: Summary) -> Summary:
    from ray.job_submission import JobStatus

    details = client.get_job_info(job_id)
    if details.status == JobStatus.SUCCEEDED:
        return {**summary, "job_id": job_id}
    raise SubmittedJobError(
        job_id, str(summary.get("error") or details.message), details.driver_exit_code or 1
    )


class SubmittedJobError(RuntimeError):
    """The job ended with an error, which its log has told already; `exit_code` is the job's own."""

    def __init__(self, job_id: str, reason: str, exit_code: int) -> None:
        self.reason, self.exit_code = reason, exit_code
        told = "" if reason.count("\n") else f": {reason}"
        super().__init__(f"job {job_id} failed{told}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
