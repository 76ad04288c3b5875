"""Which words of a caption are verbs, and in what form.

HanTa's tagger (C. Wartena, "A Probabilistic Morphology Model for German Lemmatization", KONVENS 2019; its
English model ships inside the package) knows the words and the order that they usually come in. Captions have
a grammar of their own, though (participles without an auxiliary, few articles, names of things in -ing), so
that it is the rules here which decide. Tags are those of the British National Corpus (C5): NN1 a noun, VVZ a
verb in -s, and so on.
"""

from enum import Enum
from functools import cache, lru_cache

from HanTa.HanoverTagger import HanoverTagger

from pipelines.curation import english as en

LIKELY = 1.6  # a reading counts as likely when its log-probability is at most so much below the best one's
CACHED_WORDS = 2**17
LONGEST = 30  # letters from a word's end that it is known by: the tagger's time grows with their square


class Form(Enum):
    NONE = "no verb"
    PARTICIPLE = "doing"
    THIRD = "does"
    BASE = "do"
    PAST = "did"
    PASSIVE = "is done"
    STATE = "sits: a verb, but nothing moves"


MODALS = frozenset({"do", "does", "did", "will", "can"})
DOES = {"does": Form.THIRD, "do": Form.BASE, "did": Form.PAST}


class _Tagger(HanoverTagger):
    """HanTa's tagger that remembers the words which its model does not list."""

    analyze_forward = lru_cache(CACHED_WORDS)(HanoverTagger.analyze_forward)


@cache
def _tagger() -> HanoverTagger:
    return _Tagger("morphmodel_en.pgz")


@lru_cache(CACHED_WORDS)
def readings(word: str) -> dict[str, float]:
    """{tag: log-probability} of a word on its own."""
    return {tag: float(value) for tag, value in _tagger().tag_word(word[-LONGEST:], casesensitive=False)}


@lru_cache(CACHED_WORDS)
def is_likely(word: str, *tags: str, margin: float = LIKELY) -> bool:
    found = readings(word)
    return any(found.get(tag, -1e9) >= max(found.values()) - margin for tag in tags) if found else False


def is_listed(word: str) -> bool:
    """Whether the model has seen the word; otherwise its readings are guessed from its shape."""
    return word in _tagger().cache


@lru_cache(CACHED_WORDS)
def can_be_third(word: str) -> bool:
    """Whether a word in -s may be a verb: the model has seen it so, or its base form."""
    bases = {word[:-1], word[:-2]} | ({word[:-3] + "y"} if word.endswith("ies") else set())
    return "VVZ" in readings(word) or any({"VVI", "VVB"} & set(readings(base)) for base in bases if base)


def part_of_speech(words: list[str]) -> list[str]:
    """C5 tags of lower-case words; of words that are joined, that of the last."""
    last = [word.rsplit(en.JOINED, 1)[-1][-LONGEST:] or "-" for word in words]
    return _tagger().tag_sent(last, taglevel=0) if last else []


def verb_forms(words: list[str], tags: list[str], *, continues: bool) -> list[Form]:
    """The form of each word of a clause; NONE for what is no verb.

    A clause that `continues` the one before may begin with its verb: "sits on a branch, then flies off".
    """
    reader = _Reader(words, tags, continues)
    for index in range(len(words)):
        reader.forms.append(reader.form(index))
    return reader.forms


class _Reader:
    def __init__(self, words: list[str], tags: list[str], continues: bool) -> None:
        self.words, self.tags, self.continues = words, tags, continues
        self.forms: list[Form] = []

    def word(self, index: int) -> str:
        return self.words[index] if 0 <= index < len(self.words) else ""

    def tag(self, index: int) -> str:
        return self.tags[index] if 0 <= index < len(self.tags) else ""

    def before(self, index: int) -> int:
        """Index of the word before, adverbs and negations left out."""
        index -= 1
        while index >= 0 and (en.is_adverb(self.words[index]) or self.words[index] in ("not", "n't")):
            index -= 1
        return index

    def form(self, index: int) -> Form:
        word = self.word(index)
        if word in DOES and self._does_something(index):
            return DOES[word]
        if index == 0 and word in en.RIDES and self.word(1) in en.PATH_PREPOSITIONS | en.CROSSED:
            return Form.BASE  # a flight over the sea
        if index == 0 and word in en.ROAMING and self.word(1) in ("in", "on"):
            return Form.BASE
        if self._is_closed(word):
            return Form.NONE
        found = Form.NONE
        if word.endswith("ing") and len(word) > 4 and word not in en.BASES_IN_ING:
            found = Form.PARTICIPLE if self._is_participle(index) else Form.NONE
        elif word.endswith("s") and self._is_third(index):
            found = Form.THIRD
        elif self._is_base(index):
            found = Form.BASE
        else:
            found = self._past(index)
        if found is not Form.NONE and word in en.STATES:
            after = self.word(index + 1)
            rises = word in en.POSTURES and after in ("up", "down")
            shows = word in en.SHOWING and en.is_living(self.word(self.before(index)))
            return found if rises or shows or after in ("still", "motionless") else Form.STATE
        return found

    def _does_something(self, index: int) -> bool:
        """Whether `does` is the verb itself: `does yoga`, not `does not move`."""
        after = self.word(index + 1)
        negated = after in ("not", "n't") or self.tag(index + 1) == "XX0"
        return index > 0 and bool(after) and not negated and self.tag(index + 1) not in ("VVI", "VVB", "PNP")

    @staticmethod
    def _is_closed(word: str) -> bool:
        return (
            word in en.AUXILIARIES
            or word in en.DETERMINERS
            or word in en.POSSESSIVES
            or word in en.CONJUNCTIONS
            or word in en.PREPOSITIONS
            or word in en.RELATIVES
            or word in en.SUBJECT_PRONOUNS
            or word in en.OBJECT_PRONOUNS
        )

    # ------------------------------------------------------------ doing

    def _is_participle(self, index: int) -> bool:
        word, before, after = self.word(index), self.word(index - 1), self.word(index + 1)
        if word in en.NAMES_IN_ING or (before in en.PURPOSES and not self._is_shown(index)):
            return False
        if word in en.USES and after in en.VEHICLES:
            return not self._makes_a_name(index)
        if before == "and" and self.word(index - 2).endswith("ing") and self.word(index - 3) in en.PURPOSES:
            return False  # tools for cutting and sewing
        if after in en.MADE_FOR and word not in en.KINETIC:
            return not self._makes_a_name(index)
        if word in en.NAMES_OR_VERBS_IN_ING:
            return self._has_a_subject(index) or self._has_an_object(index)
        if word in en.LOOKS_IN_ING and not self._has_an_object(index):
            return self.tag(self.before(index)).startswith(("N", "P", "VB")) and index > 0
        no_object = not after or after in en.PREPOSITIONS
        return not (
            no_object and before in en.DETERMINERS | en.POSSESSIVES | {"from", "to", "in", "at", "on"}
        )

    def _is_shown(self, index: int) -> bool:
        """`portrait of smiling girl`, `view of moving cars`, but not `the art of making bread`."""
        views = any(word in en.VIEWS | en.GROUPS for word in self.words[:index])
        shown = views and self.tag(index + 1).startswith(("N", "AJ"))
        return self.word(index - 1) == "of" and (shown or self.word(index + 1) in en.MOVERS)

    def _makes_a_name(self, index: int) -> bool:
        """Whether -ing word and noun are one thing: `swimming pool`, but not `man cleaning windows`."""
        before = self.before(index)
        if before < 0 or self.word(before) in en.CONJUNCTIONS:
            return True
        word = self.word(before)
        doer = en.is_living(word) or word in en.MOVERS or self.tag(before) in ("NN2", "NN0")
        return not (doer or word in en.AUXILIARIES)

    def _has_a_subject(self, index: int) -> bool:
        before = self.before(index)
        word = self.word(before)
        doer = en.is_living(word) or word in en.MOVERS | en.AUXILIARIES | en.CAMERA_NOUNS
        return before >= 0 and (doer or self.tag(before) in ("NN2", "NN0", "PNP") or Form.STATE in self.forms)

    def _has_an_object(self, index: int) -> bool:
        after = self.word(index + 1)
        sunset = (self.word(index), after) == ("setting", "sun")
        prints = self.tag(index - 1).startswith("NN") and self.tag(index + 1) == "NN2" if index else False
        return sunset or prints or after in en.DETERMINERS | en.POSSESSIVES | en.OBJECT_PRONOUNS

    # ------------------------------------------------------------ does

    def _is_third(self, index: int) -> bool:
        word, before, after = self.word(index), self.word(index - 1), self.word(index + 1)
        where_to = en.PATH_PREPOSITIONS | (en.DIRECTIONS - en.PLACE_PREPOSITIONS)
        goes_on = after in where_to or word in en.GOVERNED.get(after, ())
        if before in en.CAMERA_NOUNS and (goes_on or after in en.CROSSED or en.is_adverb(after)):
            return True  # the camera dollies past
        if not (can_be_third(word) or (after in ("a", "an", "the") and self.tag(index - 1) == "NN1")):
            return False
        acts = after in en.DETERMINERS | en.POSSESSIVES | en.OBJECT_PRONOUNS
        if index == 0:
            known = readings(word)
            plain = self.tag(0) == "VVZ" and known.get("VVZ", -1e9) > known.get("NN2", -1e9)
            return self.continues and (acts or plain or (goes_on and after not in en.CROSSED))
        if self.tag(index - 1) in ("AT0", "DPS", "CRD", "POS", "AJ0") or before.endswith("'s"):
            return False
        if before in en.DETERMINERS or before in en.POSSESSIVES or before in en.PREPOSITIONS:
            return False
        if self._another_verb_follows(index) or (self._is_finite() and before not in en.CONJUNCTIONS):
            return False  # water drops fall, blows soap bubbles
        mover = self.word(self.before(index)) in en.MOVERS | en.CAMERA_NOUNS
        names = word in en.MOVERS or (not mover and self._names_rather(index))
        if names and not after and not set(self.words[:index]) & en.DETERMINERS:
            return False  # autumn leaves, but: the train leaves
        if self.tag(index) == "VVZ":
            return True
        # The tagger takes "man with tattoo talks on the phone" for a noun.
        singular = self.tag(self.before(index)) in ("NN0", "NN1", "NP0", "PNI") and not before.endswith("ing")
        likely = is_likely(word, "VVZ")
        if before in en.CONJUNCTIONS and index > 1 and self.forms[index - 2] is Form.THIRD:
            return True  # yawns and stretches
        if before in en.CONJUNCTIONS:
            return Form.THIRD in self.forms and (likely or goes_on or acts)
        first = not self._has_verb()
        if first and singular and en.is_living(before) and word not in en.BODY_PARTS:
            likely = likely or is_likely(word, "VVZ", margin=3.5)
        return singular and (
            ((acts or goes_on) and (mover or likely or first)) or (likely and (mover or first))
        )

    def _names_rather(self, index: int) -> bool:
        """Whether a word in -s that ends its clause is more often a noun: `rice noodles`."""
        word = self.word(index)
        known = readings(word)
        tagged = self.tag(index) == "VVZ" and is_listed(word)
        return not tagged and known.get("NN2", -1e9) >= known.get("VVZ", -1e9)

    def _has_verb(self) -> bool:
        return any(form is not Form.NONE for form in self.forms)

    def _is_finite(self) -> bool:
        """Whether the clause has its verb already, and nothing has begun another one."""
        for index in range(len(self.forms) - 1, -1, -1):
            if self.words[index] in en.CONJUNCTIONS | en.RELATIVES | en.SUBORDINATES:
                return False
            if self.forms[index] in (Form.THIRD, Form.BASE):
                return True
        return False

    def _another_verb_follows(self, index: int) -> bool:
        """`water drops falling`, `waves crash`: the word in -s is the subject of what follows it."""
        if self.word(index) in en.PHASES:
            return False
        after = index + 1
        if self.tag(index) == "VVZ" and en.is_adverb(self.word(after)):
            return False  # opens slowly, revealing a garden
        while en.is_adverb(self.word(after)) or self.word(after) in en.BE:
            if self.word(after) in en.BE:
                return True
            after += 1
        word = self.word(after)
        if word.endswith("ing") and len(word) > 4:
            return word not in en.NAMES_IN_ING and word not in en.NAMES_OR_VERBS_IN_ING
        return self.tag(after) in ("VVB", "VVD") and word not in en.DIRECTIONS and self._is_plain_verb(word)

    @staticmethod
    def _is_plain_verb(word: str) -> bool:
        return is_likely(word, "VVB", "VVI", "VVD")

    # ------------------------------------------------------------ do

    def _is_base(self, index: int) -> bool:
        word, before, after = self.word(index), self.word(index - 1), self.word(index + 1)
        known = readings(word)
        if "VVB" not in known and "VVI" not in known:
            return False
        if before == "to":
            infinitive = self.tag(index) in ("VVI", "VVB") or is_likely(word, "VVI", "VVB")
            return infinitive and self._is_chain(index - 1)
        if index == 0:
            return False
        previous = self.before(index)
        if before in ("not", "n't") or self.word(previous) in MODALS:
            return True
        subject = self.word(previous)
        if word in en.BODY_PARTS | en.DIRECTIONS or subject.endswith("'s"):
            return False
        if subject in en.CONJUNCTIONS:
            return Form.BASE in self.forms and (
                self.tag(index) in ("VVB", "VVI") or is_likely(word, "VVB", "VVI")
            )
        if self.tag(index) in ("VVB", "VVI"):
            plural = self.tag(previous) in ("NN2", "NN0", "PNP") or subject in en.PLURALS | en.COLLECTIVES
            plural = plural or (subject in en.MOVERS and subject.endswith("s"))
            several = "NN2" in self.tags[:previous] and not self._has_verb()  # lights of the city turn on
            return plural or several or self._coordinated(previous) or en.is_living(subject)
        openers = en.PREPOSITIONS | en.DETERMINERS | en.POSSESSIVES | en.DIRECTIONS
        joined = after in en.CONJUNCTIONS and is_likely(self.word(index + 2) or "-", "VVB", "VVI")
        leads_on = after in openers or en.is_adverb(after) or joined
        several = "NN2" in self.tags[:index] or self._coordinated(previous)
        if several and not self._has_verb() and is_likely(word, "VVB", "VVI"):
            doers = self.tag(previous) == "NN2" or self._coordinated(previous)
            if doers and (not after or (en.is_living(subject) and self.tag(index + 1)[:2] in ("NN", "AJ"))):
                return True  # bride and groom kiss, farm workers harvest grapes
            if after in en.PATH_PREPOSITIONS:
                return True  # drops of water fall from the roof
        doer = (en.is_living(subject) and subject not in en.BODY_PARTS) or self.tag(previous) == "NN2"
        return doer and leads_on and not self._has_verb() and is_likely(word, "VVB", "VVI")

    def _is_chain(self, to: int) -> bool:
        """Whether the infinitive belongs to a verb before it: `starts to dance`, `teaches him to swim`."""
        return (
            any(form not in (Form.NONE, Form.STATE) for form in self.forms[:to]) and self.tag(to - 1) != "AJ0"
        )

    def _coordinated(self, index: int) -> bool:
        return any(self.word(i) in ("and", "&") for i in range(max(0, index - 3), index))

    # ------------------------------------------------------------ did, is done

    def _past(self, index: int) -> Form:
        word, after = self.word(index), self.word(index + 1)
        if self.tag(index) not in ("VVD", "VVN", "AJ0") or word in en.DIRECTIONS or index == 0:
            return Form.NONE
        known = readings(word)
        if "VVD" not in known and "VVN" not in known:
            return Form.NONE
        previous = self.before(index)
        subject = self.word(previous)
        if word in en.FINISHED and subject not in ("being", "getting", "gets"):
            return Form.NONE
        if word in en.PREPARED and subject not in en.PASSIVES | en.CONJUNCTIONS:
            return Form.NONE
        if subject in en.PASSIVES:
            return Form.PASSIVE if "VVN" in known and self.tag(index) != "AJ0" else Form.NONE
        if subject in ("has", "have", "had"):
            return Form.PAST
        if subject in en.CONJUNCTIONS:
            narrated = {Form.PAST, Form.PASSIVE} & set(self.forms) or en.BE & set(self.words[:index])
            return Form.PAST if narrated else Form.NONE
        if not (self.tag(previous).startswith(("NN", "NP", "PN")) or subject in en.RELATIVES):
            return Form.NONE
        if "VVN" not in known or (subject in en.SUBJECT_PRONOUNS and "VVD" in known):
            return Form.PAST
        if after == "by":  # leaves moved by the wind, but not: a house surrounded by trees
            doers = set(self.words[index + 2 : index + 5]) & en.MOVERS
            return Form.PASSIVE if doers else Form.NONE
        where_to = after in en.PATH_PREPOSITIONS | {"over"} or after in en.DIRECTIONS - en.PLACE_PREPOSITIONS
        acts = after in en.DETERMINERS | en.POSSESSIVES | en.OBJECT_PRONOUNS
        return Form.PAST if where_to or acts or (not after and self.tag(index) == "VVD") else Form.NONE
