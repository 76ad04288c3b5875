"""Files that are never half there, and files that are in two places at once."""

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from pipelines.storage import file_system, is_remote, remove_tree


class DiskFullError(OSError):
    """There is no room for `filename`."""

    def __str__(self) -> str:
        return (
            f"the disk is full: no room for {self.filename}. Make some; what is whole stays, and the same "
            "command goes on where this one stopped"
        )


def disk_is_full(error: BaseException) -> bool:
    """Whether the operating system refused to write more, in its own words or in those of a library."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in full
    return any(f"(os error {code})" in str(error) for code in full)  # safetensors, which is written in Rust


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raise DiskFullError for what is raised in the block because there is no room for `path`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not disk_is_full(error):
            raise
        raise DiskFullError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextmanager
def whole_file(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A name on this machine to write to; the file is at `path` when the block ends without an error.

    What was at `path` stays until then. Parent folders are made. Of several who write the same file at once
    each has a name of its own. After a kill, `.NAME.partial` is left beside it, which the next writer of the
    same file takes over. To object storage it is uploaded.

    sync: to the disk before it takes its name, which so outlives a power failure. Raises DiskFullError.
    """
    if is_remote(path):
        with TemporaryDirectory(prefix="dreamer-") as folder:
            yield Path(folder) / path.name
            _upload(Path(folder) / path.name, path)
        return
    with room_for(path), _own_partial(path) as partial:
        try:
            yield partial
            if sync:
                sync_to_disk(partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def _own_partial(path: Path) -> Iterator[Path]:
    """`.NAME.partial`, or a name that nobody else thinks of while another writer has that one.

    There are two when a node that was taken for dead is not, or when a command is started again before the
    workers of the last one have ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    usual = path.with_name(f".{path.name}.partial")
    with usual.open("ab") as file:
        yield usual if _holds(file, usual) else path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def _holds(file: IO[bytes], path: Path) -> bool:
    """Lock an open file; False when another one has it, or has given it another name since it was opened."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks
        return True


@contextmanager
def whole_folder(path: Path, *, marker: str | None = None) -> Iterator[Path]:
    """An empty folder on this machine to fill, which is at `path` when the block ends without an error.

    A folder that was there is deleted then. After a kill `.NAME.partial` is left, which the next one deletes.
    marker: the file in it that says that it is whole; object storage needs one. Raises DiskFullError.
    """
    if is_remote(path):
        with TemporaryDirectory(prefix="dreamer-") as folder:
            yield Path(folder)
            remove_tree(path, marker=marker)
            _upload_tree(Path(folder), path, marker)
        return
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with room_for(path):
        try:
            partial.mkdir(parents=True)
            yield partial
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Write a JSON file for people and programs, whole or not at all; `default` as in `json.dumps`."""
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False, default=default) + "\n")


def sync_to_disk(path: Path) -> None:
    """A file's bytes, or a folder's names, to the disk and not only to the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name as well; a copy on another disk or without hard links.

    `target` must not be there.
    """
    if is_remote(source) and is_remote(target):
        fs, key = file_system(source)
        fs.copy(key, file_system(target)[1])
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def link_tree(source: Path, target: Path, *, marker: str) -> None:
    """`target` becomes a folder with the files of `source`, all of them or none; `marker` is one of them."""
    if is_remote(source):
        found = [path for path in source.rglob("*") if path.is_file() and path != source / marker]
        for path in [*found, source / marker]:
            link_or_copy(path, target / str(path.relative_to(source)))
        return
    with whole_folder(target) as partial:
        for path in source.rglob("*"):
            copy = partial / path.relative_to(source)
            copy.mkdir() if path.is_dir() else link_or_copy(path, copy)


def _upload(file: Path, target: Path) -> None:
    """One object, which is there when all of it is; a part of one is taken back."""
    fs, key = file_system(target)
    fs.put_file(str(file), key)


def _upload_tree(folder: Path, target: Path, marker: str | None) -> None:
    fs, key = file_system(target)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    for part in ([name for name in names if name != marker], [name for name in names if name == marker]):
        if part:  # many at a time
            fs.put([str(folder / name) for name in part], [f"{key}/{name}" for name in part])
