"""`--submit` and `--env`: one decorator gives them to a command."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.shell import elsewhere

PATH_METAVARS = ("FILE", "FOLDER", "WEIGHTS", "TABLE_OR_FOLDER")
OF_THE_TERMINAL = ("submit", "env", "json_output")

Submit = Annotated[
    str | None,
    typer.Option(
        "--submit",
        metavar="ADDRESS",
        help="Run as a Ray job on this cluster, such as http://127.0.0.1:8265. Paths are the cluster's, "
        "and what the command writes is there.",
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME",
        help="With --submit: hand on the variable of this name, sealed; may be given several times.",
        show_default=False,
    ),
]


def submittable(command: Callable[..., None]) -> Callable[..., None]:
    """A command with `--submit ADDRESS` and `--env NAME`, before its `--json`.

    With `--submit`, all that the command does before and after `execute` is done here (its arguments are
    checked, its summary shown), and the work of `execute` is done by the same command line on the cluster.
    """

    @functools.wraps(command)
    def wrapped(
        context: typer.Context, submit: str | None = None, env: list[str] | None = None, **arguments: Any
    ) -> None:
        if submit is None:
            if env:
                raise typer.BadParameter("--env NAME goes with --submit ADDRESS")
            return command(**arguments)
        from jobs.submit import Submission, submit_command

        recipe, overrides = arguments.get("recipe"), arguments.get("overrides") or ()
        options, values = given_arguments(context)
        submission = Submission(
            command=command_name(context),
            options=options,
            values=values,
            paths=given_paths(context, arguments),
            recipe=None if recipe is None else (recipe, tuple(overrides)),
            variables=tuple(env or ()),
        )
        before = elsewhere.set(functools.partial(submit_command, submit, submission))
        try:
            command(**arguments)
        finally:
            elsewhere.reset(before)

    own = inspect.signature(command).parameters
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in (("submit", Submit), ("env", Env))
    ]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own.values()]
    place = list(own).index("json_output")
    parameters[place:place] = added
    wrapped.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in (context, *parameters)}
    return wrapped


def command_name(context: typer.Context) -> str:
    """`benchmark filters`"""
    names: list[str] = []
    place: Any = context
    while place.parent is not None:
        names.insert(0, place.info_name)
        place = place.parent
    return " ".join(names)


def given_arguments(context: typer.Context) -> tuple[list[str], list[str]]:
    """Options and values of the command line as it was given.

    Without the recipe, which goes along as a file, and without what concerns this terminal alone.
    """
    options: list[str] = []
    values: list[str] = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        value = context.params.get(parameter.name or "")
        if source is None or source.name != "COMMANDLINE" or parameter.name in OF_THE_TERMINAL:
            continue
        if parameter.param_type_name == "argument":
            if parameter.name != "recipe":
                values += [str(one) for one in _listed(value)]
        elif isinstance(value, bool):
            options += [(parameter.opts if value else parameter.secondary_opts)[0]]
        else:
            options += [text for one in _listed(value) for text in (parameter.opts[0], str(one))]
    return options, values


def given_paths(context: typer.Context, arguments: dict[str, Any]) -> dict[str, str]:
    """Arguments that name files or folders, defaults too: `{"--out": "runs/generated"}`."""
    paths = {}
    for parameter in context.command.params:
        for value in _listed(arguments.get(parameter.name or "")):
            if isinstance(value, Path) or parameter.metavar in PATH_METAVARS:
                option = parameter.param_type_name == "option"
                paths[parameter.opts[0] if option else str(parameter.metavar)] = str(value)
    return paths


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
