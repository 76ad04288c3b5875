"""A source that kills or stops its decoder costs itself: its neighbours survive, nothing tries it again."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipelines.curation.clip_table import read_clips
from pipelines.curation.run import curate
from pipelines.layout import RunLayout
from tests.curation_input import curation_recipe, source_row, write_rows

pytestmark = pytest.mark.usefixtures("ray")


@contextmanager
def signalled(file: Path, number: int) -> Iterator[list[int]]:
    """Send a signal to every decoder process that opens `file`; yields their process ids."""
    hit: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            for process in psutil.process_iter(["pid", "cmdline"]):
                if "pipelines.curation.decode" not in (process.info["cmdline"] or ()):
                    continue
                if process.pid not in hit and _holds(process, file):
                    os.kill(process.pid, number)
                    hit.append(process.pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield hit
    finally:
        stop.set()
        thread.join()


def _holds(process: psutil.Process, file: Path) -> bool:
    try:
        return any(Path(opened.path) == file for opened in process.open_files())
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def table(
    tmp_path_factory: pytest.TempPathFactory,
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> Path:
    """Five videos, the second of which, `b.mp4`, takes long to read."""
    folder = tmp_path_factory.mktemp("table")
    for name in "acde":
        make_video(folder / f"{name}.mp4", make_scene(ord(name), 20))
    make_video(folder / "b.mp4", make_scene(2, 900, height=480, width=640))
    return write_rows(folder / "t.csv", [source_row(name, "A square moves right") for name in "abcde"])


@pytest.mark.parametrize(
    ("number", "why"),
    [(signal.SIGSEGV, "decoder_crashed: signal 11"), (signal.SIGSTOP, "decoder_timeout: 3 s")],
)
def test_one_bad_source_costs_one_source(
    number: int, why: str, tmp_path: Path, table: Path, tiny_models: dict[str, str]
) -> None:
    recipe = curation_recipe(tmp_path / "run", table, tiny_models, units=1, decode={"timeout_seconds": 3})
    with signalled(table.with_name("b.mp4"), number) as hit:
        summary = curate(recipe)
    assert len(hit) == 1  # tried once
    assert (summary["kept"], summary["quarantined"]) == (4, 1)
    reasons = {
        row["source_id"]: row["reason"]
        for row in read_clips(RunLayout(tmp_path / "run"), verdict=None).to_pylist()
    }
    assert reasons == {"a": None, "b": why, "c": None, "d": None, "e": None}
