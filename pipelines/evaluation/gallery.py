"""Pictures of an evaluation for a person: contact sheet, grid video and GIF."""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipelines.evaluation.measure import conditioning_image, video_path
from pipelines.evaluation.reference import EvaluationClip
from pipelines.media import Captioned, contact_sheet, read_mp4, video_grid, write_gif, write_mp4

SHEET_CLIPS, GRID_CLIPS, GRID_COLUMNS = 16, 16, 4


def write_gallery(
    folder: Path, clips: Sequence[EvaluationClip], rows: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """`grid.png`: drawn beside real, frame by frame; `grid.mp4` and `grid.gif`: drawn videos, playing.

    Where an image was given, it stands in the real video's place.
    """
    seen = {(row["set"], row["clip_id"]): row["objects"] for row in rows if row["variant"] == "generated"}
    shown = _varied(clips, SHEET_CLIPS)
    sheet = []
    for clip in shown:
        drawn = read_mp4(video_path(folder, "generated", clip))[0]
        sheet += [(_verdict(clip, seen[clip.set, clip.clip_id]), drawn), _beside(folder, clip)]
    contact_sheet(folder / "grid.png", sheet, columns=2)
    playing = [
        (clip.caption, read_mp4(video_path(folder, "generated", clip))[0])
        for clip in _varied(clips, GRID_CLIPS)
    ]
    grid, fps = video_grid(playing, columns=GRID_COLUMNS), clips[0].fps
    return [
        folder / "grid.png",
        write_mp4(folder / "grid.mp4", grid, fps),
        write_gif(folder / "grid.gif", grid, fps),
    ]


def _beside(folder: Path, clip: EvaluationClip) -> Captioned:
    if clip.given_image:
        return "the given image", conditioning_image(folder, clip)[None]
    return "the real video", read_mp4(video_path(folder, "ground_truth", clip))[0]


def _varied(clips: Sequence[EvaluationClip], count: int) -> list[EvaluationClip]:
    """Clips of each motion of the first set in turn, then some of the other sets: first, not best ones."""
    first = [clip for clip in clips if clip.set == clips[0].set]
    others = [clip for clip in clips if clip.set != clips[0].set]
    rest = _in_turn(others, lambda clip: clip.set)[: count // 4]
    return [
        *_in_turn(first, lambda clip: clip.objects[0]["motion"] if clip.objects else "")[: count - len(rest)],
        *rest,
    ]


def _in_turn(clips: Sequence[EvaluationClip], kind: Callable[[EvaluationClip], str]) -> list[EvaluationClip]:
    """One clip of each kind, then a second one of each, and so on."""
    kinds: dict[str, list[EvaluationClip]] = {}
    for clip in clips:
        kinds.setdefault(kind(clip), []).append(clip)
    rounds = zip_longest(*(group for _, group in sorted(kinds.items())))
    return [clip for one_round in rounds for clip in one_round if clip is not None]


def _verdict(clip: EvaluationClip, objects: Sequence[Mapping[str, Any]]) -> str:
    if not objects:
        return clip.caption
    found = ", ".join(
        thing["seen"] if thing["asked"] == thing["seen"] else f"{thing['seen']}, not {thing['asked']}"
        for thing in objects
    )
    return f"{clip.caption} (seen: {found})"
