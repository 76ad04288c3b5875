"""Ray's job server: connecting to it, and following a job's log to its end."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from jobs.sealed import TOKEN_HELP, cluster_token
from jobs.shell import INTERRUPTED, Summary

POLL_SECONDS = 0.5
SILENCE_SECONDS = 60.0  # after which a connection is taken for dead and made anew
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
GIVE_UP_SECONDS = 600.0
STOPPING_SECONDS = 60  # that a job has for its end after SIGTERM; Ray's own 3 s are short for a checkpoint
T = TypeVar("T")


class JobError(Exception):
    """A job server that cannot be reached or refuses; the message says what to do."""


class SubmittedJobError(RuntimeError):
    """The job ended with an error, which its log has told already; `exit_code` is the job's own."""

    def __init__(self, job_id: str, reason: str, exit_code: int) -> None:
        self.reason, self.exit_code = reason, exit_code
        told = "" if reason.count("\n") else f": {reason}"
        super().__init__(f"job {job_id} failed{told}")


def connect(address: str) -> Any:
    """Ray's JobSubmissionClient. Raises JobError when nobody answers there, or the token is another."""
    if "RAY_AUTH_MODE" not in os.environ and cluster_token() is not None:
        os.environ["RAY_AUTH_MODE"] = "token"  # before Ray is imported, which is when it reads this
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # or Ray prefers RAY_ADDRESS to what was asked for

    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for module in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(module).setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        wanted = "a token" if cluster_token() is None else "another token"
        raise JobError(
            f"the cluster at {address} wants {wanted}: {str(error).splitlines()[0]}\n{TOKEN_HELP}"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise JobError(
            f"no Ray dashboard answers at {address}: {error}\n"
            f"Give the address of the head's dashboard, such as http://HOST:8265. {TOKEN_HELP}"
        ) from error


def details(client: Any, job_id: str) -> Any:
    """Ray's JobDetails. Raises JobError for a job that the cluster does not know."""
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        raise JobError(
            f"no job {job_id} on this cluster, or its head was started anew since; `dreamer jobs list` shows "
            "what there is, and the same command goes on with what is whole"
        ) from None


def follow_to_the_end(client: Any, address: str, job_id: str) -> Summary:
    """Show a job's log on stderr until it ends; returns its own summary with `job_id`.

    A lost connection is made again, and the log goes on where it was. Raises SubmittedJobError with the job's
    exit code, JobError when the cluster stays away or the person who follows presses Ctrl-C.
    """
    how = (
        f"`dreamer jobs logs {job_id} --follow --address {address}` shows it, "
        f"`dreamer jobs stop {job_id} --address {address}` ends it"
    )
    try:
        summary = asyncio.run(_follow(client, job_id))
    except KeyboardInterrupt:
        raise JobError(f"job {job_id} goes on; {how}") from None
    except ConnectionError as error:
        raise JobError(
            f"no answer from {address} for {GIVE_UP_SECONDS / 60:.0f} minutes ({error}); job {job_id} may go "
            f"on: {how}"
        ) from error
    return _result(client, job_id, summary)


async def _follow(client: Any, job_id: str) -> Summary:
    """Show the log; returns the summary, the last line of it that is a JSON object.

    Not the last line of all: Ray logs stdout and stderr as one, and libraries print at exit.
    """
    unfinished_line, summary = "", Summary()
    async with aclosing(log_text(client, job_id)) as texts:
        async for text in texts:
            *lines, unfinished_line = (unfinished_line + text).split("\n")
            for line in lines:
                summary = _shown(line) or summary
    return _shown(unfinished_line) or summary


async def log_text(client: Any, job_id: str) -> AsyncGenerator[str]:
    """A job's log as it comes, every character once, however often the connection is lost.

    Raises ConnectionError when it stays lost for `GIVE_UP_SECONDS`, JobError when the job went with its head.
    """
    import aiohttp

    seen, wait, lost_at = 0, FIRST_WAIT_SECONDS, None
    while True:
        place, whole = 0, False
        try:
            with suppress(TimeoutError):  # a quiet job, or a connection that died without a word
                async with aclosing(client.tail_job_logs(job_id)) as tail:  # each begins at the log's start
                    while (text := await _within_silence(tail)) is not None:
                        new, place = text[max(0, seen - place) :], place + len(text)
                        if new:
                            seen = place
                            yield new
                    whole = True
            if details(client, job_id).status.is_terminal() and whole:
                return
            wait, lost_at = FIRST_WAIT_SECONDS, None
            await asyncio.sleep(POLL_SECONDS)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            with suppress(OSError, RuntimeError):
                details(client, job_id)  # a head that was started anew knows no job of before
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > GIVE_UP_SECONDS:
                raise ConnectionError(str(error)) from error
            say(f"connection to the cluster lost; next try in {wait:.0f} s")
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


async def _within_silence(tail: AsyncGenerator[str]) -> str | None:
    """The next text, or None at the end. `asyncio.wait_for` would not hear Ctrl-C while a text comes."""
    async with asyncio.timeout(SILENCE_SECONDS):
        return await anext(tail, None)


def _shown(line: str) -> Summary:
    """A line of the log as a summary, or {} for any other, which is shown."""
    if line.startswith('{"'):
        with suppress(json.JSONDecodeError):
            return json.loads(line)
    if line.strip():
        say(line)
    return {}


def _result(client: Any, job_id: str, summary: Summary) -> Summary:
    from ray.job_submission import JobStatus

    ended = _patiently(lambda: client.get_job_info(job_id))
    if ended.status == JobStatus.SUCCEEDED:
        return {**summary, "job_id": job_id}
    if ended.status == JobStatus.STOPPED:
        raise SubmittedJobError(job_id, "it was stopped", INTERRUPTED)
    reason = str(summary.get("error") or ended.message)
    raise SubmittedJobError(job_id, reason, ended.driver_exit_code or 1)


def stop(client: Any, job_id: str) -> Any:
    """Ask a job to end and wait until it has; returns its JobDetails.

    Ray sends SIGTERM and, to what is there `STOPPING_SECONDS` later, SIGKILL. Raises JobError when the job
    goes on all the same.
    """
    before = details(client, job_id)
    if before.submission_id is None:
        raise JobError(f"{job_id} was not submitted as a job; end it where it was started")
    if before.status.is_terminal():
        return before
    client.stop_job(before.submission_id)
    deadline = time.monotonic() + 2 * STOPPING_SECONDS
    while not (now := details(client, job_id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise JobError(f"job {job_id} is still {now.status.value}; see the head's log of its supervisor")
        time.sleep(POLL_SECONDS)
    return now


def _patiently(ask: Callable[[], T]) -> T:
    """The answer of a job server, asked again for a while when it is away."""
    deadline = time.monotonic() + SILENCE_SECONDS
    while True:
        try:
            return ask()
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
