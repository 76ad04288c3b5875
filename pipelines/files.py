"""Files that are never half there, and files that are in two places at once."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.storage import file_system, is_remote, remove_tree


@contextmanager
def whole_file(path: Path, *, together: bool = False, sync: bool = False) -> Iterator[Path]:
    """A name on this machine to write to; the file is at `path` when the block ends without an error.

    What was at `path` stays until then. Parent folders are made. After a kill, `.NAME.partial` is left beside
    it, which the next writer of the same file takes over. To object storage it is uploaded.

    together: other processes may write the same file at this moment; each has a name of its own then.
    sync: to the disk before it takes its name, which so outlives a power failure.
    """
    if is_remote(path):
        with TemporaryDirectory(prefix="dreamer-") as folder:
            yield Path(folder) / path.name
            _upload(Path(folder) / path.name, path)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial" if together else f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        if sync:
            sync_to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path, *, marker: str | None = None) -> Iterator[Path]:
    """An empty folder on this machine to fill, which is at `path` when the block ends without an error.

    A folder that was there is deleted then. After a kill `.NAME.partial` is left, which the next one deletes.
    marker: the file in it that says that it is whole; object storage needs one.
    """
    if is_remote(path):
        with TemporaryDirectory(prefix="dreamer-") as folder:
            yield Path(folder)
            remove_tree(path, marker=marker)
            _upload_tree(Path(folder), path, marker)
        return
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_text(path: Path, text: str, *, together: bool = False) -> None:
    """Write a text file in UTF-8, whole or not at all; `together` as in `whole_file`."""
    with whole_file(path, together=together) as partial:
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
