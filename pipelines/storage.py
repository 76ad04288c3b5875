"""Where a run lies: a folder of a file system, or a prefix of object storage (`s3://`, `gs://`).

A place on object storage is a `upath.UPath`, which has `pathlib.Path`'s methods; annotations say `Path` for
both. What libraries only do with files of this machine goes through `local_copy`, and what has no equal
among the methods stands here and in `pipelines.files`. Nothing is renamed on object storage: an object is
there when it was uploaded whole, and a folder when its marker is there, which is uploaded last and deleted
first.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # most of those that ask for paths read no Parquet
    import pyarrow as pa
    import pyarrow.parquet as pq

SCHEMES = ("s3", "gs")
READ_AT_ONCE = 512  # small files
TRIES = 10  # of a request that fails on the way: half a minute, with pauses that grow


class StorageError(ValueError):
    """A place that cannot be read or written; the message says what to do."""


def storage_path(place: str | Path) -> Path:
    """The path of a folder, or of an address on object storage.

    Raises StorageError for an address of another kind, or when the package for it is not installed.
    """
    if not isinstance(place, str) or "://" not in place:
        return Path(place) if isinstance(place, str) else place
    scheme = place.partition("://")[0]
    if scheme not in SCHEMES:
        raise StorageError(f"{place}: object storage is s3:// or gs://, other places are folders")
    try:
        from pipelines.object_paths import GCSObjectPath, S3ObjectPath

        # No cache of listings: other processes write there too.
        kind: Any = {"s3": S3ObjectPath, "gs": GCSObjectPath}[scheme]
        path = kind(place, use_listings_cache=False)
        path.fs.retries = TRIES
    except ImportError as error:
        raise StorageError(
            f"{place} needs a package that is not installed: `pip install 'factorized-dreamer[{scheme}]'` "
            f"({error})"
        ) from error
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Whether a path is on object storage."""
    return not isinstance(path, Path)


def file_system(path: Path) -> tuple[Any, str]:
    """(fsspec's file system, bucket and key) of a path on object storage."""
    assert is_remote(path)
    there = cast(Any, path)
    return there.fs, there.path


# ---------------------------------------------------------------- reading


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """The file, or the folder with all that is in it, on this machine: itself, or a copy while it is read."""
    if not is_remote(path):
        yield path
        return
    with TemporaryDirectory(prefix="dreamer-") as folder:
        copy = Path(folder) / path.name
        fs, key = file_system(path)
        fs.get(key, str(copy), recursive=True)
        yield copy


def file_sizes(folder: Path) -> dict[str, int]:
    """Bytes of all files in a folder and its folders, by their path in it; none when it is not there.

    Object storage tells a thousand at a time; asked one by one, a hundred thousand take an hour.
    """
    if not is_remote(folder):
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    fs, key = file_system(folder)
    found = fs.find(key, detail=True)
    return {name.removeprefix(f"{key}/"): int(told["size"]) for name, told in found.items()}


def read_many(paths: Sequence[Path]) -> Iterator[bytes]:
    """Small files in their order; from object storage many at a time. All are on the same storage."""
    for first in range(0, len(paths), READ_AT_ONCE):
        some = paths[first : first + READ_AT_ONCE]
        if is_remote(some[0]):
            fs, _ = file_system(some[0])
            keys = [file_system(path)[1] for path in some]
            found = fs.cat(keys)
            yield from (found[key] for key in keys)
        else:
            yield from (path.read_bytes() for path in some)


def parquet_file(path: Path) -> "pq.ParquetFile":
    """A Parquet file to read from; of one on object storage only what is asked for comes over the wire."""
    import pyarrow.parquet as pq

    if not is_remote(path):
        return pq.ParquetFile(path)
    fs, key = file_system(path)
    return pq.ParquetFile(fs.open(key, "rb", cache_type="none"), pre_buffer=True)


def read_table(path: Path, **options: Any) -> "pa.Table":
    """`pyarrow.parquet.read_table` with its options, for small files: from object storage all of it comes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not is_remote(path):
        return pq.read_table(path, **options)
    return pq.read_table(pa.BufferReader(path.read_bytes()), **options)


def arrow_place(path: Path) -> tuple[Any, str]:
    """(pyarrow's file system or None for the local one, the path in it), for libraries that take both."""
    if not is_remote(path):
        return None, str(path)
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    fs, key = file_system(path)
    return PyFileSystem(FSSpecHandler(fs)), key


# ---------------------------------------------------------------- deleting


def remove_tree(path: Path, *, marker: str | None = None) -> None:
    """Delete a folder, if it is there; the file that says that it is whole goes first."""
    if marker is not None:
        (path / marker).unlink(missing_ok=True)
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    fs, key = file_system(path)
    if path.exists():
        fs.rm(key, recursive=True)
