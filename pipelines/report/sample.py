"""Which clips the page shows: few of each kind, the same ones whenever it is written."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation.verdicts import FAILED, FILTERED, KEPT, QUARANTINED, code_of
from pipelines.storage import read_table

KEPT_CLIPS, DROPPED_CLIPS, CAPTIONS, FAILURES = 12, 4, 16, 50
SPARE = 8  # so many times more are looked at, to take them from different sources

Row = dict[str, Any]


@dataclass
class Sample:
    """Rows with the smallest clip ids (which are hashes, so this is a random choice that stays the same).

    Of a file at most a few rows of each kind are kept in memory.
    """

    _clips: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))  # by reason's code
    failures: list[Row] = field(default_factory=list)
    originals: dict[str, Row] = field(default_factory=dict)  # of the duplicates shown, by clip id

    @property
    def kept(self) -> list[Row]:
        return varied(self._clips[KEPT], KEPT_CLIPS)

    @property
    def captions(self) -> list[Row]:
        return varied(self._clips[KEPT], CAPTIONS)

    @property
    def dropped(self) -> dict[str, list[Row]]:
        """{reason's code: clips that a filter dropped}; shots that are too short have no clip to show."""
        codes = sorted(code for code, rows in self._clips.items() if rows and code not in (KEPT, "too_short"))
        return {code: varied(self._clips[code], DROPPED_CLIPS) for code in codes}

    def add(self, table: pa.Table) -> None:
        """Take up rows of one file of the clip table that has a column `code`."""
        # What was taken down is not shown.
        clips = table.filter(
            pc.and_(pc.is_valid(table["clip_id"]), pc.not_equal(pc.fill_null(table["code"], ""), "excluded"))
        )
        for code in (KEPT, *pc.unique(clips["code"]).drop_null().to_pylist()):
            mask = pc.equal(clips["verdict"], KEPT) if code == KEPT else _filtered_for(clips, code)
            limit = SPARE * (max(KEPT_CLIPS, CAPTIONS) if code == KEPT else DROPPED_CLIPS)
            self._clips[code] = _smallest(self._clips[code], clips.filter(mask), "clip_id", limit)
        unread = table.filter(pc.is_in(table["verdict"], pa.array([FAILED, QUARANTINED])))
        self.failures = _smallest(self.failures, unread, "source_id", FAILURES)

    def find_originals(self, paths: Iterable[Path]) -> None:
        """Look up the clips that the duplicates shown are duplicates of."""
        wanted = {row["duplicate_of"] for row in self.dropped.get("duplicate", ())}
        if not wanted:
            return
        columns = ["clip_id", "source_id", "source_uri", "caption", "reason"]
        columns += ["start_seconds", "end_seconds", "width", "height"]
        condition = pc.field("clip_id").isin(sorted(wanted))
        for path in paths:
            found = read_table(path, columns=columns, filters=condition).to_pylist()
            shown = [row for row in found if code_of(row["reason"] or "") != "excluded"]
            self.originals.update({row["clip_id"]: row for row in shown})


def _filtered_for(table: pa.Table, code: str) -> Any:
    return pc.and_(pc.equal(table["verdict"], FILTERED), pc.equal(table["code"], code))


def _smallest(rows: list[Row], more: pa.Table, key: str, limit: int) -> list[Row]:
    """The rows with the smallest keys of those that are there and a table's."""
    if more.num_rows:
        best = pc.select_k_unstable(more, limit, sort_keys=[(key, "ascending")])
        rows = rows + more.take(best).to_pylist()
    return sorted(rows, key=lambda row: (row[key], row["reason"] or ""))[:limit]


def varied(rows: Sequence[Row], count: int) -> list[Row]:
    """The first `count` rows, one of each source before a second one of any."""
    turn: dict[str, int] = defaultdict(int)
    ranked = []
    for place, row in enumerate(rows):
        ranked.append((turn[row["source_id"]], place, row))
        turn[row["source_id"]] += 1
    return [row for _, _, row in sorted(ranked, key=lambda item: item[:2])[:count]]


def reason_detail(row: Row) -> str:
    """What a reason says after its code."""
    return str(row["reason"] or "")[len(code_of(row["reason"] or "")) :].lstrip(": ")
