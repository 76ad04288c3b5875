"""Labels of a clause's words: who moves, what is done, to what and where to; the rest is the picture's."""

from pipelines.curation import english as en
from pipelines.curation.camera import MARK
from pipelines.curation.clauses import (
    Clause,
    Label,
    is_attributive,
    noun_phrase_end,
    noun_phrases,
    starts_noun_phrase,
)
from pipelines.curation.tagging import Form


def label_words(clause: Clause) -> None:
    """Give every word of a clause its label."""
    index = phrase_start = 0
    subject_known = False
    while index < len(clause.words):
        if clause.low(index) in en.CONJUNCTIONS and _starts_a_subject(clause, index + 1):
            phrase_start, subject_known = index + 1, False
            clause.starts.add(index + 1)
        if not clause.moves(index):
            if clause.low(index) in en.CONJUNCTIONS and (clause.moves(index + 1) or _was_done(clause, index)):
                clause.labels[index] = Label.NEITHER
                clause.breaks.add(index + 1)
            index += 1
            continue
        if is_attributive(clause, index):
            clause.labels[index] = Label.MOTION
            clause.starts.add(index)
            _label_noun_phrase(clause, index + 1, Label.PICTURE)
            index += 1
            continue
        if not subject_known:
            subject_known = _label_subject(clause, phrase_start, index)
        index = _label_verb_group(clause, index)


def _starts_a_subject(clause: Clause, index: int) -> bool:
    """Whether `and` leads to another mover: `and a dog barks`, `and passengers get off`."""
    if not clause.has_motion(index - 1) or clause.moves(index):
        return False
    end = noun_phrase_end(clause, index)
    if end == index:
        return False
    while en.is_adverb(clause.low(end)) or clause.low(end) in en.AUXILIARIES | en.RELATIVES:
        end += 1
    return clause.low(index) in en.DETERMINERS or clause.moves(end)


def _was_done(clause: Clause, index: int) -> bool:
    """Whether a conjunction joins a state to a motion: `yawning and lying on the grass`."""
    return clause.form(index + 1) is Form.STATE and clause.has_motion(index)


# ---------------------------------------------------------------- who moves


def _label_subject(clause: Clause, start: int, verb: int) -> bool:
    """Mark who moves: the heads of the noun phrases, between `start` and the verb, that do it."""
    phrases = list(noun_phrases(clause, start, verb))
    while phrases and clause.low(phrases[0][1] - 1) in en.GROUPS:
        end = phrases[0][1]
        if clause.low(end) != "of" and clause.low(end - 1) not in en.VIEWS - {"pov"}:
            break
        phrases.pop(0)
    if not phrases:
        return False
    chosen = _movers(clause, phrases, verb)
    for start, end in chosen:
        _label_head(clause, start, end)
    clause.movers.append(clause.low(chosen[0][1] - 1))
    return True


def _movers(clause: Clause, phrases: list[tuple[int, int]], verb: int) -> list[tuple[int, int]]:
    """The first phrase with what is joined to it by `and`; one further on if only that can move."""

    def head(phrase: tuple[int, int]) -> str:
        return clause.low(phrase[1] - 1)

    first, last = 0, len(phrases) - 1
    if last and clause.form(verb) is Form.PARTICIPLE:
        company = clause.low(phrases[last][0] - 1) == "with"
        lifeless = not en.is_living(head(phrases[0])) and head(phrases[0]) not in en.CAMERA_NOUNS
        idle = head(phrases[0]) not in en.THINGS_THAT_MOVE
        moves_itself = head(phrases[last]) in en.MOVERS and idle
        if (lifeless and (moves_itself or company)) or (company and head(phrases[last]) in en.BLOWN):
            first = last
            while first and clause.low(phrases[first][0] - 1) in en.CONJUNCTIONS:
                first -= 1
    chosen = [phrases[first]]
    for phrase in phrases[first + 1 :]:
        if clause.low(chosen[-1][1]) in en.CONJUNCTIONS and phrase[0] == chosen[-1][1] + 1:
            chosen.append(phrase)
        else:
            break
    for start, _ in chosen[1:]:
        clause.labels[start - 1] = Label.BOTH  # the `and` of "bride and groom"
    return chosen


def _label_head(clause: Clause, start: int, end: int) -> None:
    head = end - 1
    for i in range(start, head):
        if clause.low(i) not in en.DETERMINERS | en.POSSESSIVES and not clause.moves(i):
            clause.labels[i] = Label.QUALIFIER
    camera = clause.low(head) in en.CAMERA_NOUNS
    nothing = camera or clause.low(head) == "it"  # that one could see in a picture
    clause.labels[head] = Label.MOTION if nothing else Label.BOTH
    if camera:
        for i in range(start, head):
            clause.labels[i] = Label.NEITHER if clause.low(i) in en.DETERMINERS else Label.MOTION


# ---------------------------------------------------------------- what is done


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
    camera = clause.words[verb].endswith(MARK) or any(clause.low(i) in en.CAMERA_NOUNS for i in range(verb))
    index = verb + 1
    while index < len(clause.words):
        word, after = clause.low(index), clause.low(index + 1)
        if word in en.CONJUNCTIONS:
            goes_on = clause.moves(index + 1) or after in en.DIRECTIONS | en.PATH_PREPOSITIONS
            goes_on = goes_on or (en.is_adverb(after) and not _starts_a_subject(clause, index + 1))
            if not goes_on:
                return index
            clause.labels[index] = Label.MOTION
            index += 1
        elif clause.form(index) is Form.STATE or word in en.RELATIVES or _is_subject(clause, index):
            return index
        elif clause.moves(index) and not is_attributive(clause, index):
            verb = index
            clause.labels[index] = Label.MOTION
            index += 1
        elif word == "to" and clause.moves(index + 1):
            clause.labels[index] = Label.MOTION
            index += 1
        elif _says_where_to(clause, index, verb, camera=camera):
            index = _label_path(clause, index)
        elif (
            word in en.CAUSES
            or word in en.PLACE_PREPOSITIONS - en.DIRECTIONS
            or (word in en.PLACE_PREPOSITIONS and starts_noun_phrase(clause, index + 1))
        ):
            index = _skip_place(clause, index)
        elif en.is_adverb(word) or word in en.DIRECTIONS | en.ADVERBS | en.AUXILIARIES:
            clause.labels[index] = Label.MOTION
            index += 1
        else:
            index = _label_object(clause, index)
    return index


def _is_subject(clause: Clause, index: int) -> bool:
    """Whether a pronoun begins another clause: `he`, or an `it` that a verb follows."""
    word = clause.low(index)
    return word in en.SUBJECT_PRONOUNS and (word not in en.OBJECT_PRONOUNS or clause.moves(index + 1))


def _says_where_to(clause: Clause, index: int, verb: int, *, camera: bool) -> bool:
    """Whether a preposition leads to a part of the motion, rather than to where it all happens."""
    word, does = clause.low(index), clause.low(verb)
    if word in en.PATH_PREPOSITIONS or (word, clause.low(index + 1)) == ("away", "from"):
        return True
    if camera and word in ("over", "above", "between"):
        return True
    adjacent = index == verb + 1 or all(clause.low(i) in en.DIRECTIONS for i in range(verb + 1, index))
    if word == "by" and clause.form(verb) is Form.PASSIVE:
        return True
    if word in en.GOVERNED and does in en.GOVERNED[word]:
        whom = clause.low(noun_phrase_end(clause, index + 1) - 1)
        if word == "at" and does in en.ADDRESSED and whom not in en.PERSONS | en.ANIMALS | en.DIRECTION_NOUNS:
            return False
        if word == "on" and does in en.SWITCHED and not en.PERSONS.intersection(clause.movers):
            return False
        return adjacent or word == "with"
    if word in en.CROSSED and index == verb + 1:
        stays = does in en.ABOVE_GROUND or clause.low(verb - 1) in ("not", "n't")
        return does in en.TRAVEL | en.RIDES and not stays
    if word == "in" and clause.low(noun_phrase_end(clause, index + 1) - 1) in en.WAYS:
        return True
    return word in ("in", "on", "over") and does in en.TRANSFER and starts_noun_phrase(clause, index + 1)


def _skip_place(clause: Clause, index: int) -> int:
    """Past `on the beach`: what follows may tell more of the motion, `towards the camera`."""
    start = index
    while clause.low(index) in en.PREPOSITIONS:
        index += 1
    if not starts_noun_phrase(clause, index):  # turning on
        clause.labels[start:index] = [Label.MOTION] * (index - start)
    end = max(noun_phrase_end(clause, index), index)
    for i in range(index, end):
        if clause.moves(i) and is_attributive(clause, i):  # on a spinning wheel
            clause.labels[i], clause.labels[end - 1] = Label.MOTION, Label.BOTH
            clause.starts.add(i)
    moves_itself = clause.low(end - 1) in en.MOVERS or clause.low(start) == "with"
    if clause.form(end) is Form.PARTICIPLE and moves_itself and end > index:
        clause.labels[end - 1] = Label.BOTH  # on the road with cars passing by
        clause.starts.add(end - 1)
    return end


def _label_path(clause: Clause, index: int) -> int:
    """`to the left` is motion; `along the beach` is motion, and the beach is in the picture."""
    clause.labels[index] = Label.MOTION
    further = en.PREPOSITIONS if clause.low(index) in ("up", "down") else en.PATH_PREPOSITIONS | {"of"}
    index += 1
    while clause.low(index) in further and not clause.moves(index + 1):  # out of, away from, down over
        clause.labels[index] = Label.MOTION
        index += 1
    verb_follows = clause.moves(index) and not is_attributive(clause, index)
    if verb_follows or not starts_noun_phrase(clause, index):
        return index
    end = noun_phrase_end(clause, index)
    to_a_colour = end == index + 1 and clause.low(index) in en.COLOURS  # from red to green
    if end > index and (clause.low(end - 1) in en.DIRECTION_NOUNS or to_a_colour):
        clause.labels[index:end] = [Label.MOTION] * (end - index)
        return end
    return _label_object(clause, index)


def _label_object(clause: Clause, index: int) -> int:
    """What is acted upon; parts of the actor (`his head`) are motion only."""
    end = noun_phrase_end(clause, index)
    own = end == index + 2 and clause.low(index) in en.POSSESSIVES and clause.low(end - 1) in en.BODY_PARTS
    if own or clause.low(index) in en.OBJECT_PRONOUNS | {"each"}:
        end = max(end, index + 1)
        clause.labels[index:end] = [Label.MOTION] * (end - index)
        return end
    return _label_noun_phrase(clause, index, Label.PICTURE)


def _label_noun_phrase(clause: Clause, index: int, rest: Label) -> int:
    """Head in both captions, the rest of the phrase as told; moving things keep their participle."""
    end = noun_phrase_end(clause, index)
    for i in range(index, end):
        attributive = clause.moves(i)
        clause.labels[i] = Label.MOTION if attributive else rest
    if end > index:
        clause.labels[end - 1] = Label.BOTH
        if index and clause.labels[index - 1] is Label.MOTION and not is_attributive(clause, index - 1):
            clause.breaks.add(index)
    return max(end, index + 1)
