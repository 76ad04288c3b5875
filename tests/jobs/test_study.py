"""`dreamer study` as a person, a script and a rater see it."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from pipelines.study.questions import Question
from pipelines.study.votes import VoteStore
from tests.pipelines.study import world

CAPTIONS = world.CAPTIONS[:3]
START_SECONDS = 90


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    one = world.evaluated_run(folder / "one", world.clips(CAPTIONS))
    return one, world.evaluated_run(folder / "other", world.clips(CAPTIONS), noise=14)


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """What is started here ends with the test."""
    with ExitStack() as stack:
        yield stack


def arguments(*given: object) -> list[str]:
    return [sys.executable, "-m", "jobs.cli", "study", *map(str, given)]


def study(*given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments(*given), capture_output=True, text=True, check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def start(processes: ExitStack, link: str, *given: object) -> subprocess.Popen[str]:
    """A server as its own process, once it answers."""
    server = subprocess.Popen(
        arguments(*given), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    processes.callback(server.communicate)
    processes.callback(server.kill)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            requests.get(f"{link}/state", timeout=5).raise_for_status()
            return server
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"the server does not answer: {server.stderr.read() if server.stderr else ''}")


def vote(link: str, number: int, question: str) -> requests.Response:
    sent = {"number": number, "question": question, "answer": "left"}
    return requests.post(f"{link}/votes", json=sent, timeout=5)


def test_a_killed_server_loses_no_vote_and_links_go_on(
    runs: tuple[Path, Path], tmp_path: Path, processes: ExitStack
):
    out, port = tmp_path / "study", free_port()
    options = (*runs, "--out", out, "--raters", 2, "--port", port, "--json")
    made = json.loads(study(*options, "--no-serve").stdout)
    link = made["links"][0]
    assert link.startswith(f"http://127.0.0.1:{port}/")
    server = start(processes, link, *options)
    kept = []
    try:
        for number in range(3):
            for question in Question:
                if len(kept) == 6:
                    server.send_signal(signal.SIGKILL)
                if vote(link, number, question).status_code == 201:
                    kept.append((number, question))
    except requests.ConnectionError:
        pass
    server.wait()
    votes = VoteStore(out / "study.sqlite").votes()
    assert len(kept) >= 6
    # The one that was under way may be there, unknown to the rater, who is asked nothing twice for it.
    assert len(votes) - len(kept) in (0, 1)
    assert [vote.question for vote in votes[: len(kept)]] == [question for _, question in kept]
    server = start(processes, link, *options)
    state: dict[str, Any] = requests.get(f"{link}/state", timeout=5).json()
    assert state["votes"] == len(votes)
    server.send_signal(signal.SIGINT)
    stdout, stderr = server.communicate()
    assert server.returncode == 0, stderr
    ended = json.loads(stdout)
    assert ended["links"] == made["links"]
    assert ended["votes"] == len(votes)
    assert f"rater 1: {link}" in stderr


def test_it_listens_to_this_machine_alone_unless_told_otherwise(
    runs: tuple[Path, Path], tmp_path: Path, processes: ExitStack
):
    port = free_port()
    options = (*runs, "--out", tmp_path, "--port", port, "--json")
    link = json.loads(study(*options, "--no-serve").stdout)["links"][0]
    others = next(
        (info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)), "127.0.0.2"
    )
    elsewhere = "127.0.0.2" if others.startswith("127.") else others
    server = start(processes, link, *options)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((elsewhere, port), timeout=5)
    server.send_signal(signal.SIGINT)
    assert "warning" not in server.communicate()[1]
    server = start(processes, link, *options, "--host", "0.0.0.0", "--url", "https://example.org/study/")
    socket.create_connection((elsewhere, port), timeout=5).close()
    server.send_signal(signal.SIGINT)
    stdout, stderr = server.communicate()
    assert "whoever has a link" in stderr
    assert json.loads(stdout)["links"] == [
        link.replace(f"http://127.0.0.1:{port}", "https://example.org/study")
    ]


def test_results_end_with_a_table_of_all_questions(runs: tuple[Path, Path], tmp_path: Path):
    out = tmp_path / "study"
    early = study(*runs, "--out", out, "--results", "--json")
    assert early.returncode == 1
    assert "without --results makes and serves it" in json.loads(early.stdout)["error"]
    made = json.loads(study(*runs, "--out", out, "--no-serve", "--json").stdout)
    store = VoteStore(out / "study.sqlite")
    cast_all(out, store)
    done = study(out, "--results")
    assert done.returncode == 0, done.stderr
    for question in Question:
        assert question.replace("_", " ") in done.stdout
    assert "win rate 1.00 (no interval: all votes are alike)" in done.stdout
    assert "1 of 1 voted, 1 finished" in done.stdout
    assert str(out / "results.csv") in done.stdout
    assert not any(link.rpartition("/")[2] in done.stdout for link in made["links"])


def cast_all(folder: Path, store: VoteStore) -> None:
    """One rater likes the second run better, throughout."""
    from pipelines.study.order import showings
    from pipelines.study.plan import open_study
    from pipelines.study.questions import Answer
    from pipelines.study.votes import Vote

    _, found = open_study([folder], None, {})
    for showing in showings(found, 1):
        left, right = (found.contestants[index].name for index in (showing.left, showing.right))
        answer = Answer.LEFT if left == "other" else Answer.RIGHT
        for question in Question:
            store.add(Vote(1, showing.pair, question, left, right, answer))


def test_what_cannot_be_served_is_said_in_one_line(runs: tuple[Path, Path], tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = study(*runs, "--out", tmp_path, "--port", port)
    assert done.returncode == 1
    assert (
        f"cannot serve at 127.0.0.1:{port}: Address already in use; choose with --host and --port"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    done = study(runs[0], tmp_path / "nothing", "--json", "--no-serve")
    assert "no whole evaluation 'final'" in json.loads(done.stdout)["error"]
