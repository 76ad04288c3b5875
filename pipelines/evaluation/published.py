"""Published numbers that ours stand beside, each with its paper and with what that says of its protocol."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvalCrafterTotal:
    """A total of EvalCrafter's leaderboard, and the sub-scores that were published with it."""

    model: str
    total: float
    source: str
    visual: float | None = None
    temporal: float | None = None
    motion: float | None = None
    align: float | None = None


PYRAMID_FLOW = "Jin et al. 2024, arXiv 2410.05954, table 2"
EVALCRAFTER = (
    EvalCrafterTotal("Gen-2", 254, PYRAMID_FLOW),
    EvalCrafterTotal("Pika 1.0", 250, PYRAMID_FLOW),
    EvalCrafterTotal("Pyramid Flow", 244, PYRAMID_FLOW, visual=67.94, temporal=63.41, motion=55.31),
    EvalCrafterTotal("VideoCrafter2", 243, PYRAMID_FLOW),
    EvalCrafterTotal("LaVie", 234, PYRAMID_FLOW),
    EvalCrafterTotal("Show-1", 229, PYRAMID_FLOW),
    EvalCrafterTotal("ModelScope", 218, PYRAMID_FLOW),
)
