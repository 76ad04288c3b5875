"""What training left in a run: logs, curves, noise schedules and sample videos of each stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.layout import RunLayout
from pipelines.media import read_mp4
from pipelines.recipe import Recipe, ScheduleSettings, StageSettings, TrainSettings
from pipelines.report.lines import LineChart, Series, line_chart, stacked_chart
from pipelines.report.pictures import Picture, playing, scaled
from pipelines.training.log import read_log
from pipelines.training.samples import sample_files

SHEET_WIDTH_PIXELS = 1000
PLAYING_STEPS = 4  # of a stage, spread over its time
PLAYING_WIDTH_PIXELS = 560
PHASE_KINDS = {
    "forward": "one",
    "backward": "two",
    "optimizer": "three",
    "data": "four",
    "checkpoint": "five",
}
LOG_SNR_TOP, LOG_SNR_BASE = 8.0, -12.0  # natural logarithms; SNR 0 is drawn at the base


@dataclass(frozen=True)
class StageLog:
    """What one stage wrote at every step, and at its validations."""

    settings: StageSettings
    train: TrainSettings
    folder: Path
    lines: list[dict[str, Any]]
    validation: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def steps(self) -> int:
        return int(self.lines[-1]["step"])

    @property
    def seconds(self) -> float:
        return sum(line["seconds_total"] for line in self.lines)

    @property
    def peak_memory_gb(self) -> float:
        return max(line["peak_memory_gb"] for line in self.lines)

    @property
    def last_loss(self) -> float:
        return float(self.lines[-1]["loss"])

    def column(self, name: str) -> np.ndarray:
        """(N,) of one value of every step; NaN where a line does not have it."""
        return _column(self.lines, name)

    def series(self, title: str, name: str, kind: str) -> Series:
        return Series(title, kind, self.column("step"), self.column(name), smooth=True)

    def validation_series(self, title: str, kind: str) -> Series:
        return Series(title, kind, _column(self.validation, "step"), _column(self.validation, "loss"))

    @cached_property
    def charts(self) -> list[LineChart]:
        """Every curve of this stage that has a value."""
        flow = self.settings.predict_flow
        loss = [self.series("diffusion", "loss_diffusion", "one")]
        if flow:
            loss.insert(0, self.series("loss", "loss", "two"))
        loss.append(self.validation_series("validation", "three"))
        weight = f"Charbonnier, in the loss {self.settings.flow_weight:g} times"
        flow_loss = self.series("flow loss", "loss_flow", "two")
        found = [
            line_chart("Loss", "mean squared error", loss),
            line_chart("Flow loss", weight, [flow_loss]) if flow else None,
            line_chart("Learning rate", "of AdamW", [self._rate], from_zero=True),
            line_chart(
                "Gradient norm",
                "before clipping",
                [self.series("norm", "grad_norm", "one")],
                levels={"clipped above": self.train.max_grad_norm},
            ),
            line_chart(
                "Speed",
                "samples per second",
                [self.series("samples/s", "samples_per_second", "one")],
                from_zero=True,
            ),
            self._split,
        ]
        return [chart for chart in found if chart is not None]

    @property
    def _rate(self) -> Series:
        return Series("learning rate", "one", self.column("step"), self.column("learning_rate"))

    @property
    def _split(self) -> LineChart | None:
        parts = {phase: self.column(f"seconds_{phase}") for phase in PHASE_KINDS}
        return stacked_chart(
            "Where a step's time goes",
            "seconds, means of neighbouring steps",
            self.column("step"),
            parts,
            list(PHASE_KINDS.values()),
        )


@dataclass(frozen=True)
class Samples:
    """Videos that a stage drew on its way. sheet: the last step's, frame by frame, with the real clips."""

    stage: str
    step: int
    sheet: Picture
    playing: list[tuple[int, Picture]]  # (step, all clips of that step)


@dataclass(frozen=True)
class Schedule:
    """A noise schedule, and the stages that were trained with it."""

    settings: ScheduleSettings
    stages: list[str]
    chart: LineChart


def stage_logs(layout: RunLayout, recipe: Recipe) -> list[StageLog]:
    """The recipe's stages that have a log, in order."""
    found = []
    train = recipe.train
    for settings in train.stages if train else ():
        folder = layout.stage(settings.name)
        if train and (lines := read_log(layout.log(settings.name))):
            found.append(StageLog(settings, train, folder, lines, read_log(folder / "validation.jsonl")))
    return found


def whole_training(logs: Sequence[StageLog]) -> LineChart | None:
    """The loss of all stages, one after the other."""
    series, done = [], 0
    for number, log in enumerate(logs):
        steps = log.column("step") + done
        kind = ("one", "two", "three", "four")[number % 4]
        series.append(Series(log.name, kind, steps, log.column("loss"), smooth=True))
        done += log.steps
    return line_chart("Loss of all stages", "as each stage counts it", series)


def chosen_steps(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of some steps, spread evenly; the first and the last are among them."""
    places = np.unique(np.linspace(0, len(steps) - 1, min(count, len(steps))).round().astype(int))
    return [steps[place] for place in places]


def samples_of(log: StageLog, most_bytes: int) -> Samples | None:
    """What is in a stage's folder of samples; None when it drew none.

    most_bytes: of each playing picture.
    """
    files = {step: {path.suffix: path for path in found} for step, found in sample_files(log.folder)}
    if not files:
        return None
    last = max(files)
    shown = []
    for step in chosen_steps(sorted(files), PLAYING_STEPS):
        frames, fps = read_mp4(files[step][".mp4"])
        shown.append((step, playing(_narrower(frames), fps, most_bytes)))
    return Samples(log.name, last, scaled(files[last][".png"], SHEET_WIDTH_PIXELS), shown)


def _narrower(frames: np.ndarray) -> np.ndarray:
    from pipelines.media import enlarge

    height, width = frames.shape[1:3]
    return enlarge(frames, round(height * min(1.0, PLAYING_WIDTH_PIXELS / width)))


def noise_schedules(recipe: Recipe, stages: Sequence[StageLog]) -> list[Schedule]:
    """The schedules of the stages that have a log, in order."""
    if not stages:
        return []
    import torch  # takes seconds to load

    from modeling.schedule import STABLE_DIFFUSION_TERMINAL_SNR, NoiseSchedule

    names: dict[ScheduleSettings, list[str]] = {}
    for stage in stages:
        names.setdefault(stage.settings.schedule, []).append(stage.name)

    def snr(schedule: NoiseSchedule) -> np.ndarray:
        return schedule.snr(torch.arange(schedule.num_train_timesteps)).numpy()

    plain = snr(NoiseSchedule(terminal_snr=STABLE_DIFFUSION_TERMINAL_SNR))
    return [
        Schedule(settings, of, schedule_chart(snr(NoiseSchedule(**settings.model_dump())), plain))
        for settings, of in names.items()
    ]


def schedule_chart(snr: np.ndarray, plain_snr: np.ndarray) -> LineChart:
    """log SNR over the timesteps, of a schedule and of Stable Diffusion's own.

    snr, plain_snr: (T,) signal-to-noise ratio of each timestep, falling. SNR 0 is drawn at the base.
    """

    def curve(name: str, kind: str, values: np.ndarray) -> Series:
        logarithms = np.log(np.maximum(values, np.exp(LOG_SNR_BASE)))
        return Series(name, kind, range(len(values)), logarithms)

    chart = line_chart(
        "Noise schedule",
        "log signal-to-noise ratio over the timestep t",
        [curve("Stable Diffusion's", "five", plain_snr), curve("this run's", "one", snr)],
        over="t",
        limits=(LOG_SNR_BASE, LOG_SNR_TOP),
        levels={"signal = noise": 0.0},
    )
    assert chart is not None  # a ratio is finite
    return chart


def _column(lines: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if (value := line.get(name)) is None else value for line in lines], float)
