"""What was fetched from elsewhere and is kept on this machine."""

import hashlib
import json
import os
from pathlib import Path

from pipelines.files import whole_folder
from pipelines.lock import hold
from pipelines.storage import file_system, is_remote

FETCH_SECONDS = 3600.0  # for another process to fetch the same


def cache_folder(kind: str) -> Path:
    """Where fetched things of a kind are kept; XDG_CACHE_HOME moves it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "factorized_dreamer" / kind


def kept_folder(path: Path) -> Path:
    """A folder of this machine: itself, or a copy of one on object storage, fetched anew when it changes."""
    if not is_remote(path) or not path.is_dir():
        return path
    fs, key = file_system(path)
    found = {name: [told["size"], told.get("ETag")] for name, told in fs.find(key, detail=True).items()}
    stamp = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:20]
    kept = cache_folder("models") / stamp / path.name
    with hold(kept.parent / ".lock", wait_seconds=FETCH_SECONDS):  # workers ask side by side
        if not kept.is_dir():
            with whole_folder(kept) as partial:
                fs.get(f"{key.rstrip('/')}/", f"{partial}/", recursive=True)
    return kept
