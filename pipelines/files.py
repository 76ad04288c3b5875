"""Files that are never half there, and files that are in two places at once."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path, *, together: bool = False, sync: bool = False) -> Iterator[Path]:
    """A name to write to; the file takes the name `path` when the block ends without an error.

    What was at `path` stays until then. Parent folders are made. After a kill, `.NAME.partial` is left beside
    it, which the next writer of the same file takes over.

    together: other processes may write the same file at this moment; each has a name of its own then.
    sync: to the disk before it takes its name, which so outlives a power failure.
    """
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
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the name `path` when the block ends without an error.

    A folder that was there is deleted then. After a kill `.NAME.partial` is left, which the next one deletes.
    """
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


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """The same file under another name as well; a copy on another disk or without hard links.

    `target` must not be there.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def link_tree(source: Path, target: Path) -> None:
    """`target` becomes a folder with the files of `source`, all of them or none."""
    with whole_folder(target) as partial:
        shutil.copytree(source, partial, copy_function=link_or_copy, dirs_exist_ok=True)
