"""Sources on Google Cloud Storage: its own client, and a server on this machine that speaks its JSON API."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from pipelines.curation import remote
from pipelines.curation.decode import DecoderError
from pipelines.curation.remote import local_file

CONTENT = bytes(range(256)) * 40
OBJECT = "/storage/v1/b/videos/o/shelf/v.mp4"
DENIED = "denied.mp4"


class Storage(BaseHTTPRequestHandler):
    """One bucket, `videos`: an object that may be read and one that may not."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path).removeprefix("/download")
        if DENIED in self.path:  # nor may it be listed
            self.answer(403, json.dumps({"error": {"code": 403, "message": "denied"}}).encode())
        elif path != OBJECT:
            self.answer(404, json.dumps({"error": {"code": 404, "message": "No such object"}}).encode())
        elif "alt=media" in url.query:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert asked
            self.answer(206, CONTENT[int(asked[1]) : int(asked[2]) + 1])
        else:
            known = {"kind": "storage#object", "bucket": "videos", "name": "shelf/v.mp4", "generation": "1"}
            self.answer(200, json.dumps(known | {"size": str(len(CONTENT))}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def storage() -> Iterator[None]:
    from gcsfs import GCSFileSystem

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks for the bucket's kind over gRPC
        patch.setattr(remote, "BACK_OFF_SECONDS", 0.01)
        GCSFileSystem.clear_instance_cache()
        yield
        GCSFileSystem.clear_instance_cache()
        server.shutdown()


def test_an_object_is_there_for_as_long_as_it_is_read() -> None:
    with local_file("gs://videos/shelf/v.mp4") as path:
        assert Path(path).read_bytes() == CONTENT
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("address", "code"), [("gs://videos/none.mp4", "not_found"), ("gs://videos/denied.mp4", "refused")]
)
def test_what_may_not_be_read_is_told_from_what_is_not_there(address: str, code: str) -> None:
    with pytest.raises(DecoderError, match=code), local_file(address):
        pass
