"""A study: which videos stand against each other. Fixed when it is made, kept in study.json."""

import hashlib
import json
import os
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt, ValidationError

from pipelines.evaluation.reference import EvaluationClip, EvaluationError, read_evaluation_clips
from pipelines.files import write_text
from pipelines.layout import RunLayout
from pipelines.progress import track
from pipelines.recipe import Settings

REAL = "real"
DEFAULT_PAIRS = 40
PLACES = {False: "videos", True: "reference"}  # of drawn and of real videos in the folder of an evaluation


class StudyError(ValueError):
    """A study that cannot be made, served or counted; the message says why and what to do."""


class StudySettings(Settings):
    """What a study was asked to be.

    runs: run directories, absolute. set: of which evaluation set, None: of all. pairs: how many each rater
    sees, None: `DEFAULT_PAIRS`, or all if there are fewer. with_real: real videos are a contestant too.
    """

    runs: tuple[str, ...]
    evaluation: str = "final"
    set: str | None = None
    pairs: PositiveInt | None = None
    seed: int = 0
    with_real: bool = False


class Contestant(Settings):
    """Where the videos of one side come from. Nothing outside `run` is ever served."""

    name: str
    run: str
    videos: str


class Clip(Settings):
    """A clip that all contestants have a video of. sha256: of each contestant's file."""

    set: str
    clip_id: str
    caption: str
    sha256: tuple[str, ...]


class Pair(Settings):
    """Two contestants' videos of one clip; all three are indices."""

    clip: NonNegativeInt
    one: NonNegativeInt
    other: NonNegativeInt


class Study(Settings):
    """Everything about a study but its raters and votes."""

    settings: StudySettings
    contestants: tuple[Contestant, ...]
    clips: tuple[Clip, ...]
    pairs: tuple[Pair, ...]

    def video(self, clip: int, contestant: int) -> Path:
        """The file; raises StudyError when it is gone or lies outside the contestant's run."""
        return video_file(self.contestants[contestant], self.clips[clip].set, self.clips[clip].clip_id)


def video_file(contestant: Contestant, set_name: str, clip_id: str) -> Path:
    """A contestant's video of a clip; raises StudyError when it is gone or lies outside the run."""
    path = Path(contestant.videos, set_name, f"{clip_id}.mp4").resolve()
    if not path.is_relative_to(Path(contestant.run).resolve()):
        raise StudyError(f"{path} lies outside {contestant.run}: only videos of the run are shown")
    if not path.is_file():
        raise StudyError(f"no video {path}: `dreamer evaluate` draws the run's videos again")
    return path


# ---------------------------------------------------------------- making and opening


def open_study(
    runs: Sequence[Path], out: Path | None, given: dict[str, Any], *, make: bool = True
) -> tuple[Path, Study]:
    """The folder and the study of these runs; with `make` it is made when it is not there.

    runs: two run directories or more (one with real videos), or the one folder of a study. given: fields of
    `StudySettings` that were asked for; of a study that is there they must say what it is. The default folder
    is RUN/study/NAMES-OF-THE-OTHERS in the first run. Raises StudyError.
    """
    if len(runs) == 1 and out is None and study_file(runs[0]).is_file():
        folder, asked = runs[0], given
    else:
        asked = {"runs": tuple(map(os.path.abspath, runs)), **given}
        folder = out or _default_folder(runs, bool(given.get("with_real")))
    if study_file(folder).is_file():
        return folder, _reopened(folder, asked)
    if votes_file(folder).is_file():
        raise StudyError(f"{votes_file(folder)} holds votes, but study.json beside it is gone: give --out")
    if not make:
        raise StudyError(f"no study in {folder}: `dreamer study` without --results makes and serves it")
    study = make_study(StudySettings.model_validate(asked))
    write_text(study_file(folder), study.model_dump_json(indent=2) + "\n")
    return folder, study


def study_file(folder: Path) -> Path:
    return folder / "study.json"


def votes_file(folder: Path) -> Path:
    return folder / "study.sqlite"


def _default_folder(runs: Sequence[Path], with_real: bool) -> Path:
    others = [Path(os.path.abspath(run)).name for run in runs[1:]] + [REAL] * with_real
    return RunLayout(runs[0]).root / "study" / "+".join(others)


def _reopened(folder: Path, asked: dict[str, Any]) -> Study:
    path = study_file(folder)
    try:
        study = Study.model_validate_json(path.read_text())
    except ValidationError as error:
        raise StudyError(f"{path} is no study: {error.errors()[0]['msg']}") from error
    for name, value in asked.items():
        if (was := getattr(study.settings, name)) != value:
            raise StudyError(
                f"{folder} is a study with {name} {was!r}, not {value!r}: give --out for another"
            )
    return study


def make_study(settings: StudySettings) -> Study:
    """Pair the videos that the runs have of the same clips.

    The same clips, by seed, for all pairs of contestants, which come up equally often, or once more than
    others where the number asked for does not divide. Raises StudyError.
    """
    contestants, tables = _contestants(settings)
    common = _common_clips(settings, contestants, tables)
    versus = list(combinations(range(len(contestants)), 2))
    most = len(common) * len(versus)
    count = min(DEFAULT_PAIRS, most) if settings.pairs is None else settings.pairs
    if count > most:
        raise StudyError(
            f"--pairs {count}: there are {most}, {len(common)} clips times {len(versus)} pairs of contestants"
        )
    random.Random(settings.seed).shuffle(common)
    chosen = common[: -(-count // len(versus))]
    pairs = [Pair(clip=i, one=one, other=other) for i in range(len(chosen)) for one, other in versus]
    clips = []
    with track(len(chosen), "study: read the videos") as step:
        for clip in chosen:
            files = [video_file(contestant, clip.set, clip.clip_id) for contestant in contestants]
            sums = tuple(_sha256(path) for path in files)
            clips.append(Clip(set=clip.set, clip_id=clip.clip_id, caption=clip.caption, sha256=sums))
            step.advance()
    return Study(
        settings=settings, contestants=tuple(contestants), clips=tuple(clips), pairs=tuple(pairs[:count])
    )


def check_videos(study: Study) -> None:
    """Raise StudyError unless every video is the one that the study was made of."""
    with track(len(study.clips), "study: check the videos") as step:
        for number, clip in enumerate(study.clips):
            for contestant, expected in enumerate(clip.sha256):
                path = study.video(number, contestant)
                if _sha256(path) != expected:
                    raise StudyError(
                        f"{path} is not the video any more that the study was made of, so votes would be "
                        "about two things: make another study with --out"
                    )
            step.advance()


# ---------------------------------------------------------------- what the runs have


Clips = dict[tuple[str, str], EvaluationClip]


def _contestants(settings: StudySettings) -> tuple[list[Contestant], list[Clips]]:
    """Contestants, and the clips of each by set and id."""
    if len(settings.runs) + settings.with_real < 2:
        raise StudyError("a study needs two runs, or one and --with-real")
    if len(set(settings.runs)) != len(settings.runs):
        raise StudyError(f"a run stands twice among {', '.join(settings.runs)}")
    names = [Path(run).name for run in settings.runs]
    if len(set(names)) != len(names) or REAL in names:
        names = list(settings.runs)
    contestants, tables = [], []
    for run, name in zip(settings.runs, names, strict=True):
        tables.append(_clips(settings, Path(run)))
        contestants.append(_contestant(settings, run, name, real=False))
    if settings.with_real:
        tables.append(tables[0])
        contestants.append(_contestant(settings, settings.runs[0], REAL, real=True))
    return contestants, tables


def _contestant(settings: StudySettings, run: str, name: str, *, real: bool) -> Contestant:
    folder = RunLayout(Path(run)).evaluation(settings.evaluation)
    return Contestant(name=name, run=run, videos=str(folder / PLACES[real]))


def _clips(settings: StudySettings, run: Path) -> Clips:
    folder = RunLayout(run).evaluation(settings.evaluation)
    if not (folder / "metrics.json").is_file():
        known = sorted(path.parent.name for path in run.glob("evaluate/*/metrics.json"))
        has = f"; it has {', '.join(known)}: choose with --evaluation" if known else ""
        raise StudyError(
            f"{run} has no whole evaluation {settings.evaluation!r}{has}; `dreamer evaluate` makes it"
        )
    try:
        clips = read_evaluation_clips(folder / "clips.jsonl")
    except (EvaluationError, json.JSONDecodeError) as error:
        raise StudyError(f"{folder / 'clips.jsonl'}: {error}") from error
    return {(clip.set, clip.clip_id): clip for clip in clips if settings.set in (None, clip.set)}


def _common_clips(
    settings: StudySettings, contestants: Sequence[Contestant], tables: Sequence[Clips]
) -> list[EvaluationClip]:
    """Clips of all contestants, in the order of set and id. The same id must mean the same clip."""
    first, *others = tables
    common = sorted(set(first).intersection(*others))
    if not common:
        what = f"set {settings.set!r}" if settings.set else "evaluation"
        names = " and ".join(contestant.name for contestant in contestants)
        raise StudyError(f"{names} have no clip of the {what} in common: evaluate them on the same table")
    for key in common:
        for contestant, table in zip(contestants, tables, strict=True):
            if table[key].caption != first[key].caption:
                raise StudyError(
                    f"clip {key[1]} of set {key[0]}: {contestants[0].name} drew {first[key].caption!r}, "
                    f"{contestant.name} {table[key].caption!r}: they were not asked for the same video"
                )
    return [first[key] for key in common]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
