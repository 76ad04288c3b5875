"""What the votes of a study say: standings of the runs, agreement of the raters, tables for other tools."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.files import write_text
from pipelines.study.agreement import agreement_share, krippendorff_alpha
from pipelines.study.bradley_terry import LEVEL, RESAMPLES, Comparisons, standings
from pipelines.study.plan import Study, StudyError, votes_file
from pipelines.study.questions import Answer, Question
from pipelines.study.tracking import log_study
from pipelines.study.votes import Vote, VoteStore

SCORES = {1.0: 0, 0.0: 1, 0.5: 2}  # column of each outcome in the counts of agreement
PROTOCOL = (
    "pairwise votes; a tie is half a win for each; Bradley–Terry log odds with half a win added both ways "
    f"between any two runs; {LEVEL:.0%} percentile intervals of {RESAMPLES} resamples of raters and clips; "
    "agreement is the share of twos of raters with the same answer, alpha is Krippendorff's, nominal"
)


def write_results(folder: Path, study: Study) -> dict[str, Any]:
    """Count the votes, write results.csv and votes.csv into the study's folder, log all to MLflow.

    Returns {"study", "protocol", "runs", "pairs", "raters": {"invited", "voted", "finished"}, "votes",
    "questions": {question: {"votes", "agreement", "alpha", "standings": {run: ...}}}, "paths", "tracking"}.
    Raises StudyError when nobody has voted.
    """
    votes, invited = [], 0
    if votes_file(folder).is_file():
        store = VoteStore(votes_file(folder))
        votes, invited = store.votes(), len(store.ensure_raters(0))
    if not votes:
        raise StudyError(f"nobody has voted in {folder} yet: `dreamer study` without --results serves it")
    per_rater = Counter(vote.rater for vote in votes)
    whole = len(study.pairs) * len(Question)
    questions = {str(question): _question(study, votes, question) for question in Question}
    write_text(folder / "votes.csv", _table(_vote_rows(study, votes)))
    write_text(folder / "results.csv", _table(_result_rows(questions)))
    summary = {
        "study": str(folder),
        "protocol": PROTOCOL,
        "runs": [contestant.name for contestant in study.contestants],
        "pairs": len(study.pairs),
        "raters": {
            "invited": invited,
            "voted": len(per_rater),
            "finished": sum(count == whole for count in per_rater.values()),
        },
        "votes": len(votes),
        "questions": questions,
        "paths": {name: str(folder / name) for name in ("results.csv", "votes.csv")},
    }
    return summary | {"tracking": log_study(study, folder, summary)}


def _question(study: Study, votes: Sequence[Vote], question: Question) -> dict[str, Any]:
    """Standings and agreement on one question; standings is empty while nobody has answered it."""
    chosen = [vote for vote in votes if vote.question == question]
    counts = np.zeros((len(study.pairs), len(SCORES)))
    for vote in chosen:
        counts[vote.pair, SCORES[_score(study, vote)]] += 1
    found = standings(comparisons(study, chosen), len(study.contestants)) if chosen else []
    names = [contestant.name for contestant in study.contestants]
    return {
        "votes": len(chosen),
        "agreement": agreement_share(counts),
        "alpha": krippendorff_alpha(counts),
        "standings": {name: asdict(standing) for name, standing in zip(names, found, strict=False)},
    }


def comparisons(study: Study, votes: Sequence[Vote]) -> Comparisons:
    """Votes of one question as arrays."""
    pairs = [study.pairs[vote.pair] for vote in votes]
    return Comparisons(
        one=np.array([pair.one for pair in pairs], int),
        other=np.array([pair.other for pair in pairs], int),
        score=np.array([_score(study, vote) for vote in votes], float),
        rater=np.array([vote.rater for vote in votes], int),
        clip=np.array([pair.clip for pair in pairs], int),
    )


def better(vote: Vote) -> str | None:
    """The name of the contestant that was preferred; None for about the same."""
    return {Answer.LEFT: vote.left, Answer.RIGHT: vote.right, Answer.SAME: None}[vote.answer]


def _score(study: Study, vote: Vote) -> float:
    preferred = better(vote)
    if preferred is None:
        return 0.5
    return float(preferred == study.contestants[study.pairs[vote.pair].one].name)


# ---------------------------------------------------------------- tables


def _vote_rows(study: Study, votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """A row a vote. Raters are numbers: their tokens stay in the database."""
    rows = []
    for vote in votes:
        clip = study.clips[study.pairs[vote.pair].clip]
        place = {"set": clip.set, "clip_id": clip.clip_id, "caption": clip.caption}
        rows.append({"rater": vote.rater, **place, **asdict(vote), "better": better(vote) or ""})
    return rows


def _result_rows(questions: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a question and run."""
    rows = []
    for question, found in questions.items():
        for run, standing in found["standings"].items():
            rows.append(
                {
                    "question": question,
                    "run": run,
                    **{name: standing[name] for name in ("wins", "ties", "losses")},
                    **_bounds("win_rate", standing["win_rate"]),
                    **_bounds("strength", standing["strength"]),
                    "agreement": found["agreement"],
                    "alpha": found["alpha"],
                }
            )
    return rows


def _bounds(name: str, estimate: dict[str, Any]) -> dict[str, float | None]:
    low, high = estimate["interval"] or (None, None)
    return {name: estimate["value"], f"{name}_low": low, f"{name}_high": high}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
