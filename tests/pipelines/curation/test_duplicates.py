"""Near-duplicates over the whole table: found across units, parts and bands, and only between sources."""

import tracemalloc
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.curation import clip_table
from pipelines.curation.clip_table import clip_id, clips_path, write_table
from pipelines.curation.duplicates import (
    PICTURE,
    close_pairs,
    find_duplicates,
    kept_pictures,
    merge,
    source_key,
    stand_in_of,
    stand_ins,
)
from pipelines.layout import RunLayout

PICTURE_HASH = 0x9A5C_3377_0F0F_1E2D


def kept(source: str, phash: int, start: float = 0) -> dict[str, Any]:
    return {
        "clip_id": clip_id(source, start, start + 1),
        "source_id": source,
        "phash": f"{phash:016x}",
        "verdict": "kept",
    }


def write_units(layout: RunLayout, units: list[list[dict[str, Any]]]) -> None:
    for unit, rows in enumerate(units):
        write_table(clips_path(layout, unit), pa.Table.from_pylist(rows, clip_table.SCHEMA))


def found_by_hand(rows: list[dict[str, Any]], bits: int) -> dict[str, str]:
    """{clip: stand-in} by comparing every clip with every other; the source that stands in keeps all."""
    group = {row["clip_id"]: {row["clip_id"]} for row in rows}
    for one, other in combinations(rows, 2):
        distance = (int(one["phash"], 16) ^ int(other["phash"], 16)).bit_count()
        if distance <= bits and one["source_id"] != other["source_id"]:
            union = group[one["clip_id"]] | group[other["clip_id"]]
            for clip in union:
                group[clip] = union
    source = {row["clip_id"]: row["source_id"] for row in rows}
    return {clip: min(union) for clip, union in group.items() if source[clip] != source[min(union)]}


@pytest.mark.parametrize("parts", [1, 3])
def test_groups_are_those_of_comparing_all_with_all(tmp_path: Path, parts: int) -> None:
    rng = np.random.default_rng(0)
    pictures = [int(value) for value in rng.integers(0, 2**63, 40)]
    rows = []
    for number in range(200):
        phash = pictures[rng.integers(40)]
        for bit in rng.integers(0, 64, rng.integers(0, 4)):
            phash ^= 1 << int(bit)
        # The two clips of a source show different pictures, as two shots do.
        rows.append(kept(f"source {number // 2}", phash ^ (number % 2 * 0xFFFF_0000), start=number % 2))
    layout = RunLayout(tmp_path)
    write_units(layout, [rows[:70], rows[70:90], rows[90:]])
    divided = [kept_pictures(span, parts, layout) for span in ([0, 1], [2])]
    by_part = [divided] if parts == 1 else zip(*divided, strict=True)
    merged = [merge(*column) for column in by_part]
    pairs = [close_pairs(band, 4, part, parts, *merged) for band in range(5) for part in range(parts)]
    found = stand_ins(parts, *merged, *pairs)
    twins = {row["clip_id"]: stand_in_of(row["source_id"], row["phash"], found) for row in rows}
    assert {clip: twin for clip, twin in twins.items() if twin} == found_by_hand(rows, 4)
    assert len(found_by_hand(rows, 4)) > 50


def test_clips_of_one_source_are_no_duplicates_of_each_other() -> None:
    rows = np.zeros(3, PICTURE)
    rows["hash"] = [PICTURE_HASH, PICTURE_HASH, PICTURE_HASH ^ 1]
    rows["source"] = rows["owner"] = source_key("a")
    merged = merge(rows)
    assert len(stand_ins(1, merged, *(close_pairs(band, 2, 0, 1, merged) for band in range(3)))) == 0


def test_a_copy_costs_the_original_none_of_its_clips(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    rows = [kept(source, PICTURE_HASH ^ flip, start=flip) for source in "ab" for flip in (0, 1)]
    write_units(layout, [rows])
    merged = kept_pictures([0], 1, layout)
    found = stand_ins(1, merged, *(close_pairs(band, 2, 0, 1, merged) for band in range(3)))
    lost = {row["source_id"] for row in rows if stand_in_of(row["source_id"], row["phash"], found)}
    owner = min(rows, key=lambda row: row["clip_id"])["source_id"]
    assert lost == {"a", "b"} - {owner}


def test_a_thousand_copies_of_one_picture_are_one_comparison(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    write_units(layout, [[kept(f"black {number}", 0) for number in range(1000)]])
    assert len(kept_pictures([0], 1, layout)) == 1


def test_a_table_without_kept_clips_has_none(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    write_units(layout, [[]])
    nothing = kept_pictures([0], 1, layout)
    found = stand_ins(1, nothing, close_pairs(0, 0, 0, 1, nothing))
    assert stand_in_of("a", "0" * 16, found) is None


def test_a_look_up_copies_none_of_the_table() -> None:
    rows = np.zeros(100_000, PICTURE)
    rows["hash"] = np.arange(len(rows))
    found = stand_ins(1, rows)  # each a picture of several sources
    assert len(found) == len(rows)
    tracemalloc.start()
    try:
        assert stand_in_of("a", f"{99_999:016x}", found) == ""
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < found.nbytes / 100


@pytest.mark.usefixtures("ray")
def test_tasks_hand_each_other_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from pipelines.curation import duplicates

    monkeypatch.setattr(duplicates, "UNITS_PER_TASK", 1)
    layout = RunLayout(tmp_path)
    rows = [kept(source, PICTURE_HASH ^ flip) for source, flip in (("a", 0), ("b", 1 << 40), ("c", 0xFFFF))]
    write_units(layout, [[row] for row in rows])
    found = ray.get(find_duplicates(3, 4, layout))
    twins = [stand_in_of(row["source_id"], row["phash"], found) for row in rows]
    first = min(row["clip_id"] for row in rows[:2])
    assert sorted(twin or "" for twin in twins) == ["", "", first]
