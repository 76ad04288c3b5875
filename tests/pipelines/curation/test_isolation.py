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

from pipelines.cluster import start_ray
from pipelines.curation.clip_table import read_clips
from pipelines.curation.run import curate
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe


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


@pytest.mark.parametrize(
    ("number", "why"),
    [(signal.SIGSEGV, "decoder_crashed: signal 11"), (signal.SIGSTOP, "decoder_timeout: 3 s")],
)
def test_one_bad_source_costs_one_source(
    number: int,
    why: str,
    tmp_path: Path,
    tiny_models: dict[str, str],
    make_video: Callable[..., Path],
    make_scene: Callable[..., np.ndarray],
) -> None:
    for name in "acde":
        make_video(tmp_path / f"{name}.mp4", make_scene(ord(name), 20))
    long = make_video(tmp_path / "b.mp4", make_scene(2, 900, height=480, width=640))
    rows = "".join(f"{name},{name}.mp4,A square moves right\n" for name in "abcde")
    (tmp_path / "t.csv").write_text(f"videoid,contentUrl,name\n{rows}")
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "run_directory": str(tmp_path / "run"),
            "data": {"table": str(tmp_path / "t.csv")},
            "curation": {"units": 1, "tiers": {"low": ["8x32x32"]}, "decode": {"timeout_seconds": 3}},
            "models": tiny_models,
        }
    )
    with start_ray(), signalled(long, number) as hit:
        summary = curate(recipe)
    assert len(hit) == 1  # tried once
    assert (summary["kept"], summary["quarantined"]) == (4, 1)
    reasons = {
        row["source_id"]: row["reason"]
        for row in read_clips(RunLayout(tmp_path / "run"), verdict=None).to_pylist()
    }
    assert reasons == {"a": None, "b": why, "c": None, "d": None, "e": None}
