"""What a process leaves in a bucket that is killed while it sends a big file."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.files import write_text
from pipelines.storage import file_system, storage_path
from pipelines.uploads import end_upload, unfinished_uploads, uploaded_bytes
from tests.object_storage import PART_BYTES, FaultyStorage, begin_upload, object_storage

SEND = """
import sys
from pipelines.files import whole_file
from pipelines.storage import storage_path
with whole_file(storage_path(sys.argv[1])) as partial, partial.open("wb") as file:
    file.truncate(int(sys.argv[2]))
"""
SENT_BYTES = 120 * 2**20  # which s3fs sends in parts


@pytest.fixture(scope="module")
def storage() -> Iterator[FaultyStorage]:
    with object_storage("runs") as storage:
        yield storage


def ends_an_upload(request: dict[str, Any]) -> bool:
    return request["REQUEST_METHOD"] == "POST" and "uploadId=" in request["QUERY_STRING"]


def test_a_file_whose_sending_is_killed_is_not_there_and_its_parts_can_be_ended(
    storage: FaultyStorage,
) -> None:
    run = storage_path("s3://runs/killed")
    write_text(run / "model", "the one before")
    storage.share, storage.faults, storage.struck = 1.0, ("error 500",), ends_an_upload
    with subprocess.Popen([sys.executable, "-c", SEND, str(run / "model"), str(SENT_BYTES)]) as sending:
        while not storage.planted:
            assert sending.poll() is None
            time.sleep(0.01)
        sending.kill()
    storage.share = 0.0
    assert (run / "model").read_text() == "the one before"
    (left,) = unfinished_uploads(run)
    assert (left.path, uploaded_bytes(left)) == (run / "model", SENT_BYTES)
    end_upload(left)
    end_upload(left)  # which somebody else has done
    assert uploaded_bytes(left) == 0
    assert list(unfinished_uploads(run)) == []
    assert (run / "model").read_text() == "the one before"


def test_uploads_are_those_of_the_run_alone_and_all_of_them(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = storage_path("s3://runs/mine")
    others = [begin_upload(storage_path(f"s3://runs/{name}")) for name in ("mine2/model", "other")]
    mine = [begin_upload(run / "deep" / f"{number}") for number in range(5)]
    fs, _ = file_system(run)
    call = fs.call_s3
    monkeypatch.setattr(fs, "call_s3", lambda name, **asked: call(name, **asked, MaxUploads=2))
    assert sorted(unfinished_uploads(run), key=str) == mine
    for upload in others:
        assert uploaded_bytes(upload) == PART_BYTES


def test_folders_have_none(tmp_path: Path) -> None:
    assert list(unfinished_uploads(tmp_path)) == []


def test_an_upload_of_today_may_be_at_work_and_is_let_be(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = storage_path("s3://runs/today")
    begin_upload(run / "model")
    fs, _ = file_system(run)
    call = fs.call_s3

    def began_now(name: str, **asked: Any) -> dict[str, Any]:  # the server says 2010 of all
        told = call(name, **asked)
        return told | {"Uploads": [each | {"Initiated": datetime.now(UTC)} for each in told["Uploads"]]}

    assert len(list(unfinished_uploads(run))) == 1
    monkeypatch.setattr(fs, "call_s3", began_now)
    assert list(unfinished_uploads(run)) == []


def test_without_the_right_to_list_them_a_warning_says_so(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = storage_path("s3://runs/forbidden")

    def refuse(name: str, **asked: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(file_system(run)[0], "call_s3", refuse)
    assert list(unfinished_uploads(run)) == []
    assert "are not looked for in s3://runs/forbidden: Access Denied" in caplog.text
