"""A folder of videos that belongs to one model and one way of drawing, so that drawing can go on in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.files import write_json

NAME = "drawn.json"


class ClaimedError(ValueError):
    """A folder that holds something else's videos; the message says what to do."""


def claim_folder(folder: Path, videos: Path, fingerprint: str, told: Mapping[str, Any]) -> None:
    """Make `folder` the place of videos with this fingerprint; those that it has of it stay and count.

    videos: where below it they lie. told: what a person wants to know of how they are drawn; written beside
    the fingerprint. Pieces of videos that a kill left are removed. Raises ClaimedError, and changes nothing,
    when there are videos of another fingerprint or of none: drawing may have taken days, so they are for a
    person to delete.
    """
    path = folder / NAME
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get("fingerprint") != fingerprint and next(videos.rglob("*.mp4"), None) is not None:
        whose = f"of {found['model']}, drawn otherwise" if "model" in found else "of unknown origin"
        raise ClaimedError(
            f"{videos} holds videos {whose}: give another folder, or delete it to draw anew "
            f"(model, sampling, prompts or seed differ from {path})"
        )
    videos.mkdir(parents=True, exist_ok=True)
    for piece in videos.rglob(".*.partial"):
        piece.unlink()
    write_json(path, {"fingerprint": fingerprint, **told})
