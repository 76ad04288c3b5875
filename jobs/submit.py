"""`--submit ADDRESS`: the same command as a Ray job on a cluster."""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jobs.ray_jobs import POLL_SECONDS, STOPPING_SECONDS, JobError, connect, follow_to_the_end, say
from jobs.sealed import OPEN_SEALED, SEALED, seal
from jobs.shell import Summary
from pipelines.recipe import Recipe, RecipeError, with_absolute_paths
from pipelines.recipe_file import load_recipe
from pipelines.secrets import holds_secret
from pipelines.tracking import flat

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("jobs", "pipelines", "modeling")
WORKING_TREE_LIMIT_BYTES = 100 * 10**6
SUBMITTED_RECIPE = "submitted-recipe.yaml"
AGENT_START_SECONDS = 120


@dataclass(frozen=True)
class Submission:
    """A command line that shall run elsewhere.

    command: such as `benchmark filters`. options, values: its arguments with and without a name, but for the
    recipe. paths: those of them that are paths, by name. recipe: its name and overrides, for a command that
    has one. variables: names of those of the environment that go along.
    """

    command: str
    options: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    recipe: tuple[str, tuple[str, ...]] | None = None
    variables: tuple[str, ...] = ()

    @property
    def entrypoint(self) -> str:
        """The job's shell command. Overrides stand in its recipe already; once more they change nothing."""
        recipe = [SUBMITTED_RECIPE] * (self.recipe is not None)
        values = ["--", *recipe, *self.values] if recipe or self.values else []
        return shlex.join(
            ["python", "-m", "jobs.cli", *self.command.split(), "--json", *self.options, *values]
        )


def submit_command(address: str, submission: Submission) -> Summary:
    """Run `dreamer COMMAND` on the cluster at `address` (`http://HOST:8265`) and follow it to its end.

    The recipe is resolved here, so that a wrong one is refused before anything is sent; its paths are the
    cluster's. The log goes to stderr. Returns the job's own summary and `job_id`; raises RecipeError,
    SealError or JobError for what cannot be sent, SubmittedJobError with the job's exit code.
    """
    recipe = None if submission.recipe is None else load_recipe(*submission.recipe)
    _refuse_relative_paths(submission.paths, recipe)
    _refuse_secrets([*submission.options, *submission.values])
    runtime = runtime_environment(submission.variables)
    with working_tree(recipe) as folder:
        client = connect(address)
        job_id = _hand_over(
            client,
            entrypoint=submission.entrypoint,
            runtime_env={**runtime, "working_dir": str(folder)},
            metadata={"command": submission.command} | ({"recipe": recipe.name} if recipe else {}),
            # The driver waits for others: it takes neither CPU nor GPU from them, on a head that has none.
            entrypoint_num_cpus=0,
            entrypoint_num_gpus=0,
        )
    say(f"job {job_id} on {address}")
    return follow_to_the_end(client, address, job_id)


def runtime_environment(variables: tuple[str, ...]) -> dict[str, Any]:
    """Ray's runtime_env of a job that has these variables of this process, sealed, in each of its own."""
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOPPING_SECONDS)}
    if not variables:
        return {"env_vars": environment}
    return {
        "env_vars": environment | {SEALED: seal(variables)},
        "worker_process_setup_hook": OPEN_SEALED,
    }


def _hand_over(client: Any, **job: Any) -> str:
    """Submit a job; a head that has just started answers before its agent, which takes jobs, is up."""
    deadline = time.monotonic() + AGENT_START_SECONDS
    while True:
        try:
            return client.submit_job(**job)
        except RuntimeError as error:
            # Ray has no type for this one.
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise JobError(f"the cluster did not take the job: {error}") from error
            time.sleep(POLL_SECONDS)


@contextmanager
def working_tree(recipe: Recipe | None) -> Iterator[Path]:
    """A copy of the project without what git ignores, and the resolved recipe, for as long as it is sent.

    Raises JobError for a tree that is too large.
    """
    files = project_files()
    size = sum(file.stat().st_size for file in files)
    say(f"sending {len(files)} files, {size / 1e6:.1f} MB")
    if size > WORKING_TREE_LIMIT_BYTES:
        largest = max(files, key=lambda file: file.stat().st_size)
        raise JobError(
            f"the project's tree is {size / 1e6:.0f} MB, more than {WORKING_TREE_LIMIT_BYTES / 1e6:.0f}; "
            f"the largest file is {largest.relative_to(PROJECT)}: move it out or add it to .gitignore"
        )
    with tempfile.TemporaryDirectory(prefix="dreamer-") as temporary:
        folder = Path(temporary)
        for file in files:
            copy = folder / file.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
        if recipe is not None:
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


def _refuse_relative_paths(paths: dict[str, str], recipe: Recipe | None) -> None:
    relative = {name: path for name, path in paths.items() if not (os.path.isabs(path) or "://" in path)}
    if recipe is not None:
        anywhere = flat(with_absolute_paths(recipe).model_dump())
        relative |= {key: path for key, path in flat(recipe.model_dump()).items() if path != anywhere[key]}
    if relative:
        raise RecipeError(
            "a submitted command runs in a temporary folder of the cluster; these need absolute paths of the "
            "cluster:\n" + "\n".join(f"  {name}={path}" for name, path in relative.items())
        )


def _refuse_secrets(arguments: list[str]) -> None:
    """A job's command line is shown to everyone who may look at the cluster."""
    for argument in arguments:
        if holds_secret(argument):
            name = argument.partition("=")[0]
            raise RecipeError(
                f"{name}: it holds a password or token, and a job's command line can be read by all: write "
                "${NAME} in its place and hand the variable on with --env NAME"
            )
