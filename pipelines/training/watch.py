"""The driver's view of a training under way: progress for a person, metrics for MLflow, from the logs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.layout import RunLayout
from pipelines.progress import stderr_console, track
from pipelines.recipe import Recipe
from pipelines.secrets import without_secrets
from pipelines.training.log import tail_log
from pipelines.training.plan import StagePlan
from pipelines.training.tracking import Tracker

POLL_SECONDS = 0.5
SEND_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 120.0
LAST_SEND_SECONDS = 20.0
SLOWEST_UPLOAD_BYTES_PER_SECOND = 5e6  # of a model, which a server may take longer to receive than metrics


class Watch:
    """What was seen; filled while training runs."""

    def __init__(self, plans: list[StagePlan], started: float) -> None:
        self.plans = plans
        self.started = started
        self.seconds_to_first_step: float | None = None
        self.registered: dict[str, str] | None = None  # the model in MLflow's registry: name, version
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
    with _sending(recipe, plans, watch) as tracker, track(sum(p.steps for p in plans), "train") as progress:
        done = threading.Event()
        shower = threading.Thread(target=_show, args=(watch, progress, done), name="progress", daemon=True)
        shower.start()
        try:
            yield watch
        finally:
            done.set()
            shower.join()
            progress.update(*watch.look())
    watch.registered = tracker.registered


def send_all(recipe: Recipe, plans: list[StagePlan]) -> dict[str, str] | None:
    """Send what MLflow has not got yet of a training that is over; {"name", "version"} of its model there."""
    with _sending(recipe, plans, None) as tracker:
        pass
    return tracker.registered


@contextmanager
def _sending(recipe: Recipe, plans: list[StagePlan], watch: Watch | None) -> Iterator[Tracker]:
    """Send from a thread during the `with` block, and at its end what is left, as long as that goes on.

    watch: of a training that starts; None: there is nothing to wait for.
    """
    tracker = Tracker(recipe, plans)
    ending = _Ending()
    sender = threading.Thread(target=_send, args=(tracker, watch, ending), name="mlflow", daemon=True)
    sender.start()
    try:
        yield tracker
    except BaseException as error:
        ending.outcome = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        raise
    finally:
        ending.done.set()
        since = time.monotonic()
        while sender.is_alive() and time.monotonic() - since < _patience_seconds(tracker):
            sender.join(POLL_SECONDS)
        if sender.is_alive():
            ending.abandoned.set()
            stderr_console().print(
                f"MLflow at {tracker.state['uri']} does not answer; the metrics are in "
                f"{RunLayout.of(recipe).root / 'train'} and are sent by the next `dreamer train` of this "
                "recipe.",
                markup=False,
            )


class _Ending:
    """How a command that trains comes to its end, as its sender sees it."""

    def __init__(self) -> None:
        self.done, self.abandoned = threading.Event(), threading.Event()
        self.outcome: str | None = None  # MLflow's status of a run that was not finished


def _patience_seconds(tracker: Tracker) -> float:
    return LAST_SEND_SECONDS + tracker.bytes_to_send / SLOWEST_UPLOAD_BYTES_PER_SECOND


def _show(watch: Watch, progress: Any, done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        progress.update(*watch.look())


def _send(tracker: Tracker, watch: Watch | None, ending: _Ending) -> None:
    """Send at intervals, and at the end until all is sent or it is abandoned; a failure makes it wait."""
    while watch is not None and watch.seconds_to_first_step is None and not ending.done.wait(POLL_SECONDS):
        pass  # MLflow takes seconds of CPU to start: not before training has
    wait = SEND_SECONDS
    while not ending.abandoned.is_set():
        last = ending.done.is_set()
        try:
            tracker.send(ending.outcome if last else None)
            wait = SEND_SECONDS
            if last:
                return
        except Exception as error:  # whatever a client of a dead server raises; training must not notice
            if not ending.abandoned.is_set():
                said = f"{type(error).__name__}: {without_secrets(str(error))}"
                stderr_console().print(f"MLflow: {said}; trying again", markup=False)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        (ending.abandoned if last else ending.done).wait(wait)
