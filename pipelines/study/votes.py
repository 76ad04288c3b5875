"""Raters and their votes, in SQLite: what was answered is on the disk before the rater hears of it."""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.study.questions import Answer, Question

TOKEN_BYTES = 16  # 128 bits: nobody guesses one
WAIT_SECONDS = 30.0  # for another writer; a vote takes milliseconds

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS raters (
  rater INTEGER PRIMARY KEY,
  token TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE IF NOT EXISTS votes (
  vote INTEGER PRIMARY KEY,
  rater INTEGER NOT NULL REFERENCES raters,
  pair INTEGER NOT NULL,
  question TEXT NOT NULL CHECK (question IN ({", ".join(f"'{name}'" for name in Question)})),
  left_name TEXT NOT NULL,
  right_name TEXT NOT NULL,
  answer TEXT NOT NULL CHECK (answer IN ({", ".join(f"'{name}'" for name in Answer)})),
  voted_at TEXT NOT NULL,
  UNIQUE (rater, pair, question)
) STRICT;
"""


class AlreadyVotedError(ValueError):
    """This rater has answered this question about this pair."""


@dataclass(frozen=True)
class Vote:
    """One answer. pair: index in the study; left, right: names of the contestants as they stood."""

    rater: int
    pair: int
    question: Question
    left: str
    right: str
    answer: Answer
    voted_at: str = ""


class VoteStore:
    """Safe for threads and processes: a connection for each call, a transaction for each vote.

    The file is for its owner alone, for it holds the raters' tokens, so that links can be shown again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Every statement is a transaction of its own, and is on the disk when it returns."""
        connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            yield connection
        finally:
            connection.close()

    def ensure_raters(self, count: int) -> list[str]:
        """The tokens of all raters in order, at least `count`. A rater's token never changes."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            (there,) = connection.execute("SELECT count(*) FROM raters").fetchone()
            new = [(secrets.token_urlsafe(TOKEN_BYTES),) for _ in range(count - there)]
            connection.executemany("INSERT INTO raters (token) VALUES (?)", new)
            connection.execute("COMMIT")
            return [token for (token,) in connection.execute("SELECT token FROM raters ORDER BY rater")]

    def rater(self, token: str) -> int | None:
        """The rater's number, from 1; None for a token that nobody has."""
        with self._connection() as connection:
            found = connection.execute("SELECT rater FROM raters WHERE token = ?", (token,)).fetchone()
        return None if found is None else int(found[0])

    def add(self, vote: Vote) -> None:
        """Raises AlreadyVotedError when the rater has answered this question about this pair."""
        row = (vote.rater, vote.pair, vote.question, vote.left, vote.right, vote.answer, _now())
        with self._connection() as connection:
            done = connection.execute(
                "INSERT INTO votes (rater, pair, question, left_name, right_name, answer, voted_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rater, pair, question) DO NOTHING",
                row,
            )
            if done.rowcount == 0:
                raise AlreadyVotedError(
                    f"rater {vote.rater} has answered {vote.question} of pair {vote.pair}"
                )

    def undo(self, rater: int) -> bool:
        """Take the rater's last vote back; False when there is none."""
        with self._connection() as connection:
            done = connection.execute(
                "DELETE FROM votes WHERE vote = (SELECT max(vote) FROM votes WHERE rater = ?)", (rater,)
            )
            return done.rowcount == 1

    def votes(self, rater: int | None = None) -> list[Vote]:
        """Votes in the order in which they were given, of all raters or of one."""
        chosen, values = ("", ()) if rater is None else ("WHERE rater = ?", (rater,))
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT rater, pair, question, left_name, right_name, answer, voted_at"
                f" FROM votes {chosen} ORDER BY vote",
                values,
            ).fetchall()
        return [Vote(r, p, Question(q), left, right, Answer(a), at) for r, p, q, left, right, a, at in rows]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
