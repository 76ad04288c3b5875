"""Which splitter divides a run's captions, and what it made of them.

The rules are asked caption by caption. What a language model says is dear: it is kept in
data/captions/UNIT-STAMP.parquet, so that another threshold asks it for nothing, added sources for theirs
only, and a run that was killed for what it had not written yet.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.curation.captions import RULES_VERSION, CaptionSplit, split_caption
from pipelines.curation.clip_table import write_table
from pipelines.curation.sources import unit_sources
from pipelines.fingerprint import fingerprint
from pipelines.layout import RunLayout
from pipelines.models import weights_sha256
from pipelines.progress import track
from pipelines.recipe import CaptionSettings, Recipe

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


def splits_path(layout: RunLayout, unit: int, settings: CaptionSettings) -> Path:
    return layout.captions / f"{unit:05d}-{splitting_fingerprint(settings)[:8]}.parquet"


def splitter_of(unit: int, recipe: Recipe, layout: RunLayout) -> Callable[[str], CaptionSplit]:
    """caption → its split, for the captions of a unit; call `split_captions` before."""
    settings = recipe.curation.captions
    if settings.model is None:
        return split_caption
    splits = {"": split_caption("")} | {
        row["caption"]: CaptionSplit(row["appearance_caption"], row["motion_caption"])
        for row in pq.read_table(splits_path(layout, unit, settings)).to_pylist()
    }
    return splits.__getitem__


def split_captions(recipe: Recipe, layout: RunLayout, units: int) -> dict[str, Any]:
    """Have the model split the captions that it has not split yet; the rules need no such step.

    Returns, for a model only: how many captions it was given, and how many of its answers were refused, by
    reason; a caption that stands in two units counts twice.
    """
    settings = recipe.curation.captions
    if settings.model is None:
        return {}
    import ray

    waiting = [unit for unit in range(units) if missing_captions(unit, recipe, layout)]
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if waiting:
        with track(len(waiting), "curate: split captions") as step:
            stream = ray.data.from_items(
                [{"unit": unit} for unit in waiting], override_num_blocks=len(waiting)
            ).map(
                SplitActor,
                fn_constructor_args=(recipe, layout),
                compute=ray.data.ActorPoolStrategy(size=min(len(waiting), gpus or 1)),
                num_cpus=1,
                num_gpus=1 if gpus else 0,
            )
            for _ in stream.iter_rows():
                step.advance()
    return count_splits(recipe, layout, units)


class SplitActor:
    """Holds the language model of one worker."""

    def __init__(self, recipe: Recipe, layout: RunLayout) -> None:
        from pipelines.curation.caption_model import CaptionModel

        settings = recipe.curation.captions
        assert settings.model is not None
        self.recipe, self.layout = recipe, layout
        self.model = CaptionModel(
            settings.model, batch_captions=settings.batch_captions, max_new_tokens=settings.max_new_tokens
        )

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        split_unit(row["unit"], self.recipe, self.layout, self.model)
        return row


def split_unit(unit: int, recipe: Recipe, layout: RunLayout, model: Any) -> None:
    """Write the splits of a unit's captions: those that are there, and the others by `model`."""
    from pipelines.curation.caption_model import Refusal

    path = splits_path(layout, unit, recipe.curation.captions)
    rows = pq.read_table(path, schema=SCHEMA).to_pylist() if path.is_file() else []
    captions = missing_captions(unit, recipe, layout)
    for start in range(0, len(captions), WRITTEN_AT_ONCE):
        part = captions[start : start + WRITTEN_AT_ONCE]
        for caption, answer in zip(part, model.split(part), strict=True):
            refused = answer.reason if isinstance(answer, Refusal) else None
            split = split_caption(caption) if isinstance(answer, Refusal) else answer
            values = (caption, split.appearance, split.motion, refused)
            rows.append(dict(zip(SCHEMA.names, values, strict=True)))
        write_table(path, pa.Table.from_pylist(rows, SCHEMA))


def missing_captions(unit: int, recipe: Recipe, layout: RunLayout) -> list[str]:
    """Captions of a unit that are not split yet, sorted: batches must not depend on the table's order."""
    path = splits_path(layout, unit, recipe.curation.captions)
    there = pq.read_table(path, columns=["caption"])["caption"].to_pylist() if path.is_file() else []
    return sorted({source["caption"] for source in unit_sources(layout, unit)} - {"", *there})


def count_splits(recipe: Recipe, layout: RunLayout, units: int) -> dict[str, Any]:
    refused: Counter[str] = Counter()
    captions = 0
    for unit in range(units):
        path = splits_path(layout, unit, recipe.curation.captions)
        if path.is_file():
            reasons = pq.read_table(path, columns=["refused"])["refused"].to_pylist()
            captions += len(reasons)
            refused.update(reason for reason in reasons if reason)
    return {"captions_asked": captions, "captions_refused": dict(sorted(refused.items()))}
