"""`write_report`: the figures of a run laid out as one HTML file."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.curation.verdicts import FAILED, FILTERED, KEPT, QUARANTINED, REASONS, VERDICTS
from pipelines.layout import RunLayout
from pipelines.progress import track
from pipelines.recipe import Recipe
from pipelines.recipe_file import load_recipe
from pipelines.report import charts
from pipelines.report.charts import histogram_chart
from pipelines.report.figures import Bucket, Figures, collect_figures
from pipelines.report.runs import evaluations, noise_schedules, step_record, training_stages
from pipelines.report.sample import FAILURES, Row, reason_detail
from pipelines.report.thumbnails import Picture, Strips
from pipelines.workflow import write_whole

Summary = dict[str, Any]
SOURCE_NOUN, CLIP_NOUN = "source", "clip"


@dataclass(frozen=True)
class FunnelStep:
    """One width of the funnel; `share` is of the first step that counts the same things.

    before: what became of the difference to the step before it.
    """

    name: str
    meaning: str
    before: str
    count: int
    noun: str
    share: float


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
        self.stages = training_stages(layout, recipe)
        self.schedules = noise_schedules(recipe, self.stages)
        self.evaluations = evaluations(layout, recipe)
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
        return [(v, self.figures.sources[v], _share(self.figures.sources[v], self.sources)) for v in VERDICTS]

    @cached_property
    def funnel(self) -> list[FunnelStep]:
        decoded, in_shards = self.figures.decoded, self.figures.in_shards
        each = f"{self.clips / decoded:.1f} clips per source" if decoded else "nothing to cut"
        counted = (
            ("Sources", "rows of the table", "", self.sources, SOURCE_NOUN),
            (
                "Decoded",
                "readable to the end",
                _left(self.sources - decoded, "unreadable"),
                decoded,
                SOURCE_NOUN,
            ),
            ("Clips", "spans cut from the shots", each, self.clips, CLIP_NOUN),
            (
                "Kept",
                "passed every filter",
                _left(self.clips - self.kept_clips, "dropped"),
                self.kept_clips,
                CLIP_NOUN,
            ),
            ("In shards", "encoded, ready to train on", self._not_in_shards(), in_shards, CLIP_NOUN),
        )
        of = {SOURCE_NOUN: self.sources, CLIP_NOUN: self.clips}
        return [FunnelStep(*step, _share(step[3], of[step[4]])) for step in counted]

    def _not_in_shards(self) -> str:
        rest = self.kept_clips - self.figures.in_shards
        if not self.kept_clips and not rest:
            return "nothing to encode"
        if rest < 0:
            return f"the shards hold {-rest:,} clips that are no longer kept"
        splits = self.recipe.curation.precompute.splits
        other = sum(kept for split, kept, _ in self.splits if split not in splits)
        parts = [f"{other:,} of splits that are not encoded"] if other else []
        parts += [f"{rest - other:,} not encoded yet"] if rest > other else []
        return ", ".join(parts) or "all of them"

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
                    reason = Reason(code, REASONS.get(code, ""), verdict, count, noun, _share(count, of))
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
    recipe cannot be read.
    """
    layout = RunLayout(run_directory.absolute())
    if not layout.recipe.is_file():
        raise FileNotFoundError(f"{run_directory} is no run directory: it has no recipe.yaml")
    recipe = load_recipe(str(layout.recipe))
    report = Report(layout, recipe, collect_figures(layout, recipe))
    report.add_pictures()
    write_whole(layout.report, render(report))
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


# ---------------------------------------------------------------- laying out


def render(report: Report) -> str:
    """The page; whatever a table says in its captions is text in it and never markup."""
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "percent": percent,
        "seconds": seconds,
        "gigabytes": lambda value: f"{value:.2f} GB",
        "bytes": file_size,
        "number": lambda value: f"{value:.4g}",
        "clock": clock,
        "breakable": lambda name: Markup("_<wbr>").join(name.split("_")),
        "plural": lambda noun, count: noun if count == 1 else f"{noun}s",
    }
    environment.globals["plot"] = charts
    loader = environment.loader
    assert loader is not None
    style = Markup(loader.get_source(environment, "page.css")[0])
    return environment.get_template("page.html").render(report=report, style=style, most_failures=FAILURES)


def _left(count: int, what: str) -> str:
    return f"{count:,} {what}" if count else f"none {what}"


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0


def percent(share: float) -> str:
    """`0.04 %` and `99.96 %` stay what they are: neither nothing nor all."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    return f"{value:.2f} %" if min(value, 100 - value) < 0.1 else f"{value:.1f} %"


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def file_size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def clock(value: float) -> str:
    """`0:09.7` into a video."""
    minutes, rest = divmod(round(value, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"
