"""Values with their intervals on a common axis, placed in percent of its length."""

from collections.abc import Iterable
from dataclasses import dataclass

ROOM = 0.06  # of the axis beyond its outermost values


@dataclass(frozen=True)
class Span:
    """A value's place on an axis and its interval's, in percent; without an interval both ends are None."""

    kind: str
    title: str
    place: float
    low: float | None = None
    high: float | None = None

    @property
    def length(self) -> float:
        return 0.0 if self.low is None or self.high is None else self.high - self.low


@dataclass(frozen=True)
class Axis:
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 100; what lies beyond an end is drawn at it."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def span(self, kind: str, title: str, value: float, interval: tuple[float, float] | None = None) -> Span:
        if interval is None:
            return Span(kind, title, self.place(value))
        return Span(kind, title, self.place(value), self.place(interval[0]), self.place(interval[1]))


def axis_over(values: Iterable[float]) -> Axis:
    """An axis that holds all values with some room; of some width even when they are all the same."""
    found = list(values)
    low, high = min(found), max(found)
    room = (high - low) * ROOM or abs(high) * ROOM or 1.0
    return Axis(low - room, high + room)
