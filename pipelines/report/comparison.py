"""Two runs beside each other: recipes, curation, losses, metrics over the same clips, and their videos."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.evaluation.reference import EvaluationClip
from pipelines.files import write_text
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.report.evaluation import (
    PLAYING_CLIPS,
    Metric,
    axis_of,
    clips_of,
    evaluation_names,
    metric_span,
    metric_table,
    playing_videos,
    read_measures,
    read_metrics,
    shown_clips,
)
from pipelines.report.figures import Figures, collect_figures
from pipelines.report.funnel import FunnelStep, filtered_for, funnel
from pipelines.report.intervals import Span
from pipelines.report.lines import LineChart, Series, line_chart
from pipelines.report.page import opened_run
from pipelines.report.pairing import Difference, Row, clip_shares, paired_difference
from pipelines.report.pictures import PLAYING_BYTES, Picture
from pipelines.report.rendering import render
from pipelines.report.training import StageLog, stage_logs

LETTERS, KINDS = ("A", "B"), ("one", "two")
PLACES = ("run_directory",)  # settings that say where, and never what
MEASURED_BY = ("protocol", "frames", "fps", "resize", "feature_network_sha256")
NOT_THERE = "not there"

Summary = dict[str, Any]


class ComparisonError(ValueError):
    """Two runs that cannot be compared; the message says why."""


@dataclass(frozen=True)
class Run:
    """One of the two. figures: None when it was not curated."""

    layout: RunLayout
    recipe: Recipe
    figures: Figures | None
    logs: dict[str, StageLog]

    @property
    def funnel(self) -> list[FunnelStep]:
        return funnel(self.figures, self.recipe) if self.figures else []

    @property
    def dynamic_threshold(self) -> float:
        return self.recipe.evaluate.dynamic_threshold if self.recipe.evaluate else 0.0


@dataclass(frozen=True)
class MetricPair:
    """A metric of both runs. difference: None when it cannot be paired; `why_not` then says why."""

    name: str
    metrics: tuple[Metric | None, Metric | None]
    spans: list[Span]
    difference: Difference | None
    why_not: str

    @property
    def is_measured_otherwise(self) -> bool:
        first, second = self.metrics
        return bool(first and second and _otherwise(first, second))


@dataclass(frozen=True)
class PairedClip:
    clip: EvaluationClip
    picture: Picture
    told: str  # what the second run was told, when that is something else


@dataclass(frozen=True)
class StagePair:
    """A stage that at least one of the runs trained."""

    name: str
    logs: tuple[StageLog | None, StageLog | None]
    chart: LineChart | None


class Comparison:
    """What the template reads."""

    def __init__(self, runs: tuple[Run, Run]) -> None:
        self.runs = runs
        self.settings = setting_differences(runs[0].recipe, runs[1].recipe)

    @cached_property
    def names(self) -> tuple[str, str]:
        """The folders' names, with as much of their paths as tells them apart."""
        parts = [run.layout.root.parts for run in self.runs]
        shared = next(
            (count for count in range(1, min(map(len, parts))) if parts[0][-count:] != parts[1][-count:]),
            min(map(len, parts)),
        )
        first, second = ("/".join(each[-shared:]) for each in parts)
        return first, second

    @cached_property
    def funnel(self) -> list[tuple[str, str, tuple[int | None, int | None]]]:
        """(step, its meaning, its count in either run)."""
        steps = [{step.name: step for step in run.funnel} for run in self.runs]
        names = {name: step for each in steps for name, step in each.items()}
        return [
            (name, step.meaning, _pair(each[name].count if name in each else None for each in steps))
            for name, step in names.items()
        ]

    @cached_property
    def reasons(self) -> list[tuple[str, tuple[int, int]]]:
        """(filter's reason, clips that it dropped in either run), the most frequent first."""
        counts = [filtered_for(run.figures) if run.figures else {} for run in self.runs]
        codes = sorted(
            counts[0].keys() | counts[1].keys(), key=lambda c: (-sum(n.get(c, 0) for n in counts), c)
        )
        return [(code, _pair(each.get(code, 0) for each in counts)) for code in codes]

    @cached_property
    def stages(self) -> list[StagePair]:
        names = dict.fromkeys(name for run in self.runs for name in run.logs)
        found = []
        for name in names:
            logs = _pair(run.logs.get(name) for run in self.runs)
            found.append(StagePair(name, logs, _loss_chart(logs)))
        return found

    @cached_property
    def evaluations(self) -> list[str]:
        """Names of those that both runs have."""
        first, second = (evaluation_names(run.layout) for run in self.runs)
        return [name for name in first if name in second]

    @cached_property
    def metrics(self) -> dict[str, dict[str, list[MetricPair]]]:
        """{evaluation: {set: its metrics}} of generated videos."""
        return {name: metric_pairs(self.runs, name) for name in self.evaluations}

    @cached_property
    def clips(self) -> list[PairedClip]:
        """The same clips as both runs drew them, of the first evaluation that both have."""
        return paired_clips(self.runs, self.evaluations[0]) if self.evaluations else []


def write_comparison(run_directory: Path, other: Path) -> Summary:
    """Write RUN/report-with-OTHER.html; returns its path, its size and how much there was to compare.

    Raises FileNotFoundError when one of the folders is no run directory, RecipeError when a recipe cannot be
    read, ComparisonError when both are the same run.
    """
    if run_directory.absolute() == other.absolute():
        raise ComparisonError(f"{other} is the same run: name another one with --with")
    comparison = Comparison((_opened(run_directory), _opened(other)))
    named = comparison.names[1].replace("/", "-")
    path = comparison.runs[0].layout.root / f"report-with-{named}.html"
    page = render("comparison.html", comparison=comparison, letters=LETTERS, kinds=KINDS)
    write_text(path, page)
    pairs = [pair for sets in comparison.metrics.values() for rows in sets.values() for pair in rows]
    return {
        "report": str(path),
        "bytes": path.stat().st_size,
        "runs": [str(run.layout.root) for run in comparison.runs],
        "settings_that_differ": len(comparison.settings),
        "metrics": len(pairs),
        "metrics_paired": sum(pair.difference is not None for pair in pairs),
        "metrics_that_differ": sum(bool(pair.difference and pair.difference.is_clear) for pair in pairs),
        "clips_side_by_side": sum(not clip.picture.fault for clip in comparison.clips),
    }


def _opened(run_directory: Path) -> Run:
    layout, recipe = opened_run(run_directory)
    curated = any(layout.clips.glob("*.parquet"))
    figures = collect_figures(layout, recipe) if curated else None
    return Run(layout, recipe, figures, {log.name: log for log in stage_logs(layout, recipe)})


# ---------------------------------------------------------------- recipes


def setting_differences(first: Recipe, second: Recipe) -> list[tuple[str, str, str]]:
    """(setting, its value in the first, in the second) of those that differ, in the recipe's order."""
    settings = [dict(_settings(recipe.model_dump(mode="json"))) for recipe in (first, second)]
    keys = dict.fromkeys(key for each in settings for key in each if key not in PLACES)
    told = [(key, *(each.get(key, NOT_THERE) for each in settings)) for key in keys]
    return [(key, one, other) for key, one, other in told if one != other]


def _settings(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its path; entries of a list that have names go by them, not by their place."""
    if isinstance(tree, list) and tree and all(isinstance(each, dict) and "name" in each for each in tree):
        tree = {each["name"]: {key: value for key, value in each.items() if key != "name"} for each in tree}
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _settings(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False)


# ---------------------------------------------------------------- training


def _loss_chart(logs: Sequence[StageLog | None]) -> LineChart | None:
    """Losses and validation losses of a stage over each other, by samples: batches may differ."""
    series = []
    for letter, kind, log in zip(LETTERS, KINDS, logs, strict=True):
        if log is None:
            continue
        batch = log.train.global_batch_clips
        held_out = log.validation_series(f"{letter} val.", f"{kind} dashed")
        samples = [step * batch for step in held_out.x]
        series.append(Series(letter, kind, log.column("samples"), log.column("loss_diffusion"), smooth=True))
        series.append(Series(held_out.name, held_out.kind, samples, held_out.y))
    return line_chart("Diffusion loss", "mean squared error over the samples seen", series, over="clips")


# ---------------------------------------------------------------- metrics


def metric_pairs(runs: Sequence[Run], evaluation: str) -> dict[str, list[MetricPair]]:
    """{set: metrics of generated videos that either run has} of an evaluation that both have."""
    folders = [run.layout.evaluation(evaluation) for run in runs]
    tables = [metric_table(read_metrics(f), run.recipe) for f, run in zip(folders, runs, strict=True)]
    measures = [[row for row in read_measures(f) if row["variant"] == "generated"] for f in folders]
    found = {}
    for of in dict.fromkeys(name for table in tables for name in table):
        rows = [{row.name: row for row in table[of].rows} if of in table else {} for table in tables]
        own = [[row for row in each if row["set"] == of] for each in measures]
        pairs = []
        for name in dict.fromkeys(name for each in rows for name in each):
            metrics = _pair(each[name].values.get("generated") if name in each else None for each in rows)
            if any(metrics):
                pairs.append(_metric_pair(name, metrics, runs, own))
        found[of] = pairs
    return found


def _metric_pair(
    name: str, metrics: tuple[Metric | None, Metric | None], runs: Sequence[Run], rows: Sequence[list[Row]]
) -> MetricPair:
    first, second = metrics
    there = [metric for metric in metrics if metric is not None]
    axis = axis_of(there)
    spans = [metric_span(axis, kind, m) for kind, m in zip(KINDS, metrics, strict=True) if m is not None]
    if first is None or second is None:
        return MetricPair(name, metrics, spans if len(there) > 1 else [], None, "only one run has it")
    if other := _otherwise(first, second):
        why = f"measured otherwise: {', '.join(key.replace('_', ' ') for key in other)}"
        return MetricPair(name, metrics, [], None, why)
    shares = [
        clip_shares(own, name, metric, run.dynamic_threshold)
        for own, metric, run in zip(rows, there, runs, strict=True)
    ]
    if shares[0] is None or shares[1] is None:
        return MetricPair(name, metrics, spans, None, "no value of single clips")
    difference = paired_difference(shares[0], shares[1])
    return MetricPair(
        name, metrics, spans, difference, "" if difference else "fewer than two clips in common"
    )


def _otherwise(first: Metric, second: Metric) -> list[str]:
    """What two metrics of one name were measured by differently."""
    return [key for key in MEASURED_BY if first.get(key) != second.get(key)]


# ---------------------------------------------------------------- videos


def paired_clips(runs: Sequence[Run], evaluation: str) -> list[PairedClip]:
    """Some of the clips that both runs drew: real, first and second run side by side, playing in step."""
    from pipelines.evaluation.measure import video_path  # brings networks' libraries

    folders = [run.layout.evaluation(evaluation) for run in runs]
    second = {(clip.set, clip.clip_id): clip for clip in clips_of(folders[1])}
    both = [clip for clip in clips_of(folders[0]) if (clip.set, clip.clip_id) in second]
    shown = shown_clips(both)
    found = []
    for clip in shown:
        other = second[clip.set, clip.clip_id]
        paths = [video_path(folders[0], "ground_truth", clip)]
        paths += [video_path(f, "generated", c) for f, c in zip(folders, (clip, other), strict=True)]
        picture = playing_videos(paths, PLAYING_BYTES // max(PLAYING_CLIPS, len(shown)))
        same = (clip.motion_caption, clip.appearance_caption) == (
            other.motion_caption,
            other.appearance_caption,
        )
        told = "" if same else f"B was told: {other.appearance_caption}; {other.motion_caption}"
        found.append(PairedClip(clip, picture, told))
    return found


def _pair(items: Any) -> tuple[Any, Any]:
    first, second = items
    return first, second
