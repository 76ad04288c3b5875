"""Preflight of what a run leaves: its directory, the room on its disk, where its metrics go."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.files import write_text
from pipelines.layout import RunLayout
from pipelines.model_shapes import clip_bytes
from pipelines.preflight.data import count_sources
from pipelines.preflight.models import weight_bytes
from pipelines.recipe import Recipe
from pipelines.secrets import missing_variables, with_variables
from pipelines.storage import storage_path

TRACKING_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
# A checkpoint holds fp32 weights, their average and Adam's two moments.
COPIES_PER_CHECKPOINT = 4
# Temporal modules, adapter and pixel attention beside the image UNet's own weights, generously.
VIDEO_UNET_GROWTH = 2.5
DISK_RESERVE_BYTES = 200 * 10**6

Faults = Iterator[str]


def directory_faults(recipe: Recipe) -> Faults:
    if "://" in recipe.run_directory:
        yield from _storage_faults(recipe.run_directory)
        return
    folder = Path(recipe.run_directory).absolute()
    existing = _existing(folder)
    if not existing.is_dir():
        yield f"run_directory: {existing} is a file; choose another with run_directory=FOLDER"
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f"run_directory: {existing} cannot be written to; choose another with run_directory=FOLDER"


def _storage_faults(place: str) -> Faults:
    try:
        probe = storage_path(place) / ".probe"
        write_text(probe, "")
        probe.unlink()
    except Exception as error:  # every kind of object storage has errors of its own
        yield (
            f"run_directory: {place} cannot be written to ({type(error).__name__}: {error}): is the bucket "
            "there, and are the credentials (for S3 AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …) set here?"
        )


def disk_faults(recipe: Recipe, steps: tuple[str, ...]) -> Faults:
    if "://" in recipe.run_directory:
        return
    existing = _existing(Path(recipe.run_directory).absolute())
    is_run = RunLayout(existing).recipe.is_file()
    already = sum(file.stat().st_size for file in existing.rglob("*") if file.is_file()) if is_run else 0
    needed, free = run_bytes(recipe, steps) - already, shutil.disk_usage(existing).free
    if needed > free:
        yield (
            f"run_directory: {existing} has {free / 1e9:.1f} GB free, this recipe needs about "
            f"{needed / 1e9:.1f} GB more; choose another disk with run_directory=FOLDER, or fewer sources "
            "with data.limit=N"
        )


def run_bytes(recipe: Recipe, steps: tuple[str, ...]) -> int:
    """About how much a run leaves: shards, as if every source gave all its clips, checkpoints and models."""
    total = DISK_RESERVE_BYTES
    if "curate" in steps:
        clips = count_sources(recipe.data) * recipe.curation.shots.clips_per_shot
        # A clip goes into one bucket of each tier: the largest is the most it can take.
        total += clips * sum(
            max(clip_bytes(recipe, bucket) for bucket in buckets)
            for buckets in recipe.curation.tiers.values()
        )
    if "train" in steps and recipe.train is not None:
        copies = recipe.train.keep_checkpoints + 1  # the new one is written before the oldest goes
        weights = VIDEO_UNET_GROWTH * weight_bytes(recipe.models.start_unet, "unet")
        frozen = weight_bytes(recipe.models.text_to_image, "") + weight_bytes(
            recipe.models.motion_encoder, ""
        )
        for _ in recipe.train.stages:
            total += int(weights * (copies * COPIES_PER_CHECKPOINT + 1) + frozen)
    return total


def tracking_faults(recipe: Recipe, steps: tuple[str, ...]) -> Faults:
    uri = recipe.tracking.uri
    if not {"train", "evaluate"} & set(steps):
        return
    if uri is None:
        if "://" in recipe.run_directory:
            yield (
                "tracking.uri: MLflow's own SQLite file cannot lie on object storage; give the server of the "
                "cluster, tracking.uri=http://HOST:PORT"
            )
        return
    if missing := missing_variables(uri):
        yield f"tracking.uri: {', '.join(missing)} is not set; export it, and hand it on to a job with --env"
        return
    scheme = urlsplit(with_variables(uri)).scheme.split("+")[0]
    if scheme not in TRACKING_SCHEMES:
        yield (
            f"tracking.uri: {uri!r} is no store that MLflow takes (it refuses plain folders); "
            "write tracking.uri=sqlite:///FILE.db or http://HOST:PORT; left out: SQLite in the run directory"
        )


def _existing(folder: Path) -> Path:
    """The nearest ancestor that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
