"""Pass 1: every source → shots → clips → scores.

`stamp` is `scoring_fingerprint` of the recipe, everywhere: hashing the weights that it holds takes its time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation import clip_table
from pipelines.curation.decode import DecoderError, DecoderProcess, beat
from pipelines.curation.image_scores import ImageScorer, prepare_decoder
from pipelines.curation.reach import reach_of
from pipelines.curation.remote import FilesAhead
from pipelines.curation.scores import clip_scores
from pipelines.curation.shots import cut_detector
from pipelines.curation.sources import unit_sources
from pipelines.curation.verdicts import EXCLUDED, FAILED, FILTERED, QUARANTINED, reason
from pipelines.curation.video import Picture, Video, clip_times, open_video, shrunk
from pipelines.fingerprint import file_sha256, fingerprint
from pipelines.layout import RunLayout
from pipelines.models import weights_sha256
from pipelines.recipe import CurationSettings, Recipe, Settings, ShotSettings
from pipelines.storage import read_table

SCORING_VERSION = 5  # raise when the same settings give other rows
IMAGE_SCORES_VERSION = 1  # the same, of image embedding and text match alone

# The clip table without what the query adds from the source table, captions and thresholds, but with the
# features that it rates. They, and the caption that `text_match` is of, are null without image_scores.clip.
ADDED_BY_QUERY = {"license", "split", "labels", "appearance_caption", "motion_caption", "aesthetic_score"}
ADDED_BY_QUERY |= {"bucket", "duplicate_of", "fingerprint"}
SCHEMA = pa.schema([column for column in clip_table.SCHEMA if column.name not in ADDED_BY_QUERY])
SCHEMA = SCHEMA.append(pa.field("image_embedding", pa.list_(pa.float32())))  # (D,), of length 1

KEY_COLUMNS = ("source_id", "source_uri", "caption", "reason")  # what tells whether a source has rows

Row = dict[str, Any]


class ScoringSettings(Settings):
    """All that the rows of pass 1 depend on beside the files, and the captions if there is a `clip`."""

    fps: float
    clip_frames: tuple[int, ...]  # lengths that a clip can have, the longest first
    short_side_pixels: int
    shots: ShotSettings
    text: bool
    clip: str | None = None  # folder of a CLIPModel; see ImageScoreSettings

    @property
    def clip_seconds(self) -> float:
        return self.clip_frames[0] / self.fps


def scoring_settings(curation: CurationSettings) -> ScoringSettings:
    return ScoringSettings(
        fps=curation.fps,
        clip_frames=curation.clip_frames,
        short_side_pixels=curation.decode.score_short_side_pixels,
        shots=curation.shots.model_copy(update={"gpus_per_task": 0}),  # decides where, not what
        text=curation.filters.reads_text,
        clip=curation.image_scores.clip,
    )


def scoring_fingerprint(curation: CurationSettings) -> str:
    settings = scoring_settings(curation)
    weights = settings.shots.weights
    content = None if weights is None else file_sha256(weights)  # of the file, wherever it lies
    shots = settings.shots.model_copy(update={"weights": content})
    parts = settings.model_copy(update={"shots": shots}).model_dump(mode="json", exclude={"clip"})
    if settings.clip is not None:  # without one, scores of before there were image scores hold
        parts["clip"] = [IMAGE_SCORES_VERSION, weights_sha256(settings.clip)]
    return fingerprint("scores", SCORING_VERSION, parts)


def scores_path(layout: RunLayout, unit: int, stamp: str) -> Path:
    return layout.scores / f"{unit:05d}-{stamp[:8]}.parquet"


# ---------------------------------------------------------------- a unit of work


def unscored_sources(
    unit: int, recipe: Recipe, layout: RunLayout, excluded: frozenset[str], stamp: str
) -> int | None:
    """How many sources of a unit have no row yet; None when its score file is whole and of this table."""
    known = known_rows(layout, unit, recipe, excluded, stamp, KEY_COLUMNS)
    sources = {_key(source, recipe) for source in unit_sources(layout, unit)}
    if known is not None and known.keys() == sources:
        return None
    return len(sources - (known or {}).keys())


def score_unit(
    unit: int,
    recipe: Recipe,
    layout: RunLayout,
    excluded: frozenset[str],
    stamp: str,
    decoder: DecoderProcess,
    advance: Callable[[int], None],
) -> dict[str, int]:
    """Score the sources of a unit that have no row yet and write its score file.

    Returns how many were decoded. Sources that are gone from the table lose their rows; those whose rows
    are there are not opened again, and excluded ones never. Raises CurationError when the decoder cannot hold
    the CLIP of the recipe.
    """
    known = known_rows(layout, unit, recipe, excluded, stamp)
    sources = unit_sources(layout, unit)
    if known is not None and known.keys() == {_key(source, recipe) for source in sources}:
        return {"decoded": 0}  # Ray does a task again whose answer was lost with a node
    known = known or {}
    new = [source for source in sources if _key(source, recipe) not in known]
    opened = [source for source in new if source["source_id"] not in excluded]
    pictures = _earlier_pictures(layout, unit) if len(opened) < len(new) else {}
    rows: list[Row] = []
    with FilesAhead((source["source_uri"] for source in opened), reach_of(recipe.data)) as files:
        for source in sources:
            if _key(source, recipe) in known:
                rows += known[_key(source, recipe)]
                continue
            if source["source_id"] in excluded:
                rows += _unopened_rows(source, recipe, pictures.get(source["source_id"], [{}]))
            else:
                rows += score_source(source, files, recipe, decoder)
            advance(1)
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({"fingerprint": stamp}))
    clip_table.write_table(scores_path(layout, unit, stamp), table)
    return {"decoded": len(opened)}


def _unopened_rows(source: Row, recipe: Recipe, pictures: list[Row]) -> list[Row]:
    """Rows of an excluded source, which is not opened, with what is known of its clips."""
    return [
        _identity(source, recipe) | picture | {"verdict": FILTERED, "reason": EXCLUDED}
        for picture in pictures
    ]


def _earlier_pictures(layout: RunLayout, unit: int) -> dict[str, list[Row]]:
    """Clips and hashes by source, from the last score file of other settings that has any of it.

    They go on standing for their copies, which would come back in their place if they were forgotten.
    """
    columns = ["source_id", "clip_id", "start_seconds", "end_seconds", "phash"]
    found: dict[str, list[Row]] = {}
    for path in sorted(layout.scores.glob(f"{unit:05d}-*.parquet"), key=lambda path: path.stat().st_mtime):
        of_file: dict[str, list[Row]] = {}
        for row in read_table(path, columns=columns).to_pylist():
            if row["phash"] is not None:
                of_file.setdefault(row.pop("source_id"), []).append(row)
        found |= of_file
    return found


def known_rows(
    layout: RunLayout,
    unit: int,
    recipe: Recipe,
    excluded: frozenset[str],
    stamp: str,
    columns: Sequence[str] = tuple(SCHEMA.names),
) -> dict[tuple[str, ...], list[Row]] | None:
    """Rows that stand in the unit's score file of these settings, by source; None when there is none.

    Without those of sources that were not opened because they were excluded then and are not now.
    """
    path = scores_path(layout, unit, stamp)
    if not path.exists():
        return None
    known: dict[tuple[str, ...], list[Row]] = {}
    for row in read_scores(path, columns).to_pylist():
        if row["reason"] != EXCLUDED or row["source_id"] in excluded:
            known.setdefault(_key(row, recipe), []).append(row)
    return known


def read_scores(path: Path, columns: Sequence[str] = tuple(SCHEMA.names)) -> pa.Table:
    """Columns of a score file; those that one of an earlier version lacks are null."""
    return read_table(path, schema=SCHEMA, columns=list(columns))


def _key(row: Row, recipe: Recipe) -> tuple[str, ...]:
    """What the rows of a source are known by."""
    return tuple(_identity(row, recipe).values())


def _identity(source: Row, recipe: Recipe) -> Row:
    """The source's columns that its rows depend on: its caption too, if pictures are compared with it."""
    names = ("source_id", "source_uri", *(["caption"] if recipe.curation.image_scores.clip else []))
    return {name: source[name] for name in names}


def forget_failed_sources(path: Path) -> None:
    """Drop the rows of sources that failed or were quarantined, so that they are tried again."""
    table = read_table(path)
    lost = pc.is_in(table["verdict"], pa.array([FAILED, QUARANTINED]))
    if pc.any(lost).as_py():
        clip_table.write_table(path, table.filter(pc.invert(lost)))


def score_source(source: Row, files: FilesAhead, recipe: Recipe, decoder: DecoderProcess) -> list[Row]:
    """Rows of the source whose file is next: its clips, or one row that says why there is none.

    Never raises for bad data.
    """
    identity, settings = _identity(source, recipe), scoring_settings(recipe.curation)
    if settings.clip is not None:
        prepare_decoder(decoder, settings.clip)
    try:
        with files.next() as path:
            rows = decoder.call(score_video, path, settings, source["caption"])
        if complaint := decoder.complaint():
            raise DecoderError(FAILED, reason("corrupt", complaint))
    except DecoderError as error:
        return [identity | {"verdict": error.verdict, "reason": error.reason}]
    for row in rows:
        row["clip_id"] = clip_table.clip_id(source["source_id"], row["start_seconds"], row["end_seconds"])
    return [identity | row for row in rows]


# ---------------------------------------------------------------- in the decoder process


@dataclass
class Shot:
    """A shot that is still going on, and the frames that its clips will need."""

    first: int
    clips: list[np.ndarray]  # (T,) indices of the frames of each clip
    frames: dict[int, np.ndarray] = field(default_factory=dict)
    wanted: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted = {int(index) for clip in self.clips for index in clip}

    def take(self, picture: Picture) -> None:
        if picture.index in self.wanted:
            self.frames[picture.index] = picture.rgb


def score_video(path: str, settings: ScoringSettings, caption: str = "") -> list[Row]:
    """Rows of one file: shots, clips, scores. One decode, a handful of small frames in memory.

    caption: what pictures are compared with, if the settings name a CLIP. Raises UnreadableVideoError.
    """
    video = open_video(path)
    scorer = None if settings.clip is None else ImageScorer(settings.clip, caption)
    rows: list[Row] = []
    for shot, end in _shots(video, settings):
        rows += _shot_rows(video, shot, end, settings, scorer)
    return rows


def _shots(video: Video, settings: ScoringSettings) -> Iterator[tuple[Shot, int]]:
    """(shot, index of the frame after its last) in order."""
    size = shrunk(video.width, video.height, settings.short_side_pixels)
    detector = cut_detector(settings.shots, video.fps)
    recent: deque[Picture] = deque(maxlen=detector.lag_frames)
    shot, seen = _begin(video, 0, settings), 0
    for picture in video.pictures(*size):
        recent.append(picture)
        shot.take(picture)
        seen = picture.index + 1
        for cut in detector.feed(picture):
            yield shot, cut
            shot = _begin(video, cut, settings, recent)
    for cut in detector.finish():
        yield shot, cut
        shot = _begin(video, cut, settings, recent)
    yield shot, seen


def _begin(video: Video, first: int, settings: ScoringSettings, seen: Iterable[Picture] = ()) -> Shot:
    """A shot whose first frames may have been seen already."""
    start, longest = float(video.starts_seconds[first]), settings.clip_frames[0]
    clips = [
        video.shown_at(clip_times(start + number * settings.clip_seconds, longest, settings.fps))
        for number in range(settings.shots.clips_per_shot)
    ]
    shot = Shot(first, clips)
    for picture in seen:
        shot.take(picture)
    return shot


def _shot_rows(
    video: Video, shot: Shot, end: int, settings: ScoringSettings, scorer: ImageScorer | None
) -> list[Row]:
    shot_start = float(video.starts_seconds[shot.first])
    shot_end = float(video.starts_seconds[end]) if end < len(video.starts_seconds) else video.end_seconds
    common: Row = {
        "shot_start_seconds": round(shot_start, 4),
        "shot_end_seconds": round(shot_end, 4),
        "source_fps": round(video.fps, 4),
        "width": video.width,
        "height": video.height,
    }
    half_frame = 0.5 / video.fps
    rows = []
    for number, indices in enumerate(shot.clips):
        start = shot_start + number * settings.clip_seconds
        fitting = (
            length
            for length in settings.clip_frames
            if indices[length - 1] < end and start + length / settings.fps <= shot_end + half_frame
        )
        length = next(fitting, None)
        if length is None:
            break
        frames = np.stack([shot.frames[int(index)] for index in indices[:length]])
        span = {
            "start_seconds": round(start, 4),
            "end_seconds": round(start + length / settings.fps, 4),
        }
        image_scores = scorer.scores(frames[length // 2]) if scorer else {}
        rows.append(common | span | clip_scores(frames, settings.fps, text=settings.text) | image_scores)
        beat()
    if rows:
        return rows
    needed = settings.clip_frames[-1] / settings.fps
    short = reason("too_short", f"{shot_end - shot_start:.2f} s of {needed:.2f} s")
    span = {"start_seconds": common["shot_start_seconds"], "end_seconds": common["shot_end_seconds"]}
    return [common | span | {"verdict": FILTERED, "reason": short}]
