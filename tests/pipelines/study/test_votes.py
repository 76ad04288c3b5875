"""Votes in SQLite: one of a kind, kept at once, for their owner alone."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.study.questions import Answer, Question
from pipelines.study.votes import AlreadyVotedError, Vote, VoteStore

VOTE = Vote(1, 0, Question.VISUAL_QUALITY, "steady", "grainy", Answer.LEFT)


@pytest.fixture
def store(tmp_path: Path) -> VoteStore:
    store = VoteStore(tmp_path / "study.sqlite")
    store.ensure_raters(2)
    return store


def test_tokens_cannot_be_guessed_and_never_change(store: VoteStore):
    tokens = store.ensure_raters(2)
    again = VoteStore(store.path).ensure_raters(5)
    assert again[:2] == tokens == store.ensure_raters(1)[:2]
    assert len(set(again)) == 5
    assert all(len(token) >= 22 for token in again)  # 128 bits
    assert store.rater(again[4]) == 5
    assert store.rater("nobody") is None


def test_only_the_owner_can_read_the_file(store: VoteStore):
    with sqlite3.connect(store.path) as connection:
        connection.execute("INSERT INTO raters (token) VALUES ('x')")
        files = list(store.path.parent.glob("study.sqlite*"))
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * len(files)
    connection.close()


def test_of_many_votes_at_once_on_one_question_one_counts(store: VoteStore):
    def cast(answer: Answer) -> bool:
        try:
            store.add(Vote(1, 0, Question.VISUAL_QUALITY, "steady", "grainy", answer))
        except AlreadyVotedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(cast, [*Answer] * 8))
    assert counted.count(True) == 1
    assert len(store.votes()) == 1


def test_raters_of_the_same_pair_do_not_stand_in_each_others_way(store: VoteStore):
    store.add(VOTE)
    store.add(Vote(2, 0, Question.VISUAL_QUALITY, "grainy", "steady", Answer.SAME))
    assert [vote.answer for vote in store.votes()] == ["left", "same"]
    assert [vote.left for vote in store.votes(2)] == ["grainy"]


def test_undo_takes_back_the_raters_own_last_vote(store: VoteStore):
    store.add(VOTE)
    store.add(Vote(1, 0, Question.MOTION_QUALITY, "steady", "grainy", Answer.RIGHT))
    store.add(Vote(2, 0, Question.VISUAL_QUALITY, "steady", "grainy", Answer.RIGHT))
    assert store.undo(1)
    assert [(vote.rater, vote.question) for vote in store.votes()] == [
        (1, "visual_quality"),
        (2, "visual_quality"),
    ]
    assert store.undo(1)
    assert not store.undo(1)


def test_the_file_itself_refuses_what_is_no_answer_and_a_rater_who_is_none(store: VoteStore):
    for vote in (
        Vote(1, 0, Question.VISUAL_QUALITY, "a", "b", "perhaps"),  # type: ignore[arg-type]
        Vote(1, 0, "beauty", "a", "b", Answer.LEFT),  # type: ignore[arg-type]
        Vote(9, 0, Question.VISUAL_QUALITY, "a", "b", Answer.LEFT),
    ):
        with pytest.raises(sqlite3.IntegrityError):
            store.add(vote)
    assert store.votes() == []


def test_votes_are_in_write_ahead_mode_and_on_the_disk_when_they_return(store: VoteStore):
    with store._connection() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
