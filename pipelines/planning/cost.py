"""What a recipe's clips take: bytes of shards, core-hours of scoring, operations of precompute's networks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.curation.clip_table import SCHEMA
from pipelines.curation.verdicts import KEPT
from pipelines.layout import RunLayout
from pipelines.model_shapes import clip_bytes
from pipelines.models import resolve_model
from pipelines.operations import count_flop, counted_in_full
from pipelines.preflight.data import count_sources
from pipelines.recipe import Bucket, Recipe

# README, Curation: 1.9 sources/s on two cores, so 1.05 core-seconds a source.
CORE_SECONDS_PER_SOURCE = 1.05
CORE_SECONDS_FROM = "README, Curation: real clips, all of stock.yaml's filters, two cores, start-up included"


@dataclass(frozen=True)
class ClipCounts:
    """How many clips there are or will be, by bucket; None where nothing says it."""

    clips: int | None
    by_bucket: Mapping[str, float] | None  # all splits that get shards
    trained: Mapping[str, int] | None  # of split `train`, if there is a clip table
    sources: int | None
    origin: str


def count_clips(recipe: Recipe, wanted: int | None) -> ClipCounts:
    """From the clip table of the run directory, if there is one; else from `wanted` and the source table.

    wanted: a number of clips to plan for. Beside a clip table its mixture of buckets and its sources a clip
    hold for that number too; without one every bucket of a tier gets as many, and every source gives a clip.
    """
    layout = RunLayout.of(recipe)
    if any(layout.clips.glob("*.parquet")):
        return _curated(recipe, layout, wanted)
    if wanted is None:
        return ClipCounts(None, None, None, count_sources(recipe.data) or None, "no clip table, no --clips")
    even = {
        str(bucket): wanted / len(buckets) for buckets in recipe.curation.tiers.values() for bucket in buckets
    }
    return ClipCounts(wanted, even, None, wanted, "--clips, one of each source, in even parts by bucket")


def _curated(recipe: Recipe, layout: RunLayout, wanted: int | None) -> ClipCounts:
    import pyarrow.dataset as ds

    columns = ["source_id", "split", "bucket", "verdict"]
    table = ds.dataset(sorted(map(str, layout.clips.glob("*.parquet"))), schema=SCHEMA).to_table(columns)
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    sources, clips = set(), 0
    by_bucket: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    for source, split, bucket, verdict in rows:
        sources.add(source)
        if verdict == KEPT and split in recipe.curation.precompute.splits:
            clips += 1
            by_bucket.update(bucket.split())
            trained.update(bucket.split() if split == "train" else ())
    factor = 1.0 if wanted is None or not clips else wanted / clips
    origin = f"clip table of {recipe.run_directory}"
    return ClipCounts(
        clips=clips if wanted is None else wanted,
        by_bucket={name: count * factor for name, count in by_bucket.items()},
        trained=trained,
        sources=round(len(sources) * factor),
        origin=origin if wanted is None else f"--clips, in the mixture of the {origin}",
    )


def curation_cost(recipe: Recipe, counts: ClipCounts, core_seconds_per_source: float) -> dict[str, Any]:
    """Bytes, core-hours and operations; what depends on a number that is not known is None."""
    buckets = {str(b): b for buckets in recipe.curation.tiers.values() for b in buckets}
    sizes = {name: clip_bytes(recipe, bucket) for name, bucket in buckets.items()}
    flop = {name: precompute_flop(recipe, bucket) for name, bucket in buckets.items()}
    known = counts.by_bucket
    clips = None if known is None else {name: known.get(name, 0) for name in buckets}

    def total(each: Mapping[str, int]) -> int | None:
        return None if clips is None else round(sum(clips[name] * each[name] for name in buckets))

    return {
        "clips": counts.clips,
        "sources": counts.sources,
        "counted_from": counts.origin,
        "buckets": {
            name: {
                "clips": None if clips is None else round(clips[name]),
                "clip_bytes": sizes[name],
                "clip_flop": flop[name],
            }
            for name in buckets
        },
        "bytes": total(sizes),
        "core_hours": None if counts.sources is None else counts.sources * core_seconds_per_source / 3600,
        "precompute_flop": total(flop),
    }


def precompute_flop(recipe: Recipe, bucket: Bucket) -> int:
    """Operations of the VAE's encoder on every frame of a clip, and of CLIP on its first."""
    from diffusers import AutoencoderKL
    from transformers import CLIPConfig, CLIPVisionModelWithProjection

    vae_config = AutoencoderKL.load_config(resolve_model(recipe.models.text_to_image) / "vae")
    vision = CLIPConfig.from_pretrained(resolve_model(recipe.models.image_encoder)).vision_config
    with torch.no_grad(), counted_in_full(), torch.random.fork_rng(devices=[]):
        vae = AutoencoderKL.from_config(vae_config)
        clip = CLIPVisionModelWithProjection(vision)
        frame = torch.zeros(1, vae.config.in_channels, bucket.height, bucket.width)
        pixels = torch.zeros(1, vision.num_channels, vision.image_size, vision.image_size)
        return bucket.frames * count_flop(lambda: vae.encode(frame)) + count_flop(lambda: clip(pixels))
