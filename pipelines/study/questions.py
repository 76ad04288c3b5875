"""What a rater is asked about every pair, and what can be answered."""

from dataclasses import dataclass
from enum import StrEnum


class Question(StrEnum):
    """The four aspects of the paper's user study, in the order in which they are asked."""

    VISUAL_QUALITY = "visual_quality"
    MOTION_QUALITY = "motion_quality"
    PROMPT_FOLLOWING = "prompt_following"
    TEMPORAL_CONSISTENCY = "temporal_consistency"


class Answer(StrEnum):
    LEFT = "left"
    SAME = "same"
    RIGHT = "right"


@dataclass(frozen=True)
class Wording:
    title: str
    asks: str


WORDING = {
    Question.VISUAL_QUALITY: Wording(
        "Visual quality", "Which one has the better pictures: sharper, cleaner, fewer faults?"
    ),
    Question.MOTION_QUALITY: Wording("Motion quality", "Which one moves better: lively, smooth and natural?"),
    Question.PROMPT_FOLLOWING: Wording(
        "Prompt following", "Which one shows more of what the description says?"
    ),
    Question.TEMPORAL_CONSISTENCY: Wording(
        "Temporal consistency", "In which one do things better keep their look from frame to frame?"
    ),
}
