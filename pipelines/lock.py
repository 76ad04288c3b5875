"""A file that one process at a time holds: on a file system a lock, on object storage a lease."""

import fcntl
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipelines.storage import file_system, is_remote

POLL_SECONDS = 0.05
LEASE_SECONDS = 30.0  # without a sign of life from its holder, after which a lease counts for nothing
LOST = 1  # exit code of a process whose lease another one took over


class HeldError(RuntimeError):
    """Another process holds the file; `owner` says which."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        super().__init__(f"{owner} holds it")


@contextmanager
def hold(path: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold `path` for this process, however it ends; parent folders are made.

    A lease of a process that was killed still stands for `LEASE_SECONDS`, which this one waits for.
    Raises HeldError when another process holds it after `wait_seconds`.
    """
    if is_remote(path):
        with _Lease(path, wait_seconds):
            yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        _flock(lock, wait_seconds)
        yield


def _flock(lock: TextIO, wait_seconds: float) -> None:
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - began < wait_seconds:
                time.sleep(POLL_SECONDS)
                continue
            lock.seek(0)
            raise HeldError(f"process {lock.read().strip() or '(unknown)'}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return


class _Lease:
    """An object that its holder writes anew while it lives, and deletes at the end.

    Clocks are not compared: a lease is over when nobody has written it for as long as one watched.
    """

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self.fs, self.key = file_system(path)
        self.wait_seconds = wait_seconds
        self.owner = f"process {os.getpid()} on {os.uname().nodename}"
        self.token = uuid.uuid4().hex
        self.ended = threading.Event()
        self.beats = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> None:
        began = time.monotonic()
        while not self._create():
            seen = self._content()
            if seen is not None and self._is_alive(seen) and time.monotonic() - began >= self.wait_seconds:
                raise HeldError(seen.partition("\n")[0])
        self.beats.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.beats.join()
        if self._is_ours():
            self.fs.rm_file(self.key)

    def _create(self) -> bool:
        try:
            self.fs.pipe_file(self.key, self._text(0), mode="create")
        except FileExistsError:
            return False
        return True

    def _is_alive(self, seen: str) -> bool:
        """Whether the lease changes while one watches; one that does not is deleted."""
        began = time.monotonic()
        while time.monotonic() - began < LEASE_SECONDS:
            time.sleep(min(1.0, LEASE_SECONDS / 10))
            now = self._content()
            if now != seen:
                return now is not None
        if self._content() == seen:
            self.fs.rm_file(self.key)
        return False

    def _keep(self) -> None:
        number = 0
        while not self.ended.wait(LEASE_SECONDS / 4):
            number += 1
            if not self._is_ours():
                print(
                    f"{self.owner} stood still for so long that another one took over {self.key}; it ends",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(LOST)  # at once: what it would still write is the other one's
            self.fs.pipe_file(self.key, self._text(number))

    def _content(self) -> str | None:
        try:
            return str(self.fs.cat_file(self.key).decode())
        except FileNotFoundError:
            return None

    def _is_ours(self) -> bool:
        return self.token in (self._content() or "")

    def _text(self, number: int) -> bytes:
        return f"{self.owner}\n{self.token}\n{number}\n".encode()
