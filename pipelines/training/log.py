"""log.jsonl: a line a step, written by one worker, flushed at once, cut back on resume."""

import json
import os
import resource
import time
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.files import room_for, write_text
from pipelines.storage import is_remote

if TYPE_CHECKING:  # commands that only read logs need not wait for it
    import torch

TAIL_BYTES = 4096  # several lines
PHASES = ("checkpoint", "data", "forward", "backward", "optimizer")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; a last line that was cut off by a kill is not one."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]  # what stands after the last newline is unfinished
    return [json.loads(line) for line in lines]


def tail_log(path: Path) -> dict[str, Any]:
    """The last whole line of a log, without reading the rest; empty if there is none."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1]) if lines else {}


class StepLog:
    """Appends to a log from `after_step` on: what an interrupted run wrote beyond that is taken out.

    On object storage, where nothing can be appended, the log is uploaded whole at each `sync`.
    """

    def __init__(self, path: Path, *, after_step: int) -> None:
        self.path = path
        kept = "".join(json.dumps(line) + "\n" for line in read_log(path) if line["step"] <= after_step)
        write_text(path, kept)
        self.file: TextIO
        if is_remote(path):
            self.file = StringIO()
            self.file.write(kept)
        else:
            self.file = path.open("a")

    def write(self, line: dict[str, Any]) -> None:
        with room_for(self.path):
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()

    def sync(self) -> None:
        """To the disk: a checkpoint must not know more steps than the log."""
        if isinstance(self.file, StringIO):
            write_text(self.path, self.file.getvalue())
        else:
            os.fsync(self.file.fileno())

    def close(self) -> None:
        with room_for(self.path):  # for what could not be written before
            self.sync()
            self.file.close()


class StepClock:
    """Seconds of a step by phase; they add up to the whole."""

    def __init__(self, device: "torch.device") -> None:
        self.device = device
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Count the time since the last lap as `phase`."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[phase] += now - self.last
        self.last = now

    def columns(self) -> dict[str, float]:
        """`seconds_total`, `seconds_data`, …, and zero for the next step.

        What was written to disk after a step (checkpoint, validation) counts in the next line.
        """
        total = sum(self.seconds.values())
        columns = {"seconds_total": total, **{f"seconds_{phase}": s for phase, s in self.seconds.items()}}
        self.seconds = dict.fromkeys(PHASES, 0.0)
        return columns


def peak_memory_gb(device: "torch.device") -> float:
    """Most memory that this worker held: allocated on its GPU, resident on a CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
