"""Fingerprints: the hash of everything that an artifact depends on."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def fingerprint(*parts: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `parts`.

    Equal data gives equal fingerprints whatever the order of keys, the process or the machine.
    Parts may be pydantic models, dataclasses, mappings, sequences, sets, paths and plain values.
    Raises TypeError for anything else (an object whose text holds its address would never hash alike
    twice), ValueError for NaN and infinities.
    """
    text = json.dumps(_plain(list(parts)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def recipe_fingerprint(recipe: BaseModel) -> str:
    """Fingerprint of what a recipe asks for, wherever the run directory lies."""
    return fingerprint(recipe.model_dump(mode="json", exclude={"run_directory"}))


def _plain(value: Any) -> Any:
    """`value` as JSON's own types, in one canonical form."""
    match value:
        case None | bool() | int() | str():
            return value.value if isinstance(value, Enum) else value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"cannot fingerprint {value}: NaN and infinities equal nothing")
            # A recipe's 8 and 8.0 are one setting.
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        case BaseModel():
            return _plain(value.model_dump(mode="json"))
        case Path():
            return value.as_posix()
        case bytes():
            return {"sha256": hashlib.sha256(value).hexdigest()}
        case Enum():
            return _plain(value.value)
        case Mapping():
            if wrong := [key for key in value if not isinstance(key, str)]:
                raise TypeError(f"keys of a fingerprinted mapping must be str, not {wrong[0]!r}")
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted((_plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    raise TypeError(f"cannot fingerprint a {type(value).__name__}: give plain data")


def file_sha256(path: str) -> str:
    """Hash of a file's bytes; read once as long as the file is not written to.

    Raises FileNotFoundError.
    """
    found = Path(path).stat()
    return _file_sha256(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def _file_sha256(path: str, modified_ns: int, size_bytes: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def source_fingerprint(*packages: str) -> str:
    """Fingerprint of the bytes of the Python files of packages or modules, such as `pipelines.curation`."""
    import importlib.util

    files: dict[str, bytes] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no package {package!r} to fingerprint")
        origin = Path(spec.origin)
        found = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        base = origin.parent
        files |= {f"{package}/{file.relative_to(base).as_posix()}": file.read_bytes() for file in found}
    return fingerprint(files)
