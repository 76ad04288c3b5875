"""The numbers of the page: sums over the clip table, a batch of rows in memory at a time."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation import clip_table
from pipelines.curation.manifest import manifest_entries
from pipelines.curation.query import query_fingerprint
from pipelines.curation.verdicts import FILTERED, KEPT, PRECEDENCE
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.report.sample import Sample
from pipelines.report.scores import SCORES, Histogram, histograms
from pipelines.storage import parquet_file, read_table

"""A source is the first of these that any of its rows is (as in the books of curation)."""

COLUMNS = (
    *("clip_id", "source_id", "source_uri", "split", "caption", "appearance_caption", "motion_caption"),
    *("start_seconds", "end_seconds", "width", "height", "bucket", "duplicate_of"),
    *("verdict", "reason", "fingerprint"),
    *(score.column for score in SCORES),
)
SOURCE_COLUMNS = ("source_id", "clip_id", "verdict", "reason")
BATCH_ROWS = 65_536


@dataclass
class Bucket:
    """What one bucket holds: kept clips by the clip table, rows and bytes by the manifests of its shards."""

    clips: int = 0
    rows: int = 0
    bytes: int = 0
    shards: int = 0


@dataclass
class Figures:
    """Everything that the page says about curation."""

    histograms: list[Histogram]
    sample: Sample = field(default_factory=Sample)
    sources: Counter[str] = field(default_factory=Counter)  # by verdict
    decoded: int = 0  # sources that could be read
    clips: Counter[str] = field(default_factory=Counter)  # by verdict
    reasons: Counter[tuple[str, str, bool]] = field(default_factory=Counter)  # verdict, code, of a clip?
    splits: Counter[tuple[str, str]] = field(default_factory=Counter)  # split, verdict; clips
    buckets: dict[str, Bucket] = field(default_factory=dict)
    without_motion: int = 0  # kept clips whose caption says nothing that moves
    in_shards: int = 0
    outdated: bool = False  # the clip table is of other settings than the recipe

    def add_rows(self, table: pa.Table) -> None:
        """Add some rows of the clip table."""
        code = pc.replace_substring_regex(table["reason"], r"(?s):.*", "")
        table = table.append_column("code", code)
        is_clip = pc.is_valid(table["clip_id"])
        clips = table.filter(is_clip)
        kept = clips.filter(pc.equal(clips["verdict"], KEPT))
        self._add_reasons(table.append_column("is_clip", is_clip))
        self.clips.update(_counted(clips["verdict"]))
        for row in clips.group_by(["split", "verdict"]).aggregate([([], "count_all")]).to_pylist():
            self.splits[row["split"], row["verdict"]] += row["count_all"]
        for name, count in _counted(pc.list_flatten(pc.utf8_split_whitespace(kept["bucket"]))).items():
            self.buckets.setdefault(name, Bucket()).clips += count
        self.without_motion += pc.sum(pc.equal(pc.fill_null(kept["motion_caption"], ""), "")).as_py() or 0
        for histogram in self.histograms:
            histogram.add(clips)
        self.sample.add(table)

    def add_sources(self, table: pa.Table) -> None:
        """Add the sources of one file of the clip table; all rows of a source stand in one file."""
        ranks = pc.index_in(table["verdict"], pa.array(PRECEDENCE))
        wanted = pc.is_in(table["verdict"], pa.array([KEPT, FILTERED]))
        opened = pc.not_equal(pc.fill_null(table["reason"], ""), "excluded")
        readable = pc.cast(pc.or_(pc.is_valid(table["clip_id"]), pc.and_(wanted, opened)), pa.int8())
        rows = pa.table({"source": table["source_id"], "rank": ranks, "readable": readable})
        sources = rows.group_by("source").aggregate([("rank", "min"), ("readable", "max")])
        self.decoded += pc.sum(sources["readable_max"]).as_py() or 0
        for rank, count in _counted(sources["rank_min"]).items():
            self.sources[PRECEDENCE[rank]] += count

    def _add_reasons(self, table: pa.Table) -> None:
        dropped = table.filter(pc.not_equal(table["verdict"], KEPT))
        groups = dropped.group_by(["verdict", "code", "is_clip"]).aggregate([([], "count_all")])
        for row in groups.to_pylist():
            self.reasons[row["verdict"], row["code"], row["is_clip"]] += row["count_all"]


def _counted(column: Any) -> dict[Any, int]:
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(column)}


def collect_figures(layout: RunLayout, recipe: Recipe) -> Figures:
    """Read the clip table and the manifests of a run.

    Raises FileNotFoundError when the run directory has no clip table.
    """
    paths = sorted(layout.clips.glob("*.parquet"))
    if not paths:
        raise FileNotFoundError(f"no clip table in {layout.clips}: run `dreamer curate` first")
    figures = Figures(histograms(recipe.curation.filters))
    stamps: set[str] = set()
    for path in paths:
        figures.add_sources(read_table(path, columns=list(SOURCE_COLUMNS)))
        for batch in parquet_file(path).iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
            table = clip_table.complete(pa.Table.from_batches([batch]), COLUMNS)
            figures.add_rows(table)
            stamps |= set(_counted(table["fingerprint"]))
    with suppress(FileNotFoundError):  # weights that the recipe names may be on another machine
        figures.outdated = bool(stamps - {query_fingerprint(recipe)})
    for entry in manifest_entries(layout):
        figures.in_shards += entry["clips"]
        for shard in entry["shards"]:
            bucket = figures.buckets.setdefault(shard["bucket"], Bucket())
            bucket.rows += shard["rows"]
            bucket.bytes += shard["bytes"]
            bucket.shards += 1
    figures.buckets = dict(sorted(figures.buckets.items()))
    figures.sample.find_originals(paths)
    return figures
