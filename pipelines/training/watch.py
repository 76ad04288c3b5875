"""The driver's view of a training under way: progress for a person, metrics for MLflow, from the logs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.progress import stderr_console, track
from pipelines.recipe import Recipe
from pipelines.training.log import tail_log
from pipelines.training.plan import StagePlan
from pipelines.training.tracking import Tracker

POLL_SECONDS = 0.5
SEND_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 120.0
LAST_SEND_SECONDS = 20.0


class Watch:
    """What was seen; filled while training runs."""

    def __init__(self, plans: list[StagePlan], started: float) -> None:
        self.plans = plans
        self.started = started
        self.seconds_to_first_step: float | None = None
        self._at_start = self.steps()

    def steps(self) -> int:
        """Steps done in all stages together."""
        return sum(self._last(plan).get("step", 0) for plan in self.plans)

    def look(self) -> tuple[int, str]:
        """(steps done in all stages, a word on the newest)."""
        newest: tuple[StagePlan, dict[str, Any]] | None = None
        done = 0
        for plan in self.plans:
            if line := self._last(plan):
                done += line["step"]
                newest = (plan, line)
        if done > self._at_start and self.seconds_to_first_step is None:
            self.seconds_to_first_step = time.monotonic() - self.started
        if newest is None or self.seconds_to_first_step is None:
            return done, "starting workers"
        plan, line = newest
        return done, f"{plan.stage.name} loss {line['loss']:.4f}, {line['samples_per_second']:.1f} samples/s"

    @staticmethod
    def _last(plan: StagePlan) -> dict[str, Any]:
        return tail_log(plan.folder / "log.jsonl")


@contextmanager
def watching(recipe: Recipe, plans: list[StagePlan], started: float) -> Iterator[Watch]:
    """Show progress and feed MLflow from threads while the `with` block trains.

    started: when the command began, by time.monotonic.
    """
    watch = Watch(plans, started)
    done, abandoned = threading.Event(), threading.Event()
    tracker = Tracker(recipe, plans)
    sender = threading.Thread(
        target=_send, args=(tracker, watch, done, abandoned), name="mlflow", daemon=True
    )
    sender.start()
    with track(sum(plan.steps for plan in plans), "train") as progress:
        shower = threading.Thread(target=_show, args=(watch, progress, done), name="progress", daemon=True)
        shower.start()
        try:
            yield watch
        finally:
            done.set()
            shower.join()
            progress.update(*watch.look())
    sender.join(LAST_SEND_SECONDS)
    if sender.is_alive():
        abandoned.set()
        stderr_console().print(
            f"MLflow at {tracker.state['uri']} does not answer; the metrics are in "
            f"{Path(recipe.run_directory) / 'train'} and are sent by the next `dreamer train` of this recipe."
        )


def _show(watch: Watch, progress: Any, done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        progress.update(*watch.look())


def _send(tracker: Tracker, watch: Watch, done: threading.Event, abandoned: threading.Event) -> None:
    """Send at intervals, and at the end until all is sent or it is abandoned; a failure makes it wait."""
    while watch.seconds_to_first_step is None and not done.wait(POLL_SECONDS):
        pass  # MLflow takes seconds of CPU to start: not before training has
    wait = SEND_SECONDS
    while not abandoned.is_set():
        last = done.is_set()
        try:
            tracker.send()
            wait = SEND_SECONDS
            if last:
                return
        except Exception as error:  # whatever a client of a dead server raises; training must not notice
            if not abandoned.is_set():
                stderr_console().print(f"MLflow: {type(error).__name__}: {error}; trying again", markup=False)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        (abandoned if last else done).wait(wait)
