"""Progress of long steps, on stderr: what, how far, how long still."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 10.0
LINE_EVERY_FRACTION = 0.1


def stderr_console() -> Console:
    """A console on what is stderr now (tests and `--json` change it)."""
    return Console(stderr=True)


@dataclass
class Track:
    """One running step; call `advance` or `update` as work is done.

    On a terminal it is a bar; elsewhere a line at every tenth of the way, at least `LINE_EVERY_SECONDS`
    apart, so that a log of hours stays readable.
    """

    description: str
    total: float | None
    done: float = 0
    detail: str = ""
    _bar: Progress | None = None
    _task: TaskID | None = None
    _console: Console = field(default_factory=stderr_console)
    _started: float = field(default_factory=time.monotonic)
    _line_at: float = field(default_factory=time.monotonic)
    _line_done: float = 0

    def advance(self, amount: float = 1, detail: str | None = None) -> None:
        self.update(self.done + amount, detail)

    def update(self, done: float, detail: str | None = None, total: float | None = None) -> None:
        """Set how far the step is; `detail` is a short addition, such as `loss 0.031`."""
        self.done = done
        self.detail = self.detail if detail is None else detail
        self.total = self.total if total is None else total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=self.total, detail=self.detail)
        elif self._due():
            self._line()

    def _due(self) -> bool:
        waited = time.monotonic() - self._line_at
        if self.total is None:
            return waited >= LINE_EVERY_SECONDS
        step = (self.done - self._line_done) / max(self.total, 1e-9)
        # Slow steps say something at least once a minute, even between two tenths.
        return waited >= LINE_EVERY_SECONDS and (
            step >= LINE_EVERY_FRACTION or waited >= 6 * LINE_EVERY_SECONDS
        )

    def _line(self) -> None:
        elapsed = time.monotonic() - self._started
        far = f"{self.done:g}" if self.total is None else f"{self.done:g}/{self.total:g}"
        parts = [f"{self.description}: {far}", f"{_clock(elapsed)} so far"]
        if self.total is not None and 0 < self.done < self.total:
            parts.append(f"{_clock(elapsed * (self.total - self.done) / self.done)} still")
        parts += [self.detail] if self.detail else []
        self._console.print(", ".join(parts), markup=False, highlight=False, soft_wrap=True)
        self._line_at, self._line_done = time.monotonic(), self.done


@contextmanager
def track(total: float | None, description: str) -> Iterator[Track]:
    """Show a step's progress on stderr; `total` None: unknown until `update(total=...)`.

    with track(len(clips), "evaluate: draw") as step:
        for clip in clips:
            ...
            step.advance(detail=f"psnr {psnr_db:.1f} dB")
    """
    console = stderr_console()
    if not console.is_terminal:
        step = Track(description, total, _console=console)
        yield step
        step._line()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("still"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, detail="")
        yield Track(description, total, _bar=bar, _task=task, _console=console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
