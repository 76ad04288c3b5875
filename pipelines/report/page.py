"""`write_report`: the figures of a run laid out as one HTML file."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.curation.verdicts import FAILED, FILTERED, KEPT, QUARANTINED, REASONS, VERDICTS
from pipelines.files import write_text
from pipelines.layout import RunLayout
from pipelines.progress import track
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.report.ablation import read_ablation
from pipelines.report.charts import histogram_chart
from pipelines.report.evaluation import PLAYING_CLIPS, evaluation_names, evaluations
from pipelines.report.figures import Bucket, Figures, collect_figures
from pipelines.report.funnel import CLIP_NOUN, SOURCE_NOUN, FunnelStep, funnel, share_of
from pipelines.report.pictures import PLAYING_BYTES, Picture
from pipelines.report.rendering import render
from pipelines.report.sample import FAILURES, Row, reason_detail
from pipelines.report.thumbnails import Strips
from pipelines.report.training import PLAYING_STEPS, noise_schedules, samples_of, stage_logs, whole_training

Summary = dict[str, Any]


@dataclass(frozen=True)
class Reason:
    """Why rows were dropped: how many, and which share of what they are."""

    code: str
    meaning: str
    verdict: str
    count: int
    noun: str
    share: float


@dataclass(frozen=True)
class Shown:
    """A clip on the page."""

    row: Row
    picture: Picture
    detail: str
    original: "Shown | None" = None


class Report:
    """What the template reads."""

    def __init__(self, layout: RunLayout, recipe: Recipe, figures: Figures) -> None:
        self.layout, self.recipe, self.figures = layout, recipe, figures
        record = step_record(layout.data)
        self.record: Summary | None = record["summary"] if record else None
        self.stages = stage_logs(layout, recipe)
        self.training_chart = whole_training(self.stages) if len(self.stages) > 1 else None
        self.schedules = noise_schedules(recipe, self.stages)
        names = evaluation_names(layout)
        most_bytes = PLAYING_BYTES // max(1, PLAYING_STEPS * len(self.stages) + PLAYING_CLIPS * len(names))
        self.samples = [each for log in self.stages if (each := samples_of(log, most_bytes))]
        self.evaluations = evaluations(layout, recipe, most_bytes)
        self.ablation = read_ablation(layout)
        self.kept: list[Shown] = []
        self.dropped: dict[str, list[Shown]] = {}

    @property
    def sources(self) -> int:
        return self.figures.sources.total()

    @property
    def clips(self) -> int:
        return self.figures.clips.total()

    @property
    def kept_clips(self) -> int:
        return self.figures.clips[KEPT]

    @cached_property
    def books(self) -> list[tuple[str, int, float]]:
        """(verdict, sources, share): they add up to all sources."""
        return [
            (v, self.figures.sources[v], share_of(self.figures.sources[v], self.sources)) for v in VERDICTS
        ]

    @cached_property
    def funnel(self) -> list[FunnelStep]:
        return funnel(self.figures, self.recipe)

    @cached_property
    def reasons(self) -> dict[str, list[Reason]]:
        """{verdict: its reasons, the most frequent first}."""
        found: dict[str, list[Reason]] = {}
        ranked = sorted(self.figures.reasons.items(), key=lambda item: (-item[1], item[0]))
        for verdict in (FILTERED, FAILED, QUARANTINED):
            for (each, code, is_clip), count in ranked:
                if each == verdict:
                    noun, of = (CLIP_NOUN, self.clips) if is_clip else (SOURCE_NOUN, self.sources)
                    # A code of a later version than this one is shown without a meaning, not left out.
                    reason = Reason(code, REASONS.get(code, ""), verdict, count, noun, share_of(count, of))
                    found.setdefault(verdict, []).append(reason)
        return found

    @cached_property
    def charts(self) -> list[tuple[Any, Any]]:
        """(histogram, its chart or None when the score was not computed)."""
        return [(each, histogram_chart(each) if each.total else None) for each in self.figures.histograms]

    @cached_property
    def tiers(self) -> dict[str, str]:
        """{bucket: its tier}."""
        tiers = self.recipe.curation.tiers
        return {str(bucket): tier for tier, buckets in tiers.items() for bucket in buckets}

    @cached_property
    def buckets(self) -> list[tuple[str, Bucket]]:
        """In the recipe's order of tiers; those that it no longer has come last."""
        order = list(self.tiers)
        found = sorted(self.figures.buckets.items())
        return sorted(found, key=lambda item: order.index(item[0]) if item[0] in order else len(order))

    @cached_property
    def splits(self) -> list[tuple[str, int, int]]:
        """(split, kept clips, clips)."""
        counts = self.figures.splits
        names = sorted({split for split, _ in counts})
        return [(n, counts[n, KEPT], sum(counts[n, verdict] for verdict in VERDICTS)) for n in names]

    @cached_property
    def failures(self) -> int:
        """Rows that say that something could not be read; the page lists the first of them."""
        unread = [*self.reasons.get(FAILED, ()), *self.reasons.get(QUARANTINED, ())]
        return sum(reason.count for reason in unread)

    @cached_property
    def cost(self) -> list[tuple[str, float | None, float | None]]:
        """(step, seconds, peak memory in GB of its largest process)."""
        rows: list[tuple[str, float | None, float | None]] = []
        if self.record:
            peaks = self.record.get("peak_memory_gb", {})  # runs of an older version have none
            seconds = self.record["seconds"]
            rows += [(f"curate: {name}", value, peaks.get(name)) for name, value in seconds.items()]
            rows += [(f"curate: {name} process", None, peaks[name]) for name in peaks if name not in seconds]
        rows += [(f"train: {stage.name}", stage.seconds, stage.peak_memory_gb) for stage in self.stages]
        if evaluated := step_record(self.layout.evaluation("final")):
            rows.append(("evaluate", evaluated["seconds"], None))
        return rows

    @property
    def longest_seconds(self) -> float:
        return max((seconds for _, seconds, _ in self.cost if seconds), default=1.0)

    @property
    def largest_memory(self) -> float:
        return max((memory for *_, memory in self.cost if memory), default=1.0)

    @cached_property
    def dropped_groups(self) -> list[tuple[Reason, list[Shown]]]:
        """Clips that filters dropped, the most frequent reason first."""
        reasons = self.reasons.get(FILTERED, ())
        return [(each, self.dropped[each.code]) for each in reasons if each.code in self.dropped]

    def add_pictures(self) -> None:
        """Decode the clips that the page shows."""
        sample = self.figures.sample
        clips = [*sample.kept, *(row for rows in sample.dropped.values() for row in rows)]
        curation = self.recipe.curation
        with (
            Strips(self.recipe.data, curation.decode) as strips,
            track(len(clips), "report: thumbnails") as step,
        ):

            def shown(row: Row) -> Shown:
                step.advance()
                original = sample.originals.get(row["duplicate_of"] or "")
                beside = Shown(original, strips.strip(original), "kept in its place") if original else None
                return Shown(row, strips.strip(row), reason_detail(row), beside)

            self.kept = [shown(row) for row in sample.kept]
            self.dropped = {code: [shown(row) for row in rows] for code, rows in sample.dropped.items()}

    @property
    def pictures(self) -> list[Picture]:
        shown = [*self.kept, *(each for group in self.dropped.values() for each in group)]
        return [each.picture for each in shown]


def write_report(run_directory: Path) -> Summary:
    """Write RUN/report.html; returns its path, its size and the counts that it leads with.

    Raises FileNotFoundError when the folder is no run directory or has no clip table, RecipeError when its
    recipe cannot be read, AblationFileError when its ablation cannot.
    """
    layout, recipe = opened_run(run_directory)
    report = Report(layout, recipe, collect_figures(layout, recipe))
    report.add_pictures()
    write_text(layout.report, render("page.html", report=report, most_failures=FAILURES))
    return {
        "report": str(layout.report),
        "bytes": layout.report.stat().st_size,
        "sources": report.sources,
        "clips": report.clips,
        "kept": report.kept_clips,
        "in_shards": report.figures.in_shards,
        "pictures": sum(not picture.fault for picture in report.pictures),
        "pictures_unreadable": sum(bool(picture.fault) for picture in report.pictures),
    }


def opened_run(run_directory: Path) -> tuple[RunLayout, Recipe]:
    """A run and its recipe. Raises FileNotFoundError when the folder is no run directory."""
    layout = RunLayout(run_directory.absolute())
    if not layout.recipe.is_file():
        raise FileNotFoundError(f"{run_directory} is no run directory: it has no recipe.yaml")
    return layout, load_recipe(str(layout.recipe))


def step_record(folder: Path) -> Summary | None:
    """What a step recorded when it came to its end; None when it has not."""
    path = folder / "step.json"
    return json.loads(path.read_text()) if path.is_file() else None
