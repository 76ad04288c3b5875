"""A disk of our own whose size changes under a command: a file system in memory, which needs no root."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WIDE = "4g"  # nothing of it is taken before it is used
BLOCK_BYTES = 4096


class CannotError(Exception):
    """This machine cannot do that to a command."""


class Disk:
    """Mounted at `folder` for processes that `inside` starts, and for them alone.

    seen: the same folder as other processes find it.
    """

    def __init__(self, folder: Path, holder: int) -> None:
        self.folder = folder
        self.seen = Path(f"/proc/{holder}/root{folder}")
        self.inside = ["nsenter", "--target", str(holder), "--user", "--mount", "--preserve-credentials"]

    def fill(self) -> None:
        """Leave no room, whatever is being written at this moment."""
        for _ in range(1000):
            if self._resize(str(shutil.disk_usage(self.seen).used + BLOCK_BYTES)):
                return
        raise CannotError("the disk grew faster than it could be made small")

    def widen(self) -> None:
        assert self._resize(WIDE)

    def _resize(self, size: str) -> bool:
        command = [*self.inside, "mount", "-o", f"remount,size={size}", str(self.folder)]
        return subprocess.run(command, capture_output=True).returncode == 0


@contextmanager
def own_disk(folder: Path) -> Iterator[Disk]:
    """Raises CannotError where users may not have name spaces of their own."""
    folder.mkdir()
    if not all(map(shutil.which, ("unshare", "nsenter"))):
        raise CannotError("no disk of our own: unshare and nsenter (util-linux) are not there")
    script = f"mount -t tmpfs -o size={WIDE} tmpfs {folder} && echo there && exec cat"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as holder:  # ends with its standard input
        if holder.stdout.readline().strip() != "there":
            raise CannotError(f"no disk of our own: {holder.stderr.read().strip()}")
        yield Disk(folder, holder.pid)
