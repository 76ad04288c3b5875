"""The caption split: from a stock caption to what an image of the clip shows and what changes over time.

Rules of English, no model: words are labelled as belonging to the picture, to the motion or to both, and the
two captions are read off the labels, so that no content word can get lost.
"""

import re
from dataclasses import dataclass, field
from enum import Enum

from pipelines.curation import english as en


@dataclass(frozen=True)
class CaptionSplit:
    appearance: str
    motion: str  # empty when the caption names no motion


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
    labels: list[Label] = field(default_factory=list)
    breaks: set[int] = field(default_factory=set)  # words that need a comma before them in the picture
    starts: set[int] = field(default_factory=set)  # words with which another mover begins
    movers: int = 0

    def low(self, index: int) -> str:
        return self.words[index].lower() if 0 <= index < len(self.words) else ""


CLAUSE_BREAK = re.compile(
    r"\s*([,;:.!?]|\s[-–—]\s|\bwhile\b|\band then\b|\bthen\b|\bwhereas\b)\s*", re.IGNORECASE
)
WORD = re.compile(r"[^\s\"“”()\[\]]+")
CLOSE_UP = re.compile(r"\bclose up\b(?= of|$|,)", re.IGNORECASE)
CAMERA_NOUNS = frozenset({"camera", "drone"})
# Camera work named by a noun: "time lapse", "slow motion", "panning shot", "zoom in".
CAMERA_PHRASE = re.compile(
    r"""\b(?:
        (?:time[\s-]?lapse|hyper[\s-]?lapse|slow[\s-]?(?:motion|mo)|stop[\s-]?motion|fast[\s-]?motion)
      | (?:slow|smooth|fast|quick|gentle|aerial|drone|steady)?\s*
        (?:(?:pan|panning|tilt|tilting|tracking|dolly|zoom|zooming|crane|orbit|orbiting|trucking|gimbal|handheld|
              steadicam|panoramic\ pan|rotating|flying|moving|fly[\s-]?over|flyby|fly[\s-]?through)
        \s+(?:camera|shot|shots|view|footage|movement|motion))
      | (?:slow|smooth|fast|quick|gentle)?\s*\b(?:pan|panning|tilt|tilting|dolly|zoom|zooming)
        (?:\s+(?:left|right|up|down|in|out|across|around|over|to\ the\ (?:left|right)))+
      | (?:drone|aerial)\s+fl(?:ight|y-?over|y-?through|yby)
    )\b(?:\s+(?:shot|footage|video|clip|view))*""",
    re.IGNORECASE | re.VERBOSE,
)
PURPOSES = frozenset({"for", "before", "after"})
TRAILING = frozenset(en.PREPOSITIONS | en.CONJUNCTIONS | en.DETERMINERS | en.RELATIVES)


def split_caption(caption: str) -> CaptionSplit:
    """Divide a caption; see CaptionSplit. An empty caption gives two empty ones."""
    text, camera = _take_camera_phrases(CLOSE_UP.sub(lambda m: m[0].replace(" ", en.JOINED), caption.strip()))
    clauses = _clauses(text)
    for clause in clauses:
        _label(clause)
    several = sum(clause.movers for clause in clauses) > 1
    motion = ", ".join(part for part in (_motion_words(clause, several) for clause in clauses) if part)
    motion = ", ".join(part for part in (motion, *camera) if part)
    appearance = _appearance(clauses) or _capital(caption.strip())
    return CaptionSplit(appearance.replace(en.JOINED, " "), motion.replace(en.JOINED, " "))


def _take_camera_phrases(text: str) -> tuple[str, list[str]]:
    found = [" ".join(match.group().split()).lower() for match in CAMERA_PHRASE.finditer(text)]
    rest = CAMERA_PHRASE.sub(" , ", text)
    rest = re.sub(r",\s*(?:of|showing|over|with|from)\b\s*", ", ", rest) if found else rest
    return re.sub(r"(?:\s*,\s*)+", ", ", rest).strip(" ,"), found


def _clauses(text: str) -> list[Clause]:
    parts = CLAUSE_BREAK.split(text)
    clauses = [Clause("", WORD.findall(parts[0]))]
    for separator, words in zip(parts[1::2], parts[2::2], strict=True):
        clauses.append(Clause(separator.strip().lower(), WORD.findall(words)))
    return [clause for clause in clauses if clause.words]


# ---------------------------------------------------------------- labels


def _label(clause: Clause) -> None:
    """Give every word of a clause its label."""
    count = len(clause.words)
    clause.labels = [Label.PICTURE] * count
    index = phrase_start = 0
    subject_known = False
    while index < count:
        word = clause.low(index)
        if word == "and" and clause.low(index + 1) in en.DETERMINERS:
            phrase_start, subject_known = index + 1, False
            clause.starts.add(index + 1)
        if _is_attributive(clause, index):
            clause.labels[index] = Label.MOTION
            clause.starts.add(index)
            index = _label_noun_phrase(clause, index + 1, Label.PICTURE)
            continue
        if not _is_verb(clause, index):
            index += 1
            continue
        if another := _another_subject(clause, phrase_start, index):
            phrase_start, subject_known = another, False
            clause.starts.add(another)
        if not subject_known:
            subject_known = _label_subject(clause, phrase_start, index)
        index = _label_verb_group(clause, index)


def _another_subject(clause: Clause, start: int, verb: int) -> int | None:
    """First word of a subject without an article: `... and passengers get off`; None without one."""
    for index in range(verb - 2, start, -1):
        if clause.low(index) == "and":
            between = range(index + 1, verb)
            nouns = not any(_ends_noun_phrase(clause, i) or en.is_adverb(clause.low(i)) for i in between)
            return index + 1 if nouns and _has_motion_before(clause, index) else None
        if clause.low(index) in en.PREPOSITIONS:
            return None
    return None


def _is_verb(clause: Clause, index: int) -> bool:
    word, before, after = clause.low(index), clause.low(index - 1), clause.low(index + 1)
    if word.endswith("ing") and len(word) > 4 and word not in en.ING_NOT_VERBS and before not in PURPOSES:
        if after in en.COMPOUNDS.get(word, ()):
            return False
        stem = en.stem_of(word, "ing")
        return after in ("still", "motionless") or stem is None or stem not in en.STATES
    if stem := en.stem_of(word, "s"):
        return _is_finite(clause, index, stem)
    if word.endswith("ed") and before in en.AUXILIARIES:
        return en.stem_of(word, "ed") in en.VERBS
    if word in en.VERBS:
        if before == "to" and index > 1:
            return True
        plural = before in en.PLURALS or (before.endswith("s") and not before.endswith("ss"))
        negated = before in ("not", "n't")
        chained = before == "and" and index > 1 and clause.labels[index - 2] is Label.MOTION
        return (
            plural and index > 0 and before not in en.POSSESSIVES and not _is_known_verb_form(before)
        ) or (negated or chained)
    return False


def _is_known_verb_form(word: str) -> bool:
    return word not in en.NOUNS_TOO and en.stem_of(word, "s") in en.VERBS


def _is_finite(clause: Clause, index: int, stem: str) -> bool:
    """Whether a form in -s is a verb: it follows a noun, and no other verb follows it."""
    word, before, after = clause.low(index), clause.low(index - 1), clause.low(index + 1)
    if stem in en.STATES and after not in ("still", "motionless"):
        return False
    if stem == "rest" and after != "motionless":
        return False
    if index == 0:
        return clause.separator not in ("", ".") and word not in en.NOUNS_TOO
    if before in en.RELATIVES or (before in en.CONJUNCTIONS and index > 1):
        return before in en.RELATIVES or _has_motion_before(clause, index)
    if before in en.DETERMINERS | en.POSSESSIVES | en.PREPOSITIONS | en.COLOURS:
        return False
    verb_follows = (after.endswith("ing") and after not in en.ING_NOT_VERBS) or (
        after in en.VERBS and after not in en.DIRECTIONS and word in en.NOUNS_TOO
    )
    if verb_follows:
        return False
    has_article = any(clause.low(i) in en.DETERMINERS for i in range(index))
    leads_on = en.DIRECTIONS | en.DETERMINERS | en.POSSESSIVES | en.PATH_PREPOSITIONS
    return word not in en.NOUNS_TOO or has_article or after in leads_on or en.is_adverb(after)


def _has_motion_before(clause: Clause, index: int) -> bool:
    return any(label is Label.MOTION for label in clause.labels[:index])


def _is_attributive(clause: Clause, index: int) -> bool:
    """A participle in front of its noun: `a moving car`, `the spinning earth`."""
    word, before, after = clause.low(index), clause.low(index - 1), clause.low(index + 1)
    if not word.endswith("ing") or word in en.ING_NOT_VERBS or after in en.COMPOUNDS.get(word, ()):
        return False
    leads = en.DETERMINERS | en.POSSESSIVES | en.COLOURS | (en.PLACE_PREPOSITIONS - PURPOSES)
    if before not in leads:
        return False
    ends_here = not after or after in en.PREPOSITIONS | en.DETERMINERS | en.POSSESSIVES | en.CONJUNCTIONS
    return not ends_here and not en.is_adverb(after) and en.stem_of(word, "ing") in en.VERBS


def _label_subject(clause: Clause, start: int, verb: int) -> bool:
    """Mark who moves: the head of the first noun phrase between `start` and the verb, and its adjectives."""
    end = start
    while end < verb and not _ends_noun_phrase(clause, end):
        end += 1
    if clause.low(end) == "of" and end > start and clause.low(end - 1) in en.GROUPS:
        return _label_subject(clause, end + 1, verb)
    if end == start:
        return False
    head = end - 1
    while head > start and en.is_adverb(clause.low(head)):
        clause.labels[head] = Label.MOTION
        head -= 1
    for i in range(start, head):
        if clause.low(i) not in en.DETERMINERS | en.POSSESSIVES:
            clause.labels[i] = Label.QUALIFIER
    camera = clause.low(head) in CAMERA_NOUNS
    clause.labels[head] = Label.MOTION if camera else Label.BOTH
    if camera:
        for i in range(start, head):
            clause.labels[i] = Label.NEITHER if clause.low(i) in en.DETERMINERS else Label.MOTION
    clause.movers += 1
    return True


def _ends_noun_phrase(clause: Clause, index: int) -> bool:
    word, before, after = clause.low(index), clause.low(index - 1), clause.low(index + 1)
    if word in en.CONJUNCTIONS and before in en.COLOURS and after in en.COLOURS:
        return False  # a black and white cat
    if word in en.PARTICIPLES or (word.endswith("ed") and len(word) > 4 and word != "bearded"):
        # `a robot built from bricks` ends with the robot, `a patterned box` does not end with `a`.
        return not after or after in en.PREPOSITIONS | en.DETERMINERS | en.CONJUNCTIONS
    return word in en.PREPOSITIONS | en.RELATIVES | en.AUXILIARIES | en.CONJUNCTIONS or (
        word.endswith("ing") and word not in en.ING_NOT_VERBS
    )


def _label_verb_group(clause: Clause, verb: int) -> int:
    """Mark a verb with its auxiliaries, adverbs, path and object; returns the index behind them."""
    clause.labels[verb] = Label.MOTION
    before = verb - 1
    while before >= 0 and (
        clause.low(before) in en.AUXILIARIES | en.RELATIVES | en.ADVERBS or en.is_adverb(clause.low(before))
    ):
        relative = clause.low(before) in en.RELATIVES
        clause.labels[before] = Label.NEITHER if relative else Label.MOTION
        before -= 1
    camera = any(clause.low(i) in CAMERA_NOUNS for i in range(verb))
    index = verb + 1
    while index < len(clause.words):
        word, after = clause.low(index), clause.low(index + 1)
        if word in en.CONJUNCTIONS:
            goes_on = _is_verb(clause, index + 1) or after in en.DIRECTIONS | en.PATH_PREPOSITIONS
            if not (goes_on or en.is_adverb(after)):
                return index
            clause.labels[index] = Label.MOTION
            index += 1
        elif _is_verb(clause, index) or _is_infinitive(clause, index) or (word, after) == ("away", "from"):
            clause.labels[index] = Label.MOTION
            index += 1
        elif (
            word in en.PATH_PREPOSITIONS
            or (camera and word in ("over", "above"))
            or (word == "after" and clause.labels[index - 1] is Label.MOTION)
            or (word == "at" and en.stem_of_any(clause.low(index - 1)) in en.AIMED)
        ):
            index = _label_path(clause, index)
        elif word in en.PLACE_PREPOSITIONS - en.DIRECTIONS or (
            word in en.PLACE_PREPOSITIONS and _starts_noun_phrase(clause, index + 1)
        ):
            return index
        elif en.is_adverb(word) or word in en.DIRECTIONS | en.ADVERBS:
            clause.labels[index] = Label.MOTION
            index += 1
        elif word in en.RELATIVES:
            return index
        else:
            index = _label_object(clause, index)
    return index


def _is_infinitive(clause: Clause, index: int) -> bool:
    """The `to` of `starts to smile`."""
    return clause.low(index) == "to" and clause.low(index + 1) in en.VERBS


def _starts_noun_phrase(clause: Clause, index: int) -> bool:
    word = clause.low(index)
    return bool(word) and word not in en.PREPOSITIONS | en.CONJUNCTIONS | en.DIRECTIONS - en.DIRECTION_NOUNS


def _label_path(clause: Clause, index: int) -> int:
    """`to the left` is motion; `along the beach` is motion, and the beach is in the picture."""
    clause.labels[index] = Label.MOTION
    index += 1
    while clause.low(index) in en.PREPOSITIONS and clause.low(index):  # out of, away from
        clause.labels[index] = Label.MOTION
        index += 1
    if not _starts_noun_phrase(clause, index):
        return index
    end = _noun_phrase_end(clause, index)
    if clause.low(end - 1) in en.DIRECTION_NOUNS or clause.low(index) in en.POSSESSIVES | {"each"}:
        clause.labels[index:end] = [Label.MOTION] * (end - index)
        return end
    return _label_noun_phrase(clause, index, Label.PICTURE)


def _label_object(clause: Clause, index: int) -> int:
    """What is acted upon; parts of the actor (`his head`) are motion only."""
    end = _noun_phrase_end(clause, index)
    if clause.low(index) in en.POSSESSIVES:
        clause.labels[index:end] = [Label.MOTION] * (end - index)
        return end
    return _label_noun_phrase(clause, index, Label.PICTURE)


def _label_noun_phrase(clause: Clause, index: int, rest: Label) -> int:
    """Head in both captions, the rest of the phrase as told."""
    end = _noun_phrase_end(clause, index)
    clause.labels[index:end] = [rest] * (end - index)
    if end > index:
        clause.labels[end - 1] = Label.BOTH
        if clause.labels[index - 1] is Label.MOTION and not _is_attributive(clause, index - 1):
            clause.breaks.add(index)
    return max(end, index + 1)


def _noun_phrase_end(clause: Clause, index: int) -> int:
    end = index
    while end < len(clause.words):
        word = clause.low(end)
        if end > index and (
            _ends_noun_phrase(clause, end) or en.is_adverb(word) or word in en.DIRECTIONS - en.DIRECTION_NOUNS
        ):
            break
        if end > index and _is_verb(clause, end):
            break
        end += 1
    return end


# ---------------------------------------------------------------- the two captions


def _motion_words(clause: Clause, several: bool) -> str:
    if Label.MOTION not in clause.labels:
        return ""
    kept: list[str] = []
    for index, (word, label) in enumerate(zip(clause.words, clause.labels, strict=True)):
        if index in clause.starts and kept:
            kept[-1] += ","
        if label in (Label.MOTION, Label.BOTH) or (several and label is Label.QUALIFIER):
            kept.append(word)
    while kept and kept[-1].lower() in en.CONJUNCTIONS:
        kept.pop()
    words = " ".join(kept).strip(",").replace(",,", ",")
    return words[:1].lower() + words[1:]


def _appearance(clauses: list[Clause]) -> str:
    text = ""
    for clause in clauses:
        words: list[str] = []
        for index, (word, label) in enumerate(zip(clause.words, clause.labels, strict=True)):
            if label in (Label.MOTION, Label.NEITHER):
                continue
            if index in clause.breaks and words and words[-1].lower() not in en.CONJUNCTIONS:
                words[-1] += ","
            words.append(word)
        words = _without_loose_ends(words, clause, first=not text)
        if not words:
            continue
        joint = " and " if clause.separator in ("while", "and then", "then", "whereas") else ", "
        joint = " " if text and words[0].lower() in en.PLACE_PREPOSITIONS and _moves(clause) else joint
        text = text + joint + " ".join(words) if text else " ".join(words)
    return _capital(text)


def _moves(clause: Clause) -> bool:
    return Label.MOTION in clause.labels


def _without_loose_ends(words: list[str], clause: Clause, *, first: bool) -> list[str]:
    """Drop articles, prepositions and conjunctions that have lost what they belonged to."""
    if not _moves(clause):
        return words
    while words and words[-1].lower() in TRAILING:
        words = words[:-1]
    leading = en.CONJUNCTIONS | (en.PREPOSITIONS if first else en.PATH_PREPOSITIONS)
    while words and words[0].lower() in leading:
        words = words[1:]
    return words


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
