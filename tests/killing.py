"""SIGKILL for commands of ours and what they started, for the tests that kill them at random moments."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))


def command(name: str, recipe: Path, *settings: str) -> list[str]:
    """Arguments of `dreamer NAME RECIPE`, as a process of its own."""
    return [sys.executable, "-m", "jobs.cli", name, str(recipe), *settings, "--json"]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All that a command started, and the command itself last."""
    try:
        itself = psutil.Process(process.pid)
        return [*itself.children(recursive=True), itself]
    except psutil.NoSuchProcess:
        return []


def kill(members: Iterable[psutil.Process]) -> None:
    for member in members:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """The command and all that it started, at one blow."""
    kill(family(process))
    process.wait()
