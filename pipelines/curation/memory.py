"""Peak memory of units of work, as the kernel counts it."""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Peaks(dict[str, float]):
    """{stage: the most resident memory that one of its processes held, in GB}."""

    def note(self, stage: str, gigabytes: float) -> None:
        self[stage] = max(self.get(stage, 0.0), gigabytes)


def peak_memory_gb(process_id: int | None = None) -> float:
    """Most resident memory of a process (default: this one) since its start or its last `forget_peak`.

    0 when it is gone. Not from getrusage, whose ru_maxrss also counts what the process that started this
    one held: exec keeps it.
    """
    try:
        status = Path(f"/proc/{process_id or 'self'}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    kibibytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kibibytes[0]) * 1024 / 1e9 if kibibytes else 0.0


def forget_peak() -> None:
    """Count this process's peak from now on: Ray gives one process units of work of several stages."""
    with suppress(OSError):  # a sandbox may forbid it; the peak is then that of the process so far
        Path("/proc/self/clear_refs").write_text("5")


def with_peak(function: Callable[P, T]) -> Callable[P, tuple[T, float]]:
    """`function`, returning (its result, peak memory of its process meanwhile in GB)."""

    @wraps(function)
    def measured(*arguments: P.args, **named: P.kwargs) -> tuple[T, float]:
        forget_peak()
        result = function(*arguments, **named)
        return result, peak_memory_gb()

    return measured
