"""Files and folders are whole or not there."""

from pathlib import Path

import pytest

from pipelines.files import link_tree, whole_file, whole_folder, write_json


def write_half(partial: Path) -> None:
    partial.write_text("half")
    raise KeyboardInterrupt


def test_a_file_has_its_name_when_it_is_whole_and_the_old_one_stays_until_then(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        before = path.read_text() if path.exists() else None
        with whole_file(path) as partial:
            partial.write_text(text)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == text
    with pytest.raises(KeyboardInterrupt), whole_file(path, sync=True) as partial:
        write_half(partial)
    assert [(found.name, found.read_text()) for found in path.parent.iterdir()] == [("a.txt", "second")]


def test_what_a_kill_left_is_taken_over_by_the_next_writer(tmp_path: Path) -> None:
    (tmp_path / ".a.json.partial").write_text("{half")
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "left").touch()
    write_json(tmp_path / "a.json", {"ä": 1})
    with whole_folder(tmp_path / "folder") as partial:
        (partial / "b").write_text("b")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "b", "folder"]
    assert (tmp_path / "a.json").read_text() == '{\n  "ä": 1\n}\n'


def test_processes_that_write_a_file_together_do_not_write_into_each_other_s(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with whole_file(path, together=True) as mine:
        other = path.with_name(f".{path.name}.1.partial")
        assert mine != other
        assert mine != path.with_name(f".{path.name}.partial")
        mine.write_text("mine")
    assert path.read_text() == "mine"


def test_a_folder_replaces_the_old_one_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as partial:
        write_half(partial / "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "model", "old"]
    with whole_folder(folder) as partial:
        (partial / "new").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new"]
    link_tree(folder, tmp_path / "copy", marker="new")
    assert (tmp_path / "copy" / "new").samefile(folder / "new")
