"""A server on loopback that speaks S3, and fails now and then as real ones do."""

import json
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from pipelines.storage import file_system
from pipelines.uploads import Upload

FAULTS = ("error 500", "slow down", "no answer", "slow reading", "stalled reading", "cut short")
ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>planted</Message></Error>"
PATIENCE_SECONDS = 1.5  # of clients; they wait 15 s by default
SILENT_SECONDS = PATIENCE_SECONDS + 0.5
PART_BYTES = 5 * 2**20  # of an upload; the least that S3 takes
SLOW_PIECES, SLOW_SECONDS = 4, 0.2  # of an answer that trickles


class FaultyStorage:
    """S3 as a WSGI application; `share` of the requests meet one of `FAULTS`, by a seed.

    struck: of which requests that is so.
    """

    def __init__(self, seed: int = 0) -> None:
        self.storage = DomainDispatcherApplication(create_backend_app)
        self.share, self.faults = 0.0, FAULTS
        self.struck: Callable[[dict[str, Any]], bool] = lambda environ: True
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.planted: Counter[str] = Counter()
        self.requests = self.sent_bytes = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self.lock:
            self.requests += 1
            strikes = self.random.random() < self.share and self.struck(environ)
            fault = self.random.choice(self.faults) if strikes else None
            if fault is not None:
                self.planted[fault] += 1
        if fault in ("error 500", "slow down"):
            status, code = (
                ("500 Internal Server Error", b"InternalError")
                if fault == "error 500"
                else ("503 Slow Down", b"SlowDown")
            )
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else ERROR % code
            start_response(status, [("Content-Length", str(len(body)))])
            return [body]
        if fault == "no answer":
            time.sleep(SILENT_SECONDS)
        body = b"".join(self.storage(environ, start_response))
        self.sent_bytes += len(body)
        if fault == "slow reading":
            return trickle(body, SLOW_SECONDS)
        if fault == "stalled reading":
            return trickle(body, SILENT_SECONDS)
        return [body[: len(body) // 2] if fault == "cut short" else body]


def trickle(body: bytes, seconds: float) -> Iterator[bytes]:
    size = max(1, -(-len(body) // SLOW_PIECES))
    for start in range(0, len(body), size):
        time.sleep(seconds)
        yield body[start : start + size]


@contextmanager
def object_storage(bucket: str) -> Iterator[FaultyStorage]:
    """A server with one bucket. Its address and keys are in the environment, as a user sets them."""
    import fsspec
    import s3fs

    patience = {"config_kwargs": {"read_timeout": PATIENCE_SECONDS, "connect_timeout": PATIENCE_SECONDS}}
    storage = FaultyStorage()
    server = make_server("127.0.0.1", 0, storage, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    host, port = server.server_address[:2]
    # What it holds belongs to the process, and outlives the server of another test.
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("FSSPEC_S3", json.dumps(patience))  # of processes that are started from here
        patch.setitem(fsspec.config.conf, "s3", patience)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(bucket)
        try:
            yield storage
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.shutdown()
            thread.join()


def begin_upload(path: Path) -> Upload:
    """An upload that has one part."""
    fs, name = file_system(path)
    bucket, _, key = name.partition("/")
    upload = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    part = {"UploadId": upload, "PartNumber": 1, "Body": b"0" * PART_BYTES}
    fs.call_s3("upload_part", Bucket=bucket, Key=key, **part)
    return Upload(path, upload)
