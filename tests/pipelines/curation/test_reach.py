"""What rows of a table can make a worker read: files below the declared folders, and public servers."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.curation import remote
from pipelines.curation.decode import DecoderError
from pipelines.curation.reach import Reach, may_connect, reach_of, resolve_uri
from pipelines.curation.remote import local_file, source_file
from pipelines.recipe import DataSettings


class Server(BaseHTTPRequestHandler):
    """Gives a film for every path but `/away/N`, which it redirects to the N-th of `goals`."""

    asked: list[str] = []  # noqa: RUF012 - shared by all requests
    goals: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/away/"):
            self.send_response(302)
            self.send_header("Location", self.goals[int(self.path.rpartition("/")[2])])
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"film")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(remote, "BACK_OFF_SECONDS", 0.01)
    Server.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield http
        http.shutdown()


def folder_of(tmp_path: Path, *more: str) -> Reach:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "videos.csv").touch()
    return reach_of(DataSettings(table=str(tmp_path / "data" / "videos.csv"), more_roots=more))


def test_paths_are_relative_to_the_table_and_addresses_stay_as_they_are(tmp_path: Path) -> None:
    reach, folder = folder_of(tmp_path), tmp_path / "data"
    assert resolve_uri("a/b.mp4", reach) == (str(folder / "a/b.mp4"), None)
    assert resolve_uri(f"{folder}/b.mp4", reach) == (str(folder / "b.mp4"), None)
    assert resolve_uri(f"file://{folder}/a%20b.mp4", reach) == (str(folder / "a b.mp4"), None)
    assert resolve_uri("https://host/a%20b.mp4", reach) == ("https://host/a%20b.mp4", None)


@pytest.mark.parametrize(
    "uri", ["a/../../secret.mp4", "{outside}/secret.mp4", "file://{outside}/secret.mp4", "link/secret.mp4"]
)
def test_no_row_leaves_the_declared_folders(tmp_path: Path, uri: str) -> None:
    reach, outside = folder_of(tmp_path), tmp_path
    (outside / "secret.mp4").write_bytes(b"film")
    (tmp_path / "data" / "link").symlink_to(outside)
    named = uri.format(outside=outside)
    same, refused = resolve_uri(named, reach)
    assert (same, refused) == (named, f"outside_root: data.more_roots=[{outside}] would allow it")
    with pytest.raises(DecoderError, match="outside_root"), source_file(named, reach):
        pass
    assert resolve_uri(named, folder_of(tmp_path, str(outside)))[1] is None


@pytest.mark.parametrize("uri", ["s3://videos/a/b.mp4", "gs://films/b.mp4"])
def test_buckets_are_read_when_the_recipe_names_them(tmp_path: Path, uri: str) -> None:
    assert str(resolve_uri(uri, folder_of(tmp_path))[1]).startswith("outside_root: data.more_roots=[")
    assert resolve_uri(uri, folder_of(tmp_path, "s3://videos/a/", "gs://films")) == (uri, None)
    for other in (
        "s3://videos-of-others/a/b.mp4",
        "s3://videos/b.mp4",
        "s3://videos/a/../b.mp4",
        "gs://videos/a/b",
    ):
        assert resolve_uri(other, folder_of(tmp_path, "s3://videos/a/"))[1] is not None


@pytest.mark.parametrize("uri", ["x" * 300 + ".mp4", "http://[bad/x.mp4", "a\0b.mp4"])
def test_what_is_no_address_is_said_and_stops_nothing(tmp_path: Path, uri: str) -> None:
    same, refused = resolve_uri(uri, folder_of(tmp_path))
    assert same == uri
    assert str(refused).startswith("bad_address")


def test_file_names_on_disk_may_be_decomposed(tmp_path: Path) -> None:
    reach = folder_of(tmp_path)
    (tmp_path / "data" / "cafe\u0301.mp4").write_bytes(b"")
    assert Path(resolve_uri("caf\u00e9.mp4", reach)[0]).exists()


PRIVATE = (
    "127.0.0.1",
    "127.8.9.1",
    "0.0.0.0",
    "10.0.0.5",
    "172.16.3.4",
    "192.168.1.1",
    "100.64.0.1",  # a carrier's own network
    "169.254.169.254",  # a cloud's metadata
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",  # 169.254.169.254 by way of NAT64
    "64:ff9b:1::a9fe:a9fe",  # by way of a network's own, which may have it anywhere
    "64:ff9b:1:a9fe:a9:fe00:808:808",
    "2002:7f00:1::",  # 127.0.0.1 by way of 6to4
    "::ffff:0:7f00:1",  # by way of SIIT
    "::7f00:1",  # as a compatible address
    "fec0::2",  # site-local
    "192.0.0.192",  # special purposes; Oracle's metadata
    "168.63.129.16",  # Azure's wire server
)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_told_from_public_ones(host: str) -> None:
    assert not may_connect(host, ())
    assert may_connect(host, ("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.5", "::1", "::2", "64:ff9b:1::1", "fec0::2", "168.63.129.16"]
)
def test_each_of_them_can_be_allowed_by_itself(host: str) -> None:
    assert may_connect(host, (host,))


@pytest.mark.parametrize("host", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_are_open(host: str) -> None:
    assert may_connect(host, ())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "films.example", "2130706433", "0177.0.0.1", "127.1"],
)
def test_no_spelling_of_a_private_server_is_asked(
    server: ThreadingHTTPServer, tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that are no plain address are refused as such; a name is looked up, here to 127.0.0.1."""
    look_up = socket.getaddrinfo
    here = {"films.example": "127.0.0.1"}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda name, *more, **kw: look_up(here.get(name, name), *more, **kw)
    )
    uri = f"http://{host}:{server.server_port}/a.mp4"
    with pytest.raises(DecoderError) as caught, source_file(uri, folder_of(tmp_path)):
        pass
    if host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "films.example"):
        assert caught.value.reason.startswith("private_address: ")
        assert "data.private_networks=[" in caught.value.reason
    assert Server.asked == []


def test_a_redirect_reaches_no_private_server_either(server: ThreadingHTTPServer) -> None:
    """127.0.0.1 stands for a public server here; the one it sends to is another of this machine."""
    Server.goals[:] = [f"http://127.0.0.2:{server.server_port}/b.mp4", "http://169.254.169.254/latest"]
    for number in range(2):
        uri = f"http://127.0.0.1:{server.server_port}/away/{number}"
        with pytest.raises(DecoderError, match="private_address"), local_file(uri, ("127.0.0.1",)):
            pass
    assert {path for path in Server.asked if not path.startswith("/away")} == set()


@pytest.mark.parametrize("path", ["/a.mp4", "/a.mp4?b=*&c=%5B*%5D", "/a::file:///etc/hostname"])
def test_a_network_that_the_recipe_names_is_open_and_an_address_is_no_pattern(
    server: ThreadingHTTPServer, tmp_path: Path, path: str
) -> None:
    data = DataSettings(table=str(tmp_path / "t.csv"), private_networks=("127.0.0.0/8",))
    with source_file(f"http://127.0.0.1:{server.server_port}{path}", reach_of(data)) as film:
        assert Path(film).read_bytes() == b"film"
    assert set(Server.asked) == {path}


def test_a_reason_keeps_no_secret_of_an_address(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    uri = f"http://user:planted@127.0.0.1:{server.server_port}/a.mp4?X-Signature=planted"
    with pytest.raises(DecoderError) as caught, source_file(uri, folder_of(tmp_path)):
        pass
    assert "planted" not in caught.value.reason
