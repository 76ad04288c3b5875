"""The labelled caption sets and the score of a splitter on them.

`python tests/pipelines/curation/caption_score.py` prints the scores of the rules; with the name of a set,
also the captions of that set that they split otherwise than the labels.

How captions are labelled (`=` in the column `appearance` stands for the whole caption):

- **Motion** names who or what moves by the head of its noun phrase ("smoke", not "thick grey smoke";
  "friends" of "a group of friends"), the verb with its auxiliaries, adverbs and particles, what is acted on,
  and where to ("into a glass", "across the field", "around the house"). Several movers follow each other in
  the order of the caption. Looks, places ("on the beach"), times, instruments and company ("with a wrench")
  are left out, unless the verb is incomplete without them ("playing with a ball", "looking at camera", "puts
  a coin in a bank").
- What people and animals do counts, however little it moves: smiling, looking, listening, sleeping. Postures
  and states do not: sitting, standing, lying, holding, wearing, hanging, covered, parked.
- A participle before a noun is motion if the thing does it while one looks: "a moving train", but not
  "a swimming pool" or "fried eggs".
- The camera's motion is motion: pan, tilt, zoom, dolly, orbit, crane, tracking or handheld shot, a flight
  over something; so are time lapse and slow motion. "Aerial view", "close-up" and "static shot" belong to the
  picture.
- Nouns of events ("traffic", "fireworks", "surgery") are no motion without a verb.
- **Appearance** is the caption without all that: who and what is acted upon stay in it, with all their looks.

Words are compared without their order; articles, auxiliaries, pronouns and conjunctions are not counted.
"""

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.curation.captions import CaptionSplit, split_caption

SETS = Path(__file__).parent / "caption_sets"
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
    a an the this that these those some both each all of and or but nor while then whereas as than so if
    is are was were be been being am has have had do does did will would can could may might must should
    not n't to who whom whose which what where when there here with without for from by at in on over under
    into onto upon through across along around past towards toward down up off out away near behind above
    below beneath beside besides between against during inside outside within among amid amidst like before
    after because about alongside throughout until till via per
    he she it they him them i we you us me one two three four five six seven eight nine ten
    his her its their my our your itself himself herself themselves 's
    """,
    )
)
# Where to is part of a motion: these count in its score, though they carry no content of their own.
DIRECTIONS = FUNCTION_WORDS & set(
    re.findall(
        r"\S+",
        "into onto through across along around past towards toward down up off out away over under from",
    )
)


@dataclass(frozen=True)
class Labelled:
    caption: str
    appearance: str
    motion: str


@dataclass(frozen=True)
class Score:
    """Means over a set; each between 0 and 1, but for the count of captions that lost a word."""

    captions: int
    motion_f1: float
    decisions: float  # share of captions rightly said to have motion or none
    appearance_f1: float
    lost: int

    def __str__(self) -> str:
        return (
            f"{self.captions} captions: motion F1 {self.motion_f1:.3f}, has motion or none "
            f"{self.decisions:.3f}, appearance F1 {self.appearance_f1:.3f}, {self.lost} lost a content word"
        )


def read_set(name: str) -> list[Labelled]:
    with (SETS / f"{name}.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        Labelled(
            row["caption"],
            row["caption"] if row["appearance"] == "=" else row["appearance"],
            row["motion"],
        )
        for row in rows
    ]


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def content_words(text: str) -> set[str]:
    return {word for word in words(text) if word not in FUNCTION_WORDS}


def lost_words(caption: str, split: CaptionSplit) -> set[str]:
    """Content words of a caption that are in neither of its parts."""
    return content_words(caption) - set(words(f"{split.appearance} {split.motion}"))


def word_f1(found: str, expected: str, counted: frozenset[str] = frozenset()) -> float:
    """Harmonic mean of precision and recall of content words and those `counted`; 1 when both have none."""

    def bag(text: str) -> Counter[str]:
        return Counter(word for word in words(text) if word not in FUNCTION_WORDS or word in counted)

    one, other = bag(found), bag(expected)
    if not one and not other:
        return 1.0
    return 2 * (one & other).total() / (one.total() + other.total())


def score(labelled: list[Labelled], splitter: Callable[[str], CaptionSplit] = split_caption) -> Score:
    splits = [splitter(each.caption) for each in labelled]
    pairs = list(zip(splits, labelled, strict=True))
    count = len(pairs)
    return Score(
        count,
        sum(word_f1(split.motion, each.motion, DIRECTIONS) for split, each in pairs) / count,
        sum(bool(split.motion) == bool(each.motion) for split, each in pairs) / count,
        sum(word_f1(split.appearance, each.appearance) for split, each in pairs) / count,
        sum(bool(lost_words(each.caption, split)) for split, each in pairs),
    )


def main(shown: list[str]) -> None:
    for path in sorted(SETS.glob("*.tsv")):
        labelled = read_set(path.stem)
        print(f"{path.stem}: {score(labelled)}")
        for each in labelled if path.stem in shown else ():
            split = split_caption(each.caption)
            right = word_f1(split.motion, each.motion, DIRECTIONS) == 1
            if not right or word_f1(split.appearance, each.appearance) < 1 or lost_words(each.caption, split):
                print(
                    f"  {each.caption}\n    appearance: {split.appearance}\n      expected: {each.appearance}"
                )
                print(f"    motion: {split.motion}\n  expected: {each.motion}")


if __name__ == "__main__":
    main(sys.argv[1:])
