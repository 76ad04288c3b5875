"""From the rows of a table to clips in shards, and what became of the rest on the way."""

from dataclasses import dataclass

from pipelines.curation.verdicts import FILTERED, KEPT
from pipelines.recipe import Recipe
from pipelines.report.figures import Figures

SOURCE_NOUN, CLIP_NOUN = "source", "clip"


@dataclass(frozen=True)
class FunnelStep:
    """One width of the funnel; `share` is of the first step that counts the same things.

    before: what became of the difference to the step before it.
    """

    name: str
    meaning: str
    before: str
    count: int
    noun: str
    share: float


def funnel(figures: Figures, recipe: Recipe) -> list[FunnelStep]:
    """Sources, decoded ones, clips, kept ones, and those in shards."""
    sources, clips = figures.sources.total(), figures.clips.total()
    decoded, kept = figures.decoded, figures.clips[KEPT]
    each = f"{clips / decoded:.1f} clips per source" if decoded else "nothing to cut"
    unreadable, dropped = _left(sources - decoded, "unreadable"), _left(clips - kept, "dropped")
    not_in_shards = _not_in_shards(figures, recipe)
    counted = (
        ("Sources", "rows of the table", "", sources, SOURCE_NOUN),
        ("Decoded", "readable to the end", unreadable, decoded, SOURCE_NOUN),
        ("Clips", "spans cut from the shots", each, clips, CLIP_NOUN),
        ("Kept", "passed every filter", dropped, kept, CLIP_NOUN),
        ("In shards", "encoded, ready to train on", not_in_shards, figures.in_shards, CLIP_NOUN),
    )
    of = {SOURCE_NOUN: sources, CLIP_NOUN: clips}
    return [FunnelStep(*step, share_of(step[3], of[step[4]])) for step in counted]


def _not_in_shards(figures: Figures, recipe: Recipe) -> str:
    kept = figures.clips[KEPT]
    rest = kept - figures.in_shards
    if not kept and not rest:
        return "nothing to encode"
    if rest < 0:
        return f"the shards hold {-rest:,} clips that are no longer kept"
    splits = recipe.curation.precompute.splits
    counts = figures.splits.items()
    other = sum(n for (split, verdict), n in counts if verdict == KEPT and split not in splits)
    parts = [f"{other:,} of splits that are not encoded"] if other else []
    parts += [f"{rest - other:,} not encoded yet"] if rest > other else []
    return ", ".join(parts) or "all of them"


def filtered_for(figures: Figures) -> dict[str, int]:
    """{reason's code: clips that it dropped}."""
    found = {}
    for (verdict, code, is_clip), count in figures.reasons.items():
        if verdict == FILTERED and is_clip:
            found[code] = count
    return found


def _left(count: int, what: str) -> str:
    return f"{count:,} {what}" if count else f"none {what}"


def share_of(count: int, of: int) -> float:
    return count / of if of else 0.0
