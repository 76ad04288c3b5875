"""Files and folders on object storage: whole or not there, whatever the server does."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import lock
from pipelines.cache import kept_folder
from pipelines.files import link_tree, whole_file, whole_folder, write_json, write_text
from pipelines.lock import HeldError, hold
from pipelines.storage import (
    StorageError,
    file_sizes,
    file_system,
    local_copy,
    parquet_file,
    read_many,
    read_table,
    remove_tree,
    storage_path,
)
from tests.object_storage import FAULTS, FaultyStorage, object_storage

BIG_BYTES = 120 * 2**20  # s3fs uploads it in parts


@pytest.fixture(scope="module")
def storage() -> Iterator[FaultyStorage]:
    with object_storage("runs") as storage:
        yield storage


@pytest.fixture
def run(storage: FaultyStorage, request: pytest.FixtureRequest) -> Path:
    storage.share, storage.faults, storage.struck = 0.0, FAULTS, lambda request: True
    return storage_path(f"s3://runs/{request.node.name.translate(str.maketrans('[]', '()'))}")


def fail(partial: Path) -> None:
    partial.write_bytes(b"half")
    raise KeyboardInterrupt


def test_a_file_is_there_when_it_is_whole(run: Path) -> None:
    write_text(run / "deep" / "a.txt", "ä")
    with pytest.raises(KeyboardInterrupt), whole_file(run / "deep" / "a.txt") as partial:
        fail(partial)
    assert (run / "deep" / "a.txt").read_text() == "ä"
    assert [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()] == ["deep/a.txt"]


def test_what_cannot_be_read_is_not_missing(run: Path, storage: FaultyStorage) -> None:
    write_text(run / "a", "a")
    assert (run / "a").is_file()
    assert not (run / "b").is_file()
    file_system(run)[0].retries = 1
    storage.share, storage.faults = 1.0, ("error 500",)
    with pytest.raises(OSError, match="Internal Server Error"):
        (run / "a").is_file()


def test_a_folder_is_uploaded_with_its_marker_last_and_deleted_with_it_first(run: Path) -> None:
    with whole_folder(run / "model", marker="done.json") as folder:
        write_json(folder / "done.json", {})
        for name in ("z", "a"):
            write_text(folder / "part" / name, name)
    fs, key = file_system(run / "model")
    written = {name: told["LastModified"] for name, told in fs.find(key, detail=True).items()}
    assert max(written.values()) == written[f"{key}/done.json"]
    with pytest.raises(KeyboardInterrupt), whole_folder(run / "model", marker="done.json") as folder:
        fail(folder / "part")
    assert len(fs.find(key)) == 3
    with local_copy(run / "model") as copy:
        assert (copy / "part" / "z").read_text() == "z"
        assert (copy / "done.json").is_file()
    assert not copy.exists()
    link_tree(run / "model", run / "copy", marker="done.json")
    assert (run / "copy" / "part" / "z").read_text() == "z"
    remove_tree(run / "model", marker="done.json")
    assert not (run / "model").is_dir()
    remove_tree(run / "model")  # is not there any more


def test_many_small_files_are_told_and_read_at_once(
    run: Path, storage: FaultyStorage, tmp_path: Path
) -> None:
    names = [f"{number:02d}/{letter}.json" for number in range(20) for letter in "ab"]
    for folder in (run / "many", tmp_path):
        for name in names:
            write_text(folder / name, name * 2)
        before = storage.requests
        assert file_sizes(folder) == {name: len(name) * 2 for name in names}
        assert storage.requests - before <= 1
        assert list(read_many([folder / name for name in names])) == [(name * 2).encode() for name in names]
        assert storage.requests - before <= 1 + 2 * len(names)
    assert file_sizes(run / "nothing") == file_sizes(tmp_path / "nothing") == {}
    assert list(read_many([])) == []
    with pytest.raises(FileNotFoundError):
        list(read_many([run / "many" / names[0], run / "gone"]))


def test_big_files_go_in_parts_through_faults_and_leave_no_half_ones(
    run: Path, storage: FaultyStorage, tmp_path: Path
) -> None:
    storage.share = 0.2
    before = sum(storage.planted.values())
    with whole_file(run / "big") as partial, partial.open("wb") as file:
        file.truncate(BIG_BYTES)
    with local_copy(run / "big") as copy:
        assert copy.stat().st_size == BIG_BYTES
    assert sum(storage.planted.values()) > before
    storage.share = 0.0
    fs, _ = file_system(run)
    assert fs.call_s3("list_multipart_uploads", Bucket="runs").get("Uploads", []) == []


def fetched(path: Path) -> bytes:
    with local_copy(path) as copy:
        return copy.read_bytes()


def many(path: Path) -> bytes:
    (found,) = read_many([path])
    return found


@pytest.mark.parametrize("fault", ["stalled reading", "cut short"])
@pytest.mark.parametrize("read", [Path.read_bytes, fetched, many])
def test_an_answer_that_does_not_come_whole_is_asked_for_again(
    run: Path, storage: FaultyStorage, fault: str, read: Callable[[Path], bytes]
) -> None:
    write_text(run / "a", "whole" * 1000)
    first = iter([True])
    storage.share, storage.faults = 1.0, (fault,)
    storage.struck = lambda request: (
        request["REQUEST_METHOD"] == "GET" and request["PATH_INFO"].endswith("/a") and next(first, False)
    )
    before = storage.planted[fault]
    assert read(run / "a") == b"whole" * 1000
    assert storage.planted[fault] == before + 1


def test_a_table_s_row_groups_are_read_without_the_others(run: Path, storage: FaultyStorage) -> None:
    table = pa.table({"number": range(100_000), "text": [f"{n:050d}" for n in range(100_000)]})
    with whole_file(run / "t.parquet") as partial:
        pq.write_table(table, partial, row_group_size=1000, compression="none")
    before = storage.sent_bytes
    assert parquet_file(run / "t.parquet").read_row_group(7)["number"][0].as_py() == 7000
    assert storage.sent_bytes - before < 0.1 * (run / "t.parquet").stat().st_size
    assert read_table(run / "t.parquet", columns=["number"]).num_rows == 100_000


def test_a_model_folder_is_fetched_once_and_anew_when_it_changes(
    run: Path, storage: FaultyStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_text(run / "unet" / "config.json", "{}")
    kept = kept_folder(run)
    assert (kept / "unet" / "config.json").read_text() == "{}"
    before = storage.requests
    assert kept_folder(run) == kept
    assert storage.requests - before <= 3  # looks and lists
    write_text(run / "unet" / "config.json", "{1}")
    assert (kept_folder(run) / "unet" / "config.json").read_text() == "{1}"


@pytest.mark.parametrize("place", ["ftp://host/run", "hdfs://host/run"])
def test_other_addresses_are_refused(place: str) -> None:
    with pytest.raises(StorageError, match=r"s3:// or gs://"):
        storage_path(place)


# ---------------------------------------------------------------- leases

HOLD = """
import sys, time
from pipelines import lock
from pipelines.storage import storage_path
lock.LEASE_SECONDS = 1.0
with lock.hold(storage_path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(run: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lease."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1.0)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()


def test_a_lease_is_held_as_long_as_its_process_lives(run: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(HeldError, match=f"process {holder.pid} on "), hold(run / ".lock"):
        pass
    holder.kill()
    began = time.monotonic()
    with hold(run / ".lock"):
        assert time.monotonic() - began >= 0.9  # it was watched for so long
        time.sleep(1.5)  # a heart beats meanwhile
        with pytest.raises(HeldError), hold(run / ".lock"):
            pass
    assert not (run / ".lock").is_file()


def test_a_process_that_stood_still_ends_when_another_took_over(
    run: Path, holder: "subprocess.Popen[str]"
) -> None:
    write_text(run / ".lock", "process 1 on elsewhere\nanother token\n0\n")
    assert holder.wait(timeout=10) == lock.LOST
