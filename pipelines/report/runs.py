"""What training and evaluation left in a run, for the short end of the page."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.layout import RunLayout
from pipelines.recipe import Recipe, ScheduleSettings
from pipelines.report.charts import Curve, ScheduleChart, loss_curve, schedule_chart
from pipelines.report.thumbnails import Picture, encoded
from pipelines.training.log import read_log

GRID_WIDTH_PIXELS = 1200
VARIANTS = {"": "generated", "_ground_truth": "real videos", "_untrained": "untrained model"}


@dataclass(frozen=True)
class Stage:
    """One stage of training: its curve and what it took."""

    name: str
    steps: int
    seconds: float
    peak_memory_gb: float
    curve: Curve | None
    last_loss: float


@dataclass(frozen=True)
class Schedule:
    """A noise schedule, and the stages that were trained with it."""

    settings: ScheduleSettings
    stages: list[str]
    chart: ScheduleChart


@dataclass(frozen=True)
class MetricTable:
    """Metrics of one set of clips, and the variants that have any."""

    rows: list["MetricRow"]

    @property
    def variants(self) -> list[str]:
        return [each for each in VARIANTS.values() if any(each in row.values for row in self.rows)]


@dataclass
class MetricRow:
    """One metric of a set of clips, by variant: {variant: metric as in metrics.json}."""

    name: str
    values: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    name: str
    sets: dict[str, MetricTable]
    protocols: dict[str, str]
    grid: Picture | None


def step_record(folder: Path) -> dict[str, Any] | None:
    """What a step recorded when it came to its end; None when it has not."""
    path = folder / "step.json"
    return json.loads(path.read_text()) if path.is_file() else None


def training_stages(layout: RunLayout, recipe: Recipe) -> list[Stage]:
    """The recipe's stages that have a log, in order."""
    stages = []
    for settings in recipe.train.stages if recipe.train else ():
        lines = read_log(layout.log(settings.name))
        if not lines:
            continue
        stages.append(
            Stage(
                settings.name,
                lines[-1]["step"],
                sum(line["seconds_total"] for line in lines),
                max(line["peak_memory_gb"] for line in lines),
                loss_curve([line["step"] for line in lines], [line["loss"] for line in lines]),
                lines[-1]["loss"],
            )
        )
    return stages


def noise_schedules(recipe: Recipe, stages: list[Stage]) -> list[Schedule]:
    """The schedules of the stages that have a log, in order."""
    if not stages:
        return []
    import torch  # takes seconds to load

    from modeling.schedule import STABLE_DIFFUSION_TERMINAL_SNR, NoiseSchedule

    trained = {stage.name for stage in stages}
    names: dict[ScheduleSettings, list[str]] = {}
    for settings in recipe.train.stages if recipe.train else ():
        if settings.name in trained:
            names.setdefault(settings.schedule, []).append(settings.name)

    def snr(schedule: NoiseSchedule) -> list[float]:
        return schedule.snr(torch.arange(schedule.num_train_timesteps)).tolist()

    plain = snr(NoiseSchedule(terminal_snr=STABLE_DIFFUSION_TERMINAL_SNR))
    return [
        Schedule(settings, of, schedule_chart(snr(NoiseSchedule(**settings.model_dump())), plain))
        for settings, of in names.items()
    ]


def evaluations(layout: RunLayout, recipe: Recipe) -> list[Evaluation]:
    """Every evaluation that has metrics, the recipe's own (`final`) first."""
    paths = (layout.root / "evaluate").glob("*/metrics.json")
    found = []
    for path in sorted(paths, key=lambda path: (path.parent.name != "final", path.parent.name)):
        metrics = json.loads(path.read_text())["metrics"]
        grid = path.parent / "grid.png"
        picture = _smaller(grid) if grid.is_file() else None
        protocols = {metric["name"]: metric["protocol"] for metric in metrics if _is_plain(metric, recipe)}
        found.append(Evaluation(path.parent.name, metric_table(metrics, recipe), protocols, picture))
    return found


def metric_table(metrics: list[dict[str, Any]], recipe: Recipe) -> dict[str, MetricTable]:
    """{set: rows}: a metric's variants beside each other; names are NAME[_VARIANT][_SET]."""
    sets: dict[str, dict[str, MetricRow]] = {}
    for metric in metrics:
        name, variant, of = _parts(metric["name"], recipe)
        row = sets.setdefault(of, {}).setdefault(name, MetricRow(name))
        row.values[variant] = metric
    return {of: MetricTable(list(rows.values())) for of, rows in sets.items()}


def _is_plain(metric: dict[str, Any], recipe: Recipe) -> bool:
    _, variant, of = _parts(metric["name"], recipe)
    return variant == VARIANTS[""] and of == _set_names(recipe)[0]


def _parts(full_name: str, recipe: Recipe) -> tuple[str, str, str]:
    """(metric, variant, set); the first set has no name in a metric's name, nor have generated videos."""
    first, *others = _set_names(recipe)
    name, of = full_name, first
    for other in others:
        if full_name.endswith(f"_{other}"):
            name, of = full_name.removesuffix(f"_{other}"), other
    for suffix, variant in VARIANTS.items():
        if suffix and name.endswith(suffix):
            return name.removesuffix(suffix), variant, of
    return name, VARIANTS[""], of


def _set_names(recipe: Recipe) -> list[str]:
    return [each.name for each in recipe.evaluate.sets] if recipe.evaluate else ["all clips"]


def _smaller(path: Path) -> Picture:
    with Image.open(path) as file:
        image = file.convert("RGB")
        image.thumbnail((GRID_WIDTH_PIXELS, 4 * GRID_WIDTH_PIXELS), Image.Resampling.LANCZOS)
        return encoded(image)
