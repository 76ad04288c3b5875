"""What each rater sees, in which order and on which side: a pure function of the study and the rater."""

import random
from collections import defaultdict
from dataclasses import dataclass

from pipelines.study.plan import Study


@dataclass(frozen=True)
class Showing:
    """One screen: a pair of the study, and which contestant stands where (indices)."""

    pair: int
    left: int
    right: int


def showings(study: Study, rater: int) -> tuple[Showing, ...]:
    """Every pair of the study once, in the rater's own random order.

    Of two contestants each stands left in half of their pairs, or in one more, so that a rater who favours a
    side favours no run.
    """
    rng = random.Random(f"{study.settings.seed}/{rater}")
    meetings: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, pair in enumerate(study.pairs):
        meetings[pair.one, pair.other].append(number)
    shown = []
    for (one, other), numbers in meetings.items():
        sides = [(one, other), (other, one)]
        rng.shuffle(sides)
        dealt = [sides[i % 2] for i in range(len(numbers))]
        rng.shuffle(dealt)
        shown += [Showing(number, *side) for number, side in zip(numbers, dealt, strict=True)]
    rng.shuffle(shown)
    return tuple(shown)
