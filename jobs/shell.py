"""What all commands share: a stdout that holds the result only, exit codes, errors and a table for people."""

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer

from jobs.sealed import SEALED, open_sealed
from pipelines import cluster
from pipelines.files import disk_is_full
from pipelines.storage import storage_path

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
PIPE_COLUMNS = 240
OUR_PACKAGES = {"pipelines", "modeling", "jobs"}
# How a traceback begins the line of such an error, and what it has between an error and one that came of it.
OUR_ERROR = re.compile(rf"^({'|'.join(sorted(OUR_PACKAGES))})\.[\w.]+: ", re.MULTILINE)
THEN = "\n\nThe above exception was the direct cause of the following exception:"
QUIET = {
    "HF_HUB_OFFLINE": "1",  # models are loaded by path; nothing is fetched behind anyone's back
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "TQDM_DISABLE": "1",  # libraries' own bars; pipelines.progress shows ours
    "GIT_PYTHON_REFRESH": "quiet",
}

RecipeName = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A YAML file, or one that ships: demo, stock, small_gpu, paper."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SECTION.KEY=VALUE]...",
        help="Settings that differ from the recipe's, such as data.limit=100.",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", parser=storage_path, help="A run directory, or its s3:// address.")
]
ModelOrRun = Annotated[
    Path, typer.Option("--model", parser=storage_path, help="A model folder, or a run directory.")
]
ModelFolder = Annotated[
    Path | None,
    typer.Option("--model", parser=storage_path, help="A model folder; default: the recipe's last stage."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the libraries' own logs.")]
Summary = dict[str, Any]
Rows = Iterable[tuple[str, Any]]

# What does the work of `execute` in its place, for a command that was given `--submit` (jobs.submittable).
elsewhere: ContextVar[Callable[[], Summary] | None] = ContextVar("elsewhere", default=None)


def execute(
    title: str,
    work: Callable[[], Summary],
    rows: Callable[[Summary], Rows | str],
    *,
    json_output: bool = False,
    debug: bool = False,
) -> None:
    """Do a command's work and show its summary as a table or, with `json_output`, as one JSON object.

    rows: what the table says, or plain text that is shown as it is.

    Everything that is printed while the work runs goes to stderr. Errors that this project raises are
    written for people and shown without a traceback. Raises typer.Exit with the command's exit code.
    """
    stdout = _reserve_stdout()
    _quiet(debug)
    cluster.when_head_is_lost = partial(_end_at_once, stdout, json_output)
    try:
        if SEALED in os.environ:  # this is a job, and was given variables
            open_sealed()
        summary = (elsewhere.get() or work)()
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        _fail(INTERRUPTED, "stopped; the same command goes on where this one left off", stdout, json_output)
    except Exception as error:
        known = _known(error)
        if debug or known is None:
            logging.getLogger("dreamer").error("%s", error, exc_info=error)
        cause = known or error
        message = str(cause) if known else _told(cause)
        reason = getattr(cause, "reason", message)  # of a submitted job, whose log told it already
        _fail(_exit_code(cause), message, stdout, json_output, reason)
    if json_output:
        print(json.dumps(summary, default=str, allow_nan=False), file=stdout, flush=True)
    elif isinstance(shown := rows(summary), str):
        stdout.write(shown)
        stdout.flush()
    else:
        _print_table(title, shown, stdout)


def _reserve_stdout() -> TextIO:
    """The real stdout; file descriptor 1 is stderr from now on, for this process and its children.

    Ray, DeepSpeed and MLflow print where they like, from Python and from C++, even at exit.
    """
    sys.stdout.flush()
    reserved = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return reserved


def _quiet(debug: bool) -> None:
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="%(message)s")
    if debug:
        return
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _known(error: BaseException | None) -> BaseException | None:
    """The error underneath that is written for people, if there is one.

    Those are the project's own, and what the operating system says about files and connections. Ray wraps
    what its tasks and workers raise.
    """
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        error = queue.pop(0)
        if not isinstance(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        told = isinstance(error, (FileNotFoundError, ConnectionError, PermissionError))
        if told or type(error).__module__.split(".")[0] in OUR_PACKAGES or disk_is_full(error):
            return error
        failures = getattr(error, "worker_failures", None)
        queue += [getattr(error, "cause", None), *(failures.values() if isinstance(failures, dict) else ())]
        queue += [error.__cause__]
    return None


def _told(error: BaseException) -> str:
    """What went wrong, of a text that may be a whole traceback (Ray's are).

    Of what its functions raise Ray Data keeps that text alone, with an error of its own and advice after it.
    """
    text = str(error)
    if ours := list(OUR_ERROR.finditer(text)):
        return text[ours[-1].end() :].partition(THEN)[0].strip()
    raised, then, _ = text.rpartition(THEN)
    lines = [line for line in (raised if then else text).splitlines() if line.strip()]
    return lines[-1] if then else f"{type(error).__name__}: {lines[-1] if lines else text}"


def _exit_code(error: BaseException) -> int:
    from pipelines.recipe import RecipeError

    if isinstance(error, RecipeError):
        return WRONG_USAGE
    return int(getattr(error, "exit_code", FAILED))


def _fail(code: int, message: str, stdout: TextIO, json_output: bool, reason: str | None = None) -> NoReturn:
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(message, markup=False, soft_wrap=True)
    if json_output:
        print(json.dumps({"error": str(reason or message), "exit_code": code}), file=stdout, flush=True)
    raise typer.Exit(code)


def _end_at_once(stdout: TextIO, json_output: bool, error: Exception) -> None:
    with suppress(typer.Exit):
        _fail(FAILED, str(error), stdout, json_output)
    os._exit(FAILED)


def _print_table(title: str, rows: Rows, stdout: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(str(name)), Text(_text(value)))
    # In a file or a pipe, paths stay whole.
    width = None if stdout.isatty() else PIPE_COLUMNS
    Console(file=stdout, highlight=False, width=width).print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, `3:05:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
