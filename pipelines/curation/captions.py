"""The caption split: from a stock caption to what an image of the clip shows and what changes over time.

Rules of English: pipelines.curation.tagging finds the verbs, pipelines.curation.labels says whether a word
belongs to the picture, to the motion or to both, and here the captions are read off the labels, so that no
content word can get lost.
"""

import re
from dataclasses import dataclass

from pipelines.curation import english as en
from pipelines.curation.camera import MARK, mark_camera_work
from pipelines.curation.clauses import Clause, Label, clauses_of, noun_phrase_end
from pipelines.curation.labels import label_words
from pipelines.curation.tagging import Form

RULES_VERSION = 2  # raise when the same caption gives another split
COMPOUNDS = re.compile(rf"\b(?:{'|'.join(en.COMPOUNDS)})\b", re.IGNORECASE)
TRAILING = frozenset(en.PREPOSITIONS | en.CONJUNCTIONS | en.DETERMINERS | en.RELATIVES)


@dataclass(frozen=True)
class CaptionSplit:
    appearance: str
    motion: str  # empty when the caption names no motion


def split_caption(caption: str) -> CaptionSplit:
    """Divide a caption; see CaptionSplit. An empty caption gives two empty ones."""
    caption = re.sub(r"[\s\x00-\x1f]+", " ", caption).strip()  # control characters are marks of ours
    text = COMPOUNDS.sub(lambda match: match[0].replace(" ", en.JOINED), caption)
    clauses = clauses_of(mark_camera_work(text))
    for clause in clauses:
        label_words(clause)
    _carry_subjects(clauses)
    heads = [head for clause in clauses for head in clause.movers]
    alike = len(heads) > len(set(heads))
    parts = [_motion_words(clause, len(heads) > 1, alike) for clause in clauses]
    motion = ", ".join(part for part in parts if part)
    appearance = _appearance(clauses) if motion else caption
    return CaptionSplit(_plain(_capital(appearance or caption)), _plain(motion))


def _carry_subjects(clauses: list[Clause]) -> None:
    """`A businessman in his office, talking on the phone`: who talks is named in a clause without motion."""
    for index, clause in enumerate(clauses):
        if not clause.has_motion() or clause.movers or not clause.moves(0):
            continue
        if clause.words[0].endswith(MARK) or clause.separator in ("", "."):
            continue
        for earlier in reversed(clauses[:index]):
            if earlier.movers:
                break
            living = [i for i, low in enumerate(earlier.lows) if en.is_living(low)]
            if living and not earlier.has_motion():
                end = noun_phrase_end(earlier, living[0])
                clause.subject = earlier.words[max(end, living[0] + 1) - 1]
                break


def _motion_words(clause: Clause, several: bool, alike: bool) -> str:
    """A clause's part of the motion caption.

    Several movers are told apart by their colours, and movers of one name (`alike`) by all their looks.
    """
    if Label.MOTION not in clause.labels:
        return ""
    kept = [clause.subject] if clause.subject else []
    for index, (word, label) in enumerate(zip(clause.words, clause.labels, strict=True)):
        if index in clause.starts and kept:
            kept[-1] += ","
        told_apart = label is Label.QUALIFIER and (alike or (several and word.lower() in en.COLOURS))
        if label in (Label.MOTION, Label.BOTH) or told_apart:
            kept.append(word)
    while kept and kept[-1].lower() in en.CONJUNCTIONS:
        kept.pop()
    return " ".join(kept).strip(",").replace(",,", ",").lower()


def _appearance(clauses: list[Clause]) -> str:
    text = ""
    for clause in clauses:
        words: list[str] = []
        last = -1
        for index, (word, label) in enumerate(zip(clause.words, clause.labels, strict=True)):
            if label in (Label.MOTION, Label.NEITHER):
                continue
            needs_break = bool(clause.breaks.intersection(range(last + 1, index + 1)))
            last = index
            if needs_break and words and words[-1].lower() not in en.CONJUNCTIONS:
                words[-1] += ","
            words.append(word)
        ends_whole = last == len(clause.words) - 1  # `lying down` has lost nothing
        words = _without_loose_ends(words, clause, first=not text, last=ends_whole)
        if not words:
            continue
        joined = clause.separator in en.CLAUSE_CONJUNCTIONS | en.SUBORDINATES | {"and then"}
        joint = " and " if joined and clause.forms[0] is Form.NONE else " " if joined else ", "
        joint = " " if text and words[0].lower() in en.PLACE_PREPOSITIONS and clause.has_motion() else joint
        text = text + joint + " ".join(words) if text else " ".join(words)
    return text


def _without_loose_ends(words: list[str], clause: Clause, *, first: bool, last: bool) -> list[str]:
    """Drop articles, prepositions and conjunctions that have lost what they belonged to."""
    if not clause.has_motion():
        return words
    while words and words[-1].lower() in TRAILING and not last:
        words = words[:-1]
    leading = en.CONJUNCTIONS | (en.PREPOSITIONS if first else en.PATH_PREPOSITIONS)
    while words and words[0].lower() in leading:
        words = words[1:]
    return words


def _plain(text: str) -> str:
    return text.replace(en.JOINED, " ").replace(MARK, "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
