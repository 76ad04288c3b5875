"""What evaluations left in a run: metrics with intervals and protocols, contact sheets, playing videos."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.evaluation.reference import EvaluationClip, read_evaluation_clips
from pipelines.layout import RunLayout
from pipelines.media import MediaError, read_mp4
from pipelines.recipe import Recipe
from pipelines.report.intervals import Axis, Span, axis_over
from pipelines.report.pictures import Picture, in_step, playing, scaled

GRID_WIDTH_PIXELS = 1200
PLAYING_CLIPS = 8  # of an evaluation
HASH_LETTERS = 12
VARIANTS = {"": "generated", "_ground_truth": "real videos", "_untrained": "untrained model"}
KINDS = {"generated": "one", "real videos": "four", "untrained model": "five"}
FILES = {"generated": "generated", "ground_truth": "real", "untrained": "untrained"}  # of video_path

Metric = dict[str, Any]
"""An entry of metrics.json."""


@dataclass
class MetricRow:
    """One metric of a set of clips, by variant."""

    name: str
    values: dict[str, Metric] = field(default_factory=dict)

    @property
    def metric(self) -> Metric:
        """The one whose protocol stands for all of them: of generated videos if there is one."""
        return next(self.values[variant] for variant in VARIANTS.values() if variant in self.values)

    @property
    def spans(self) -> list[Span]:
        """A line for each variant, on the row's own axis; none for a single number, which has no axis."""
        if len(self.values) == 1 and not self.metric.get("interval"):
            return []
        axis = axis_of(list(self.values.values()))
        return [metric_span(axis, KINDS[variant], metric) for variant, metric in self.values.items()]


@dataclass(frozen=True)
class MetricTable:
    """Metrics of one set of clips, and the variants that have any."""

    rows: list[MetricRow]

    @property
    def variants(self) -> list[str]:
        return [each for each in VARIANTS.values() if any(each in row.values for row in self.rows)]


@dataclass(frozen=True)
class PlayedClip:
    """A clip's videos side by side, playing in step. shows: what they are, from left to right."""

    clip: EvaluationClip
    picture: Picture
    shows: list[str]
    seen: str


@dataclass(frozen=True)
class Evaluation:
    name: str
    sets: dict[str, MetricTable]
    grid: Picture | None
    played: list[PlayedClip]


def evaluations(layout: RunLayout, recipe: Recipe, most_bytes: int) -> list[Evaluation]:
    """Every evaluation that has metrics, the recipe's own (`final`) first.

    most_bytes: of each playing picture.
    """
    found = []
    for name in evaluation_names(layout):
        folder = layout.evaluation(name)
        grid = folder / "grid.png"
        picture = scaled(grid, GRID_WIDTH_PIXELS) if grid.is_file() else None
        played = _played(folder, most_bytes)
        found.append(Evaluation(name, metric_table(read_metrics(folder), recipe), picture, played))
    return found


def evaluation_names(layout: RunLayout) -> list[str]:
    """Of those that have metrics, `final` first."""
    names = [path.parent.name for path in (layout.root / "evaluate").glob("*/metrics.json")]
    return sorted(names, key=lambda name: (name != "final", name))


def read_metrics(folder: Path) -> list[Metric]:
    metrics: list[Metric] = json.loads((folder / "metrics.json").read_text())["metrics"]
    return metrics


def read_measures(folder: Path) -> list[dict[str, Any]]:
    """Rows of measures of single videos; none where an evaluation left none."""
    path = folder / "measures.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def clips_of(folder: Path) -> list[EvaluationClip]:
    path = folder / "clips.jsonl"
    return read_evaluation_clips(path) if path.is_file() else []


def shown_clips(clips: Sequence[EvaluationClip]) -> list[EvaluationClip]:
    """The first clips of the first set, then one of each other: a random choice, for ids are hashes."""
    firsts: dict[str, EvaluationClip] = {}
    for clip in clips:
        firsts.setdefault(clip.set, clip)
    others = list(firsts.values())[1 : 1 + PLAYING_CLIPS // 2]
    own = [clip for clip in clips if clip.set == clips[0].set]
    return [*own[: PLAYING_CLIPS - len(others)], *others]


def playing_videos(paths: Sequence[Path], most_bytes: int) -> Picture:
    """Video files side by side; one that is not there any more is said in the picture's place."""
    try:
        return playing(*in_step([read_mp4(path) for path in paths]), most_bytes)
    except (FileNotFoundError, MediaError) as error:
        return Picture(fault=str(error))


def _played(folder: Path, most_bytes: int) -> list[PlayedClip]:
    from pipelines.evaluation.measure import variants_of, video_path  # brings networks' libraries

    rows = [row for row in read_measures(folder) if row["variant"] == "generated"]
    measured = {(row["set"], row["clip_id"]): row for row in rows}
    found = []
    for clip in shown_clips(clips_of(folder)):
        variants = variants_of(clip)
        paths = [video_path(folder, variant, clip) for variant in variants]
        picture = playing_videos(paths, most_bytes)
        seen = seen_motion(measured.get((clip.set, clip.clip_id), {}))
        found.append(PlayedClip(clip, picture, [FILES[variant] for variant in variants], seen))
    return found


def seen_motion(row: dict[str, Any]) -> str:
    """What labelled objects were seen to do: `left`, or `up, asked for left`."""
    objects = row.get("objects") or ()
    return "; ".join(
        thing["seen"] if thing["seen"] == thing["asked"] else f"{thing['seen']}, asked for {thing['asked']}"
        for thing in objects
    )


# ---------------------------------------------------------------- metrics


def metric_table(metrics: Sequence[Metric], recipe: Recipe) -> dict[str, MetricTable]:
    """{set: rows}: a metric's variants beside each other; names are NAME[_VARIANT][_SET]."""
    sets: dict[str, dict[str, MetricRow]] = {}
    for metric in metrics:
        name, variant, of = _parts(metric["name"], recipe)
        row = sets.setdefault(of, {}).setdefault(name, MetricRow(name))
        row.values[variant] = metric
    return {of: MetricTable(list(rows.values())) for of, rows in sets.items()}


def axis_of(metrics: Sequence[Metric]) -> Axis:
    return axis_over(
        value for metric in metrics for value in (metric["value"], *(metric.get("interval") or ()))
    )


def metric_span(axis: Axis, kind: str, metric: Metric) -> Span:
    interval = metric.get("interval")
    title = f"{metric['name']}: {metric['value']:.4g}"
    if interval:
        title += f", 95 % interval {interval[0]:.3g} to {interval[1]:.3g}"
    return axis.span(kind, title, metric["value"], interval)


def short_hash(metric: Metric) -> str:
    """Of the feature network; empty for a metric without one."""
    return (metric.get("feature_network_sha256") or "")[:HASH_LETTERS]


def _parts(full_name: str, recipe: Recipe) -> tuple[str, str, str]:
    """(metric, variant, set); the first set has no name in a metric's name, nor have generated videos."""
    first, *others = [each.name for each in recipe.evaluate.sets] if recipe.evaluate else ["all clips"]
    name, of = full_name, first
    for other in others:
        if full_name.endswith(f"_{other}"):
            name, of = full_name.removesuffix(f"_{other}"), other
    for suffix, variant in VARIANTS.items():
        if suffix and name.endswith(suffix):
            return name.removesuffix(suffix), variant, of
    return name, VARIANTS[""], of
