"""Sources: every kind of table, its mapping, its faults, and the division into units."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.curation.sources import (
    divide_sources,
    read_sources,
    table_faults,
    table_stamp,
    unit_of,
    unit_sources,
)
from pipelines.curation.verdicts import CurationError
from pipelines.layout import RunLayout
from pipelines.recipe import DataSettings, RecipeError
from tests.curation_input import source_row, write_rows

ROWS = [
    {"videoid": "7", "contentUrl": "a.mp4", "name": "A dog runs", "class": '["x", 1]'},
    {"videoid": "8", "contentUrl": "b.mp4", "name": "Cafe\u0301 at night", "class": "plain"},
]


def settings(table: Path, **columns: Any) -> DataSettings:
    return DataSettings.model_validate({"table": str(table), "columns": columns})


def test_csv_jsonl_and_parquet_give_the_same_sources(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", ROWS)
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    read = [
        list(read_sources(settings(tmp_path / f"t.{kind}", labels=["class"])))
        for kind in ("csv", "jsonl", "parquet")
    ]
    assert read[0] == read[1] == read[2]
    assert [row["source_id"] for row in read[0]] == ["7", "8"]
    assert json.loads(read[0][0]["labels"]) == {"class": ["x", 1]}
    assert json.loads(read[0][1]["labels"]) == {"class": "plain"}
    assert read[0][1]["caption"] == "Caf\u00e9 at night"  # NFC
    assert {row["split"] for row in read[0]} == {"train"}


def test_columns_are_mapped(tmp_path: Path) -> None:
    rows = [{"id": 1, "content_loc": "x.mp4", "title": "Rain", "part": "validation", "terms": "CC0"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pexels.parquet")
    data = settings(
        tmp_path / "pexels.parquet",
        source_id="id",
        uri="content_loc",
        caption="title",
        split="part",
        license="terms",
    )
    (row,) = read_sources(data)
    assert row == {
        "source_id": "1",
        "source_uri": "x.mp4",
        "caption": "Rain",
        "split": "validation",
        "license": "CC0",
        "labels": None,
    }


def test_folder_with_sidecar_captions(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Ü.mp4").write_bytes(b"")
    (tmp_path / "sub" / "Ü.txt").write_text("Waves crash\n", encoding="utf-8")
    (tmp_path / "b.avi").write_bytes(b"")
    rows = list(read_sources(settings(tmp_path)))
    assert [(row["source_id"], row["caption"]) for row in rows] == [
        ("b.avi", ""),
        ("sub/Ü.mp4", "Waves crash"),
    ]


def test_a_link_out_of_the_folder_is_no_caption(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password")
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    (folder / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(CurationError, match=r"a\.txt: outside_root"):
        list(read_sources(settings(folder)))
    allowed = settings(folder).model_copy(update={"more_roots": (str(tmp_path),)})
    assert [row["caption"] for row in read_sources(allowed)] == ["password"]


def test_ucf101_folder_gives_class_and_caption(tmp_path: Path) -> None:
    (tmp_path / "v_ApplyEyeMakeup_g01_c02.avi").write_bytes(b"")
    (row,) = read_sources(settings(tmp_path))
    assert row["caption"] == "apply eye makeup"
    assert json.loads(row["labels"]) == {"class": "ApplyEyeMakeup"}


def test_faults_name_the_table_and_every_missing_column(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", ROWS)
    faults = table_faults(settings(tmp_path / "t.csv", caption="title", uri="url"))
    assert len(faults) == 2
    assert "no column 'url'" in faults[0]
    assert "it has videoid, contentUrl, name, class" in faults[0]
    with pytest.raises(RecipeError, match="no table or folder"):
        list(read_sources(settings(tmp_path / "absent.csv")))


def test_row_without_id_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", [*ROWS, ROWS[0] | {"videoid": " "}])
    with pytest.raises(CurationError, match="row 3: column 'videoid' is empty"):
        list(read_sources(settings(tmp_path / "t.csv")))


def test_units_depend_on_the_id_alone(tmp_path: Path) -> None:
    rows = [{"videoid": str(i), "contentUrl": f"{i}.mp4", "name": "x", "class": ""} for i in range(50)]
    layouts = []
    for name, order in (("one", rows), ("two", rows[::-1])):
        layout = RunLayout(tmp_path / name)
        table = write_rows(tmp_path / f"{name}.csv", order)
        assert divide_sources(settings(table), layout, 4) == 50
        layouts.append([unit_sources(layout, unit) for unit in range(4)])
    assert layouts[0] == layouts[1]
    assert all(unit_of(row["source_id"], 4) == unit for unit in range(4) for row in layouts[0][unit])
    assert unit_of("7", 8) == 3  # golden: another value would reshuffle every run directory


@pytest.mark.parametrize("units", [1, 3, 64, 100, 1000])
def test_every_source_is_in_its_unit_however_many_there_are(tmp_path: Path, units: int) -> None:
    rows = [{"videoid": str(i), "contentUrl": f"{i}.mp4", "name": "x", "class": ""} for i in range(300)]
    layout = RunLayout(tmp_path / "run")
    assert divide_sources(settings(write_rows(tmp_path / "t.csv", rows)), layout, units) == 300
    found = {unit: [row["source_id"] for row in unit_sources(layout, unit)] for unit in range(units)}
    expected: dict[int, list[str]] = {unit: [] for unit in range(units)}
    for row in rows:
        expected[unit_of(row["videoid"], units)].append(row["videoid"])
    assert found == {unit: sorted(ids) for unit, ids in expected.items()}


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "t.csv", ROWS)
    data = DataSettings(table=str(table), limit=1)
    assert [row["source_id"] for row in read_sources(data)] == ["7"]


def test_repeated_ids_and_empty_tables_stop_the_run(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "t.csv", [ROWS[0], ROWS[0]])
    with pytest.raises(CurationError, match="videoid must be unique, but '7'"):
        divide_sources(settings(table), RunLayout(tmp_path / "run"), 2)
    assert not list((tmp_path / "run").rglob("*.parquet"))  # a refused table changes nothing
    table.write_text("videoid,contentUrl,name\n")
    with pytest.raises(CurationError, match="has no rows"):
        divide_sources(settings(table), RunLayout(tmp_path / "run"), 2)


def test_a_table_has_another_stamp_when_its_content_changes(tmp_path: Path) -> None:
    table = tmp_path / "videos.csv"
    table.write_text("a\n")
    before = table_stamp(DataSettings(table=str(table)))
    table.write_text("b\n")
    assert table_stamp(DataSettings(table=str(table))) != before
    folder = table_stamp(DataSettings(table=str(tmp_path)))
    (tmp_path / "new.mp4").write_bytes(b"")
    assert table_stamp(DataSettings(table=str(tmp_path))) != folder


def written_at(layout: RunLayout) -> dict[str, int]:
    """When each file of data/sources was written, in ns."""
    return {path.name: path.stat().st_mtime_ns for path in (layout.data / "sources").iterdir()}


def test_the_same_table_and_settings_write_nothing_again(tmp_path: Path) -> None:
    rows = [source_row(str(number)) for number in range(50)]
    table, layout = write_rows(tmp_path / "t.csv", rows), RunLayout(tmp_path / "run")
    assert divide_sources(settings(table), layout, 4) == 50
    first = written_at(layout)
    assert divide_sources(settings(table), layout, 4) == 50
    assert written_at(layout) == first
    changed = (
        (settings(table, caption="contentUrl"), 4),
        (settings(table), 5),
        (DataSettings(table=str(table), limit=50), 5),
        (settings(write_rows(table, [*rows, source_row("50")])), 5),
    )
    for data, units in changed:
        before = written_at(layout)
        divide_sources(data, layout, units)
        assert all(written_at(layout)[name] > before[name] for name in before)
    assert sum(len(unit_sources(layout, unit)) for unit in range(5)) == 51


@pytest.mark.parametrize("lost", ["00002.parquet", "stamp.json"])
def test_a_division_that_is_not_whole_is_completed(tmp_path: Path, lost: str) -> None:
    table = write_rows(tmp_path / "t.csv", [source_row(str(number)) for number in range(50)])
    layout = RunLayout(tmp_path / "run")
    divide_sources(settings(table), layout, 4)
    whole = [unit_sources(layout, unit) for unit in range(4)]
    (layout.data / "sources" / lost).unlink()
    divide_sources(settings(table), layout, 4)
    assert [unit_sources(layout, unit) for unit in range(4)] == whole
    assert (layout.data / "sources" / lost).is_file()
