"""Files behind an address: fetched whole, tried again, and refused by name."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fsspec.registry import _registry

from pipelines.curation import remote
from pipelines.curation.decode import DecoderError
from pipelines.curation.reach import Reach
from pipelines.curation.remote import FETCHED_AHEAD, FilesAhead, SharedFiles, local_file
from pipelines.curation.verdicts import CurationError

CONTENT = b"film" * 1000
HERE = Reach((Path("/"),), private_networks=("127.0.0.1/32",))


class Server(BaseHTTPRequestHandler):
    """`/good*` is there (`/good_in_company*` when two are asked for at a time).

    `/shaky.mp4` is there at the second try, `/denied.mp4` never.
    """

    refused: list[str] = []  # noqa: RUF012 - shared by all requests
    asked: list[str] = []  # noqa: RUF012
    company = threading.Barrier(2)

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/good_in_company") and self.command == "GET":
            self.company.wait(timeout=10)
        if self.path == "/denied.mp4":
            self.send_error(403)
        elif self.path == "/removed.mp4":
            self.send_error(410)
        elif self.path == "/broken.mp4" or (self.path == "/shaky.mp4" and not self.refused):
            self.refused.append(self.path)
            self.send_error(503)
        elif self.path.startswith(("/good", "/shaky.mp4")):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(CONTENT)
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(remote, "BACK_OFF_SECONDS", 0.01)
    Server.refused.clear()
    Server.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_path_is_itself() -> None:
    with local_file("/some/where.mp4") as path:
        assert path == "/some/where.mp4"


@pytest.mark.parametrize("name", ["good.mp4", "shaky.mp4"])
def test_a_file_is_there_for_as_long_as_it_is_read(server: str, name: str) -> None:
    with local_file(f"{server}/{name}") as path:
        assert Path(path).read_bytes() == CONTENT
        assert path.endswith(".mp4")
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absent.mp4", "not_found: "),
        ("removed.mp4", "not_found: "),
        ("denied.mp4", "refused: HTTP 403"),
        ("broken.mp4", "download_failed: HTTP 503 after 3 tries"),
    ],
)
def test_refusals_say_why(server: str, name: str, why: str) -> None:
    with pytest.raises(DecoderError) as caught, local_file(f"{server}/{name}"):
        pass
    assert caught.value.verdict == "failed"
    assert caught.value.reason.startswith(why)


@pytest.mark.parametrize("name", ["watch/123", "folder.old/clip", "clip.a/b"])
def test_an_address_without_a_suffix_is_fetched_all_the_same(server: str, name: str) -> None:
    with pytest.raises(DecoderError, match="not_found"), local_file(f"{server}/{name}"):
        pass


def test_an_address_that_needs_a_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # not installed
    monkeypatch.delitem(_registry, "gs", raising=False)  # nor loaded by another test
    with pytest.raises(CurationError, match=r"pip install -e '\.\[s3,gs\]'"), local_file("gs://bucket/a.mp4"):
        pass


def test_a_file_of_several_clips_is_fetched_once_and_deleted_after_the_last(server: str) -> None:
    uri = f"{server}/good.mp4"
    with SharedFiles({uri: 3}, HERE, most_bytes=1e9) as files:
        for _ in range(3):
            with files.local(uri) as path:
                assert Path(path).read_bytes() == CONTENT
        assert not Path(path).exists()
    assert Server.asked.count("GET /good.mp4") == 1


def test_fetched_files_that_nobody_reads_make_room(server: str) -> None:
    uris = [f"{server}/good{number}" for number in range(3)]
    with SharedFiles(dict.fromkeys(uris, 2), HERE, most_bytes=2.5 * len(CONTENT)) as files:
        with files.local(uris[0]) as read_all_the_time:
            paths = []
            for uri in uris[1:]:
                with files.local(uri) as path:
                    paths.append(Path(path))
            assert [path.exists() for path in paths] == [False, True]
            assert Path(read_all_the_time).exists()
        with files.local(uris[1]) as path:
            assert Path(path).read_bytes() == CONTENT
    assert Server.asked.count("GET /good1") == 2
    assert Server.asked.count("GET /good2") == 1
    assert not paths[1].exists()


def test_the_next_files_are_fetched_while_one_is_read(server: str) -> None:
    names = ("good_in_company1", "good_in_company2", "denied.mp4", "good3")
    with FilesAhead([f"{server}/{name}" for name in names], HERE) as files:
        for _ in names[:2]:
            with files.next() as path:
                assert Path(path).read_bytes() == CONTENT
            assert not Path(path).exists()
        with pytest.raises(DecoderError, match="refused"), files.next():
            pass
        with files.next() as path:
            assert Path(path).read_bytes() == CONTENT


def test_no_more_than_some_files_lie_there_and_none_is_left(server: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote.tempfile, "tempdir", str(tmp_path))
        uris = [f"{server}/good{number}" for number in range(20)]
        with FilesAhead(uris, HERE) as files, files.next():
            pass
    assert sum(line.startswith("GET") for line in Server.asked) <= FETCHED_AHEAD + 1
    assert list(tmp_path.iterdir()) == []
