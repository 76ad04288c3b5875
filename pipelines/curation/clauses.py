"""Clauses of a caption: their words with parts of speech, and the noun phrases in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from pipelines.curation import english as en
from pipelines.curation.camera import MARK
from pipelines.curation.tagging import Form, part_of_speech, verb_forms

# Not the commas and colons within a number.
CLAUSE_BREAK = re.compile(
    r"\s*((?<!\d)[,:]|[,:](?!\d)|[;!?|]|\.(?=\s|$)|\s[-–—]\s|\bwhile\b|\band then\b|\bthen\b|\bwhereas\b)\s*",
    re.IGNORECASE,
)
WORD = re.compile(r"[^\s\"“”()\[\]]+")


class Label(Enum):
    PICTURE = "appearance caption only"
    MOTION = "motion caption only"
    BOTH = "both"
    QUALIFIER = "picture; motion too, when there are several movers to tell apart"
    NEITHER = "a word without content of its own"


@dataclass
class Clause:
    """Words up to a comma or a conjunction of clauses, with the separator in front of them."""

    separator: str
    words: list[str]
    lows: list[str] = field(init=False)
    tags: list[str] = field(init=False)
    forms: list[Form] = field(init=False)
    labels: list[Label] = field(init=False)
    breaks: set[int] = field(default_factory=set)  # words that need a comma before them in the picture
    starts: set[int] = field(default_factory=set)  # words with which another mover begins
    movers: list[str] = field(default_factory=list)
    subject: str = ""  # who moves, when the clause before has named it

    def __post_init__(self) -> None:
        self.lows = [word.lower().rstrip(MARK).replace("’", "'") for word in self.words]
        self.tags = part_of_speech(self.lows)
        self.forms = verb_forms(self.lows, self.tags, continues=self.separator not in ("", ".", ":"))
        self.labels = [Label.PICTURE] * len(self.words)
        if self.words[0].endswith(MARK):
            self.forms[0] = Form.BASE

    def low(self, index: int) -> str:
        return self.lows[index] if 0 <= index < len(self.lows) else ""

    def tag(self, index: int) -> str:
        return self.tags[index] if 0 <= index < len(self.tags) else ""

    def form(self, index: int) -> Form:
        return self.forms[index] if 0 <= index < len(self.forms) else Form.NONE

    def moves(self, index: int) -> bool:
        """Whether the word is a verb of motion."""
        return self.form(index) not in (Form.NONE, Form.STATE)

    def has_action(self, start: int, end: int) -> bool:
        return any(form not in (Form.NONE, Form.STATE) for form in self.forms[start:end])

    def has_motion(self, end: int | None = None) -> bool:
        return Label.MOTION in self.labels[:end]


def clauses_of(text: str) -> list[Clause]:
    parts = CLAUSE_BREAK.split(text)
    pieces = [("", parts[0]), *zip((part.strip().lower() for part in parts[1::2]), parts[2::2], strict=True)]
    clauses = [Clause(separator, words) for separator, piece in pieces if (words := WORD.findall(piece))]
    return [part for clause in clauses for part in _divided(clause)]


def _divided(clause: Clause) -> list[Clause]:
    """A clause without and with a subordinate one: `confetti falls | as the team celebrates`."""
    for index in range(1, len(clause.words) - 2):
        if clause.low(index) in en.SUBORDINATES and clause.has_action(0, index):
            pronoun = clause.low(index + 1) in en.SUBJECT_PRONOUNS
            end = index + 2 if pronoun else noun_phrase_end(clause, index + 1)
            if end > index + 1 and clause.has_action(end, end + 2):
                return [
                    Clause(clause.separator, clause.words[:index]),
                    Clause(clause.low(index), clause.words[index + 1 :]),
                ]
    return [clause]


# ---------------------------------------------------------------- noun phrases


def noun_phrase_end(clause: Clause, index: int) -> int:
    end = index
    while end < len(clause.words):
        word = clause.low(end)
        if ends_noun_phrase(clause, end):
            break
        if end > index and (
            en.is_adverb(word)
            or word in en.DIRECTIONS - en.DIRECTION_NOUNS
            or (word in en.DETERMINERS - en.NUMBERS or word in en.POSSESSIVES)
        ):
            break
        if clause.moves(end) and not is_attributive(clause, end):
            break
        end += 1
    return end


def ends_noun_phrase(clause: Clause, index: int) -> bool:
    word, before, after = clause.low(index), clause.low(index - 1), clause.low(index + 1)
    if word in en.CONJUNCTIONS:
        # a black and white cat
        joins_looks = before in en.COLOURS and after in en.COLOURS
        return not (joins_looks or (clause.tag(index - 1) == "AJ0" and clause.tag(index + 1) == "AJ0"))
    if word in en.PREPOSITIONS | en.RELATIVES | en.AUXILIARIES | en.SUBJECT_PRONOUNS:
        return True
    if clause.form(index) is Form.STATE:
        # a standing man, but: a man standing
        return not (index and before in en.DETERMINERS and is_nominal(clause, index + 1))
    if clause.tag(index) in ("VVN", "VVD") or (
        word.endswith("ed") and len(word) > 4 and clause.tag(index) != "AJ0"
    ):
        # `a robot built from bricks` ends with the robot, `a patterned box` does not end with `a`.
        return not after or after in en.PREPOSITIONS | en.DETERMINERS | en.CONJUNCTIONS
    return False


def starts_noun_phrase(clause: Clause, index: int) -> bool:
    word = clause.low(index)
    return bool(word) and word not in en.PREPOSITIONS | en.CONJUNCTIONS | en.DIRECTIONS - en.DIRECTION_NOUNS


def noun_phrases(clause: Clause, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each noun phrase between two words."""
    index = start
    while index < stop:
        end = min(noun_phrase_end(clause, index), stop)
        while end > index and en.is_adverb(clause.low(end - 1)):
            end -= 1
        if end == index and clause.low(index) in en.SUBJECT_PRONOUNS:
            end += 1
        if end > index:
            yield index, end
        index = end if end > index and clause.low(end) in en.SUBJECT_PRONOUNS else max(end, index) + 1


def is_attributive(clause: Clause, index: int) -> bool:
    """A participle in front of its noun: `a moving car`, `the spinning earth`."""
    if clause.form(index) is not Form.PARTICIPLE or not 0 < index < len(clause.words) - 1:
        return False
    before = clause.low(index - 1)
    if not (
        before in en.DETERMINERS | en.POSSESSIVES | en.COLOURS | en.PREPOSITIONS | {"and"}
        or clause.tag(index - 1).startswith("AJ")
    ):
        return False
    if before == "and" and (clause.has_motion(index) or Form.STATE in clause.forms[:index]):
        return False
    if en.is_living(before):  # the tagger takes an archer for a comparative
        return False
    return is_nominal(clause, index + 1)


def is_nominal(clause: Clause, index: int) -> bool:
    """Whether a word can stand behind an adjective: no article, no preposition, no verb."""
    word = clause.low(index)
    return bool(word) and not (
        ends_noun_phrase(clause, index)
        or word in en.DETERMINERS
        or word in en.POSSESSIVES
        or word in en.OBJECT_PRONOUNS
        or word in en.DIRECTIONS - en.DIRECTION_NOUNS
        or en.is_adverb(word)
        or clause.moves(index)
    )
