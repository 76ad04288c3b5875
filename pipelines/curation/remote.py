"""Files that are not on this machine: fetched whole to a temporary file for as long as they are read."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from pipelines.curation.decode import DecoderError
from pipelines.curation.verdicts import FAILED, CurationError, reason

TRIES = 3
BACK_OFF_SECONDS = 0.5
CHUNK_BYTES = 1 << 20
REFUSALS = (401, 403, 410, 451)  # another try would be answered alike
CLIENT_LIBRARIES = ("aiohttp", "botocore", "aiobotocore", "gcsfs")


@contextmanager
def local_file(uri: str) -> Iterator[str]:
    """A path on this machine with the content of `uri`, for the time of the `with` block.

    Raises DecoderError (`failed`: not_found or download_failed) after several tries.
    """
    if "://" not in uri:
        yield uri
        return
    suffix = PurePosixPath(urlsplit(uri).path).suffix[:8]
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        _fetch(uri, file)
        file.flush()
        yield file.name


def _fetch(uri: str, file: IO[bytes]) -> None:
    for attempt in range(TRIES):
        try:
            _copy(uri, file)
            return
        except ImportError as error:
            raise CurationError(
                f"{uri} needs a package that is not here: pip install -e '.[s3,gs]' ({error})"
            ) from error
        except Exception as error:
            problem = _served(error)
            if problem is None:
                raise
        status = getattr(problem, "status", None)
        if status == 404 or (status is None and isinstance(problem, FileNotFoundError)):
            raise DecoderError(FAILED, reason("not_found", uri)) from problem
        if status in REFUSALS:
            raise DecoderError(FAILED, reason("download_failed", f"HTTP {status}")) from problem
        if attempt + 1 < TRIES:
            time.sleep(BACK_OFF_SECONDS * 2**attempt)
    said = f"HTTP {status}" if status else f"{type(problem).__name__}: {problem}"
    raise DecoderError(FAILED, reason("download_failed", f"{said} after {TRIES} tries")) from problem


def _served(error: BaseException) -> BaseException | None:
    """The error of the server or the network behind `error`; None when it is a fault of this program.

    fsspec calls every failed look at an address FileNotFoundError, with the true error as its cause, and
    the errors of client libraries belong to no built-in class.
    """
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return _served(error.__cause__) or error
    known = isinstance(error, OSError) or type(error).__module__.startswith(CLIENT_LIBRARIES)
    return error if known else None


def _copy(uri: str, file: IO[bytes]) -> None:
    import fsspec

    file.seek(0)
    file.truncate()
    with fsspec.open(uri, "rb") as remote:
        while chunk := remote.read(CHUNK_BYTES):
            file.write(chunk)
