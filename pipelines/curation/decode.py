"""A decoder that may die: a persistent child process that is killed and replaced.

Whatever a video file does to its decoder, it does it to the child: a crash, a hang or a memory leak costs
one source and never the run.
"""

import atexit
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipelines.curation.memory import peak_memory_gb
from pipelines.curation.verdicts import FAILED, QUARANTINED, reason
from pipelines.recipe import Bucket, DecodeSettings

LOOK_EVERY_SECONDS = 0.1
START_SECONDS = 120
ORPHAN_SECONDS = 2
SOURCES_PER_CHILD = 2_000  # a leak in a decoder library never gets old
HEARD_BYTES = 100_000
HEARD_CHARACTERS = 300
# ffmpeg conceals damage and goes on; only its log tells.
DAMAGE = re.compile(
    r"error while decoding|error at MB|concealing|corrupted|damaged|overread|unavailable|"
    r"reference picture missing|CABAC_MAX_BIN|outside the valid range|could not find ref|duplicate POC",
    re.IGNORECASE,
)
PACKAGES_FOLDER = Path(__file__).resolve().parents[2]


class DecoderError(Exception):
    """A call that gave no result: `verdict` and `reason` as in the clip table."""

    def __init__(self, verdict: str, why: str) -> None:
        super().__init__(why)
        self.verdict = verdict
        self.reason = why


class DecoderProcess:
    """Runs functions of this package on video files, in a child process that outlives its sources."""

    def __init__(self, settings: DecodeSettings | None = None) -> None:
        self.settings = settings or DecodeSettings()
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._said: Any = None
        self._calls = 0
        self._peak_gb = 0.0  # of children that are gone
        atexit.register(self.close)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)` in the child; the function is found there by its module and name.

        Raises DecoderError: `failed` with what the function raised (UnreadableVideoError), `quarantined`
        when the child died, hung or grew. Any other exception is raised here as RuntimeError: it is a
        fault of this program and not of the file.
        """
        message = (function.__module__, function.__qualname__, arguments)
        connection = self._ready()
        try:
            connection.send(message)
        except (BrokenPipeError, ConnectionResetError):  # it died while nothing was asked of it
            self.close()
            connection = self._ready()
            connection.send(message)
        self._calls += 1
        kind, value = self._answer(connection)
        if kind == "result":
            return value
        if kind == "unreadable":
            raise DecoderError(FAILED, self._with_what_was_said(value))
        raise RuntimeError(f"{function.__qualname__} failed in the decoder process:\n{value}")

    def complaint(self) -> str:
        """What ffmpeg said during the last call about pictures that it made up; empty when nothing.

        It is to be asked after reading a file from its start: behind a seek the same words are no sign of
        damage. H.264, MPEG-4 and MPEG-2 tell most damage, HEVC and VP8 little of it.
        """
        return next((line for line in self._lines() if DAMAGE.search(line)), "")

    def clip(
        self, path: str, start_seconds: float, frames: int, fps: float, height: int, width: int
    ) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB frames sampled by timestamp; see `pipelines.curation.video.read_clip`.

        Raises DecoderError.
        """
        from pipelines.curation.video import read_clip

        bucket = Bucket(frames=frames, height=height, width=width)
        clip: np.ndarray = self.call(read_clip, path, start_seconds, fps, (bucket,))[0]
        return clip

    @property
    def peak_memory_gb(self) -> float:
        """Most resident memory that any of the children held."""
        return max(self._peak_gb, peak_memory_gb(self._child.pid) if self._child else 0.0)

    def close(self) -> None:
        """End the child; the next call starts another."""
        if self._child is None:
            return
        self._peak_gb = self.peak_memory_gb
        self._child.kill()
        self._child.wait()
        assert self._connection is not None
        self._connection.close()
        self._said.close()
        self._child = None
        self._calls = 0

    def __enter__(self) -> "DecoderProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ the child

    def _ready(self) -> Connection:
        if self._child is not None and (self._calls >= SOURCES_PER_CHILD or self._child.poll() is not None):
            self.close()
        if self._child is None:
            self._start()
        assert self._connection is not None
        self._said.seek(0)
        self._said.truncate()
        return self._connection

    def _start(self) -> None:
        ours, theirs = Pipe()
        self._said = tempfile.TemporaryFile(mode="a+b")  # noqa: SIM115 - lives as long as the child
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PACKAGES_FOLDER), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        }
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.curation.decode", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env=environment,
        )
        theirs.close()
        self._connection = ours
        if not ours.poll(START_SECONDS):
            self.close()
            raise RuntimeError(f"the decoder process did not start within {START_SECONDS} s")
        try:
            ours.recv()
        except EOFError:
            said = self._heard()
            self.close()
            raise RuntimeError(f"the decoder process did not start: {said}") from None

    def _answer(self, connection: Connection) -> tuple[str, Any]:
        """The child's answer; beats in between say that it lives."""
        heard_at = time.monotonic()
        while True:
            try:
                if connection.poll(LOOK_EVERY_SECONDS):
                    kind, value = connection.recv()
                    if kind != "beat":
                        return kind, value
                    heard_at = time.monotonic()
            except (EOFError, ConnectionResetError):
                raise self._lost("decoder_crashed", self._death()) from None
            if (grown := self._grown_gb()) is not None:
                raise self._lost("decoder_memory", f"{grown:.1f} GB")
            if time.monotonic() - heard_at > self.settings.timeout_seconds:
                raise self._lost("decoder_timeout", f"{self.settings.timeout_seconds:g} s")

    def _grown_gb(self) -> float | None:
        assert self._child is not None
        try:
            gigabytes = psutil.Process(self._child.pid).memory_info().rss / 1e9
        except psutil.NoSuchProcess:
            return None
        return gigabytes if gigabytes > self.settings.max_memory_gb else None

    def _death(self) -> str:
        assert self._child is not None
        try:
            status = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def _lost(self, code: str, detail: str) -> DecoderError:
        self.close()
        return DecoderError(QUARANTINED, reason(code, detail))

    def _with_what_was_said(self, why: str) -> str:
        said = self._heard()
        return f"{why} ({said})" if said else why

    def _heard(self) -> str:
        """The first line that ffmpeg or the interpreter wrote to standard error, without its address."""
        return next(self._lines(), "")

    def _lines(self) -> Iterator[str]:
        self._said.seek(0)
        for line in self._said.read(HEARD_BYTES).decode(errors="replace").splitlines():
            if text := line.rpartition("] ")[2].strip():
                yield text[:HEARD_CHARACTERS]


# ---------------------------------------------------------------- what runs in the child

_parent: Connection | None = None
_beat_at = 0.0


def beat() -> None:
    """Tell the parent that work goes on; call it in every loop over frames."""
    global _beat_at
    now = time.monotonic()
    if _parent is not None and now - _beat_at > 1:
        _parent.send(("beat", None))
        _beat_at = now


def serve(connection: Connection, parent_id: int) -> None:
    """Answer calls until the parent is gone."""
    global _parent
    import traceback

    import av
    import cv2

    from pipelines.curation.video import UnreadableVideoError

    cv2.setNumThreads(1)
    av.logging.restore_default_callback()  # ffmpeg's words go to standard error, where the parent reads them
    av.logging.set_libav_level(av.logging.ERROR)
    _parent = connection
    # A machine that goes off says so to all its processes at once: were this one to end before its parent,
    # that would take it for the file's fault.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent_id,), daemon=True).start()
    connection.send(("ready", None))
    while True:
        try:
            module, name, arguments = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer = ("result", getattr(import_module(module), name)(*arguments))
        except UnreadableVideoError as error:
            answer = ("unreadable", str(error))
        except Exception:  # goes to the parent whole and is raised there
            answer = ("error", traceback.format_exc())
        connection.send(answer)


def _end_with(parent_id: int) -> None:
    """End this process when its parent is gone, also out of a call that hangs."""
    while os.getppid() == parent_id:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    # By its import name, so that `beat` of the functions called is this module's and not __main__'s.
    import_module("pipelines.curation.decode").serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
