"""Files and folders are whole or not there."""

import errno
from pathlib import Path

import pytest

from pipelines.files import DiskFullError, link_tree, whole_file, whole_folder, write_json


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


def test_writers_of_the_same_file_do_not_write_into_each_other_s(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    with whole_file(path) as first:
        first.write_text("fir")
        with whole_file(path) as second:  # another process would see the same: the lock is of an open file
            second.write_text("second")
        assert path.read_text() == "second"
        first.write_text("first")
        with pytest.raises(KeyboardInterrupt), whole_file(path) as third:
            write_half(third)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [(path.name, "first")]


@pytest.mark.parametrize(
    "said",
    [OSError(errno.ENOSPC, "No space left"), RuntimeError("while serializing: No space left (os error 28)")],
)
def test_a_full_disk_is_named_and_what_was_there_stays(said: Exception, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with pytest.raises(DiskFullError, match=rf"no room for {tmp_path}/a\."), whole_file(tmp_path / "a"):
        raise said
    with pytest.raises(DiskFullError, match=rf"no room for {tmp_path}/b\."), whole_folder(tmp_path / "b"):
        raise said
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


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
