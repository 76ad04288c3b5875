"""Which splitter divides a run's captions, and what it made of them.

The rules are asked caption by caption. A language model is dear: it is asked for kept clips only, and what it
says is kept in data/captions/UNIT-STAMP.parquet, so that another threshold asks it for the newly kept, added
sources for theirs, and a run that was killed for what it had not written yet.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.curation.captions import RULES_VERSION, CaptionSplit, split_caption
from pipelines.curation.clip_table import clips_path, write_table
from pipelines.curation.unit_tasks import over_units, unit_stream
from pipelines.curation.verdicts import KEPT
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.models import weights_sha256
from pipelines.progress import track
from pipelines.recipe import CaptionSettings, Recipe
from pipelines.storage import read_table

WRITTEN_AT_ONCE = 16_384  # captions; what a killed run asks the model again, at most
# `refused` says why the model's answer was not taken: both parts are then the rules'.
SCHEMA = pa.schema(
    [
        ("caption", pa.string()),
        ("appearance_caption", pa.string()),
        ("motion_caption", pa.string()),
        ("refused", pa.string()),
    ]
)


def splitting_fingerprint(settings: CaptionSettings) -> str:
    """All that a split depends on beside its caption."""
    if settings.model is None:
        return fingerprint("rules", RULES_VERSION)
    from pipelines.curation.caption_model import PROMPT_VERSION

    weights = weights_sha256(settings.model)
    return fingerprint(
        "model", PROMPT_VERSION, RULES_VERSION, weights, settings.batch_captions, settings.max_new_tokens
    )


def splits_path(layout: RunLayout, unit: int, stamp: str) -> Path:
    """stamp: `splitting_fingerprint` of the recipe's captions; hashing a model's weights takes its time."""
    return layout.captions / f"{unit:05d}-{stamp[:8]}.parquet"


def splitter_of(
    unit: int, recipe: Recipe, layout: RunLayout, stamp: str
) -> Callable[[str], CaptionSplit | None]:
    """caption → its split, for the captions of a unit; None for one that no kept clip has.

    Call `split_captions` before.
    """
    if recipe.curation.captions.model is None:
        return split_caption
    splits = {"": split_caption("")} | {
        row["caption"]: CaptionSplit(row["appearance_caption"], row["motion_caption"])
        for row in _known_splits(splits_path(layout, unit, stamp))
    }
    return splits.get


def split_captions(units: int, recipe: Recipe, layout: RunLayout, stamp: str) -> dict[str, Any]:
    """Have the model split the kept clips' captions that it has not split yet; the rules need no such step.

    Returns, for a model only: how many captions it was given, and how many of its answers were refused, by
    reason; a caption that stands in two units counts twice.
    """
    if recipe.curation.captions.model is None:
        return {}
    import ray

    lacking = over_units(count_missing, range(units), layout, stamp)
    waiting = [unit for unit, count in enumerate(lacking) if count]
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if waiting:
        with track(sum(lacking), "curate: split captions") as step:
            stream = unit_stream(waiting).map(
                SplitActor,
                fn_constructor_args=(recipe, layout, stamp),
                compute=ray.data.ActorPoolStrategy(size=min(len(waiting), gpus or 1)),
                num_cpus=1,
                num_gpus=1 if gpus else 0,
            )
            for row in stream.iter_rows():
                step.advance(lacking[row["unit"]])
    refused: Counter[str] = Counter()
    for counted in (counts := over_units(count_refused, range(units), layout, stamp)):
        refused.update(counted)
    return {
        "captions_asked": sum(counted.total() for counted in counts),
        "captions_refused": dict(sorted((why, count) for why, count in refused.items() if why)),
    }


class SplitActor:
    """Holds the language model of one worker."""

    def __init__(self, recipe: Recipe, layout: RunLayout, stamp: str) -> None:
        from pipelines.curation.caption_model import CaptionModel

        settings = recipe.curation.captions
        assert settings.model is not None
        self.layout, self.stamp = layout, stamp
        self.model = CaptionModel(
            settings.model, batch_captions=settings.batch_captions, max_new_tokens=settings.max_new_tokens
        )

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        split_unit(row["unit"], self.layout, self.stamp, self.model)
        return row


def split_unit(unit: int, layout: RunLayout, stamp: str, model: Any) -> None:
    """Write the splits of a unit's captions: those that are there, and the others by `model`."""
    from pipelines.curation.caption_model import Refusal

    path = splits_path(layout, unit, stamp)
    rows = _known_splits(path)
    captions = missing_captions(unit, layout, stamp)
    for start in range(0, len(captions), WRITTEN_AT_ONCE):
        part = captions[start : start + WRITTEN_AT_ONCE]
        for caption, answer in zip(part, model.split(part), strict=True):
            refused = answer.reason if isinstance(answer, Refusal) else None
            split = split_caption(caption) if isinstance(answer, Refusal) else answer
            values = (caption, split.appearance, split.motion, refused)
            rows.append(dict(zip(SCHEMA.names, values, strict=True)))
        write_table(path, pa.Table.from_pylist(rows, SCHEMA))


def missing_captions(unit: int, layout: RunLayout, stamp: str) -> list[str]:
    """Kept captions without a split, sorted: batches must not depend on the order of the table."""
    there = {row["caption"] for row in _known_splits(splits_path(layout, unit, stamp))}
    clips = read_table(clips_path(layout, unit), columns=["caption", "verdict"]).to_pylist()
    return sorted({clip["caption"] for clip in clips if clip["verdict"] == KEPT} - there)


def count_missing(unit: int, layout: RunLayout, stamp: str) -> int:
    return len(missing_captions(unit, layout, stamp))


def count_refused(unit: int, layout: RunLayout, stamp: str) -> Counter[str | None]:
    """The model's answers by the reason why they were not taken, None for those that were."""
    return Counter(row["refused"] for row in _known_splits(splits_path(layout, unit, stamp)))


def _known_splits(path: Path) -> list[dict[str, Any]]:
    return read_table(path, schema=SCHEMA).to_pylist() if path.is_file() else []
