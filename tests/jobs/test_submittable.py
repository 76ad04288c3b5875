"""`--submit` and `--env` are options of every command; what is sent is the command line that was given."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from jobs.cli import app
from jobs.submit import SUBMITTED_RECIPE, Submission
from jobs.submittable import command_name, given_arguments, given_paths

WITHOUT = {"study", "jobs list", "jobs logs", "jobs stop"}


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, command) of everything that can be run."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, inner in below.items():
        yield from leaves(inner, f"{name} {word}".strip())


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_every_command_can_be_submitted_but_those_that_say_why_not() -> None:
    have = {name for name, command in COMMANDS.items() if "--submit" in options_of(command)}
    assert set(COMMANDS) - have == WITHOUT
    assert all("--env" in options_of(COMMANDS[name]) for name in have)


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("curate demo seed=1 --limit 3 --submit X --json", "curate --json --limit 3 -- RECIPE seed=1"),
        ("curate demo --submit X --env A --env B --retry-failed", "curate --json --retry-failed -- RECIPE"),
        (
            "plan stock data.limit=3 --gpu h100 --debug",
            "plan --json --gpu h100 --debug -- RECIPE data.limit=3",
        ),
        ("generate 'a $(star)' --count 2 --out /o", "generate --json --out /o --count 2 -- 'a $(star)'"),
        ("generate --prompts /p.csv -- ", "generate --json --prompts /p.csv"),
        ("demo --out /d -- train=-1", "demo --json --out /d -- train=-1"),
        ("embedded sprites /s --no-flow", "embedded sprites --json --no-flow -- /s"),
        ("benchmark filters --seed 2", "benchmark filters --json --seed 2 -- RECIPE"),
        ("runs clean /r --yes", "runs clean --json --yes -- /r"),
    ],
)
def test_what_is_sent_is_the_command_line_with_the_recipe_that_it_stands_for(given: str, sent: str) -> None:
    context = parsed(shlex.split(given))
    options, values = given_arguments(context)
    recipe = ("demo", ()) if "recipe" in context.params else None
    submission = Submission(command_name(context), options, values, recipe=recipe)
    assert submission.entrypoint == f"python -m jobs.cli {sent.replace('RECIPE', SUBMITTED_RECIPE)}"


def parsed(words: list[str]) -> Any:
    """The context of the command that the words name."""
    command, context, name = typer.main.get_command(app), None, "dreamer"
    while True:
        context = command.make_context(name, list(words), parent=context)
        if getattr(command, "commands", None) is None:
            return context
        name, *words = words
        command = command.commands[name]  # type: ignore[attr-defined]


def test_paths_of_a_command_are_known_defaults_too() -> None:
    context = parsed(["generate", "a star", "--expander", "model"])
    arguments = {**context.params, "model": Path("runs/demo"), "out": Path("runs/generated")}
    assert given_paths(context, arguments) == {
        "--model": "runs/demo",
        "--out": "runs/generated",
        "--expander": "model",
    }
