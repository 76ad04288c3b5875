"""Files that are not on this machine: fetched whole to a temporary file for as long as they are read."""

import errno
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self
from urllib.parse import urlsplit

from pipelines.curation.decode import DecoderError
from pipelines.curation.reach import (
    EVERY_NETWORK,
    WEB_SCHEMES,
    PrivateAddressError,
    Reach,
    client_of,
    is_remote,
    resolve_uri,
)
from pipelines.curation.verdicts import FAILED, CurationError, reason

TRIES = 3
BACK_OFF_SECONDS = 0.5
CHUNK_BYTES = 1 << 20
FETCHED_AHEAD = 4
# Another try would be answered alike.
GONE = (404, 410)
REFUSALS = (401, 403, 451)
CLIENT_LIBRARIES = ("aiohttp", "botocore", "aiobotocore", "gcsfs")


@contextmanager
def local_file(uri: str, private_networks: tuple[str, ...] = EVERY_NETWORK) -> Iterator[str]:
    """A path on this machine with the content of `uri`, for the time of the `with` block.

    private_networks: those that may be fetched from beside public ones; all, for an address that no table
    named. Raises DecoderError (`failed`: not_found, refused or download_failed) after several tries.
    """
    if not is_remote(uri):
        yield uri
        return
    suffix = PurePosixPath(urlsplit(uri).path).suffix[:8]
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        _fetch(uri, file, private_networks)
        file.flush()
        yield file.name


class FilesAhead:
    """Files that are read one after the other: while one is read, the next are fetched.

    `source_uris`: addresses as the table has them, in the order in which `next` gives them.
    """

    def __init__(self, source_uris: Iterable[str], reach: Reach) -> None:
        self._uris = deque(source_uris)
        self._reach = reach
        self._fetches: deque[Future[tuple[str, Callable[[], None]]]] = deque()
        self._pool = ThreadPoolExecutor(FETCHED_AHEAD)

    @contextmanager
    def next(self) -> Iterator[str]:
        """A path on this machine with the content of the next address.

        Raises DecoderError (`failed`) as `local_file` does, and for what is no address.
        """
        while self._uris and len(self._fetches) <= FETCHED_AHEAD:
            self._fetches.append(self._pool.submit(_fetched, self._uris.popleft(), self._reach))
        path, close = self._fetches.popleft().result()
        try:
            yield path
        finally:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for fetch in self._fetches:
            if not fetch.cancelled() and fetch.exception() is None:
                fetch.result()[1]()


class SharedFiles:
    """Files that several clips are read from: fetched once, and deleted after the last clip.

    `uses`: how many clips are read from each address of the table, at most; what is left at the end goes
    with the `with` block. Where fetched files come to more than `most_bytes`, those that nobody reads at the
    moment are deleted, the longest unused first, and fetched again for their next clip.
    """

    def __init__(self, uses: Mapping[str, int], reach: Reach, most_bytes: float) -> None:
        self._left = Counter(uses)
        self._reach = reach
        self._most_bytes = most_bytes
        self._fetching: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._state = threading.Lock()
        self._files: dict[str, SharedFile] = {}  # the last used is last

    @contextmanager
    def local(self, source_uri: str) -> Iterator[str]:
        """A path on this machine, while the `with` block lasts; threads may share it. See `local_file`."""
        file = None
        try:
            with self._fetching[source_uri]:
                with self._state:
                    file = self._files.pop(source_uri, None)
                    if file is not None:
                        self._begin(source_uri, file)
                if file is None:
                    path, close = _fetched(source_uri, self._reach)
                    file = SharedFile(path, Path(path).stat().st_size if is_remote(source_uri) else 0, close)
                    with self._state:
                        self._begin(source_uri, file)
            yield file.path
        finally:
            with self._state:
                self._left[source_uri] -= 1
                if file is not None:
                    file.readers -= 1
                    if not self._left[source_uri]:
                        self._files.pop(source_uri).close()

    def _begin(self, source_uri: str, file: "SharedFile") -> None:
        file.readers += 1
        self._files[source_uri] = file
        total = sum(other.bytes for other in self._files.values())
        for uri in list(self._files):
            if total > self._most_bytes and not self._files[uri].readers:
                total -= self._files[uri].bytes
                self._files.pop(uri).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for file in self._files.values():
            file.close()


@dataclass
class SharedFile:
    path: str
    bytes: int  # 0 for a file that was on this machine anyway
    close: Callable[[], None]
    readers: int = 0


def _fetched(source_uri: str, reach: Reach) -> tuple[str, Callable[[], None]]:
    """`source_file`, whose block ends when the second value is called."""
    files = ExitStack()
    return files.enter_context(source_file(source_uri, reach)), files.close


@contextmanager
def source_file(source_uri: str, reach: Reach) -> Iterator[str]:
    """`local_file` of an address as a table has it. Raises DecoderError also for one that is out of reach."""
    uri, refused = resolve_uri(source_uri, reach)
    if refused:
        raise DecoderError(FAILED, refused)
    with local_file(uri, reach.private_networks) as path:
        yield path


def _fetch(uri: str, file: IO[bytes], private_networks: tuple[str, ...]) -> None:
    for attempt in range(TRIES):
        try:
            _copy(uri, file, private_networks)
            return
        except ImportError as error:
            raise CurationError(
                f"{uri} needs a package that is not here: pip install -e '.[s3,gs]' ({error})"
            ) from error
        except Exception as error:
            if private := _private(error):
                raise DecoderError(FAILED, reason("private_address", str(private))) from error
            problem = _served(error)
            if problem is None:
                raise
        status = _status(problem)
        if status in GONE or (status is None and isinstance(problem, FileNotFoundError)):
            raise DecoderError(FAILED, reason("not_found", uri)) from problem
        if status in REFUSALS:
            raise DecoderError(FAILED, reason("refused", f"HTTP {status}")) from problem
        if attempt + 1 < TRIES:
            time.sleep(BACK_OFF_SECONDS * 2**attempt)
    said = f"HTTP {status}" if status else f"{type(problem).__name__}: {problem}"
    raise DecoderError(FAILED, reason("download_failed", f"{said} after {TRIES} tries")) from problem


def _status(problem: BaseException) -> int | None:
    """HTTP status, as aiohttp, gcsfs or botocore say it."""
    response = getattr(problem, "response", None)
    if isinstance(response, dict):
        status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status
    if str(problem).startswith("Forbidden: "):  # gcsfs has no number for this one
        return 403
    return getattr(problem, "status", None) or getattr(problem, "code", None)


def _served(error: BaseException) -> BaseException | None:
    """The error of the server or the network behind `error`; None when it is a fault of this program.

    fsspec calls every failed look at an address FileNotFoundError, with the true error as its cause, and
    the errors of client libraries belong to no built-in class.
    """
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return _served(error.__cause__) or error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return None  # this machine's disk is full: no source's fault
    known = isinstance(error, OSError) or type(error).__module__.startswith(CLIENT_LIBRARIES)
    return error if known else None


def _private(error: BaseException | None) -> PrivateAddressError | None:
    """What fsspec wraps in an error of its own."""
    while error is not None and not isinstance(error, PrivateAddressError):
        error = error.__cause__ or error.__context__
    return error


def _copy(uri: str, file: IO[bytes], private_networks: tuple[str, ...]) -> None:
    import fsspec

    file.seek(0)
    file.truncate()
    scheme = urlsplit(uri).scheme
    options = {"get_client": client_of(private_networks)} if scheme in WEB_SCHEMES else {}
    # Not `fsspec.open`: it reads patterns of names into `[*?`, and a chain of file systems into `::`.
    with fsspec.filesystem(scheme, **options).open(uri, "rb") as remote:
        while chunk := remote.read(CHUNK_BYTES):
            file.write(chunk)
