"""A recipe over SpriteWorld with random tiny models: all that an evaluation reads."""

import csv
import json
from pathlib import Path

import pyarrow as pa

from pipelines.curation.clip_table import SCHEMA, clip_id, clips_path, write_table
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe

BUCKET, FRAMES, FPS = "8x32x32", 8, 8


def recipe(
    run_directory: Path,
    table: Path,
    models: dict[str, str],
    *,
    bucket: str = BUCKET,
    fps: float = FPS,
    **evaluate: object,
) -> Recipe:
    tree = {
        "name": "test",
        "run_directory": str(run_directory),
        "seed": 3,
        "data": {"table": str(table), "columns": {"split": "split", "labels": ["sprites", "camera"]}},
        "curation": {
            "fps": fps,
            "tiers": {"low": [bucket]},
            "precompute": {"image_tokens": 4},
        },
        "models": models,
        "model": {
            "temporal_head_dim": 8,
            "adapter_tokens": 4,
            "adapter_width": 16,
            "adapter_depth": 1,
            "adapter_head_dim": 8,
            "pixel_attention_head_dim": 8,
            "predict_net_width": 8,
        },
        "train": {
            "global_batch_clips": 4,
            "stages": [{"name": "low", "tier": "low", "steps": 1, "learning_rate": 1e-3}],
        },
        "evaluate": {
            "tier": "low",
            "sets": [
                {"name": "held_out", "split": "held_out", "clips": 6},
                {"name": "two", "split": "held_out_two", "clips": 2},
            ],
            "untrained_clips": 2,
            "batch_clips": 4,
            "workers": 1,
            "cpus_per_worker": 0.5,
            "motion_labels": "sprites",
            "sampling": {"steps": 2, "guidance_scale_text": 2.0, "guidance_rescale": 0.0},
            **evaluate,
        },
    }
    return Recipe.model_validate(tree)


def write_clip_table(recipe: Recipe) -> None:
    """The rows that curation would leave for a sprites.csv."""
    rows = []
    with Path(recipe.data.table).open(newline="") as stream:
        for source in csv.DictReader(stream):
            labels = {"sprites": json.loads(source["sprites"]), "camera": source["camera"]}
            rows.append(
                dict.fromkeys(SCHEMA.names)
                | {
                    "clip_id": clip_id(source["videoid"], 0.0, FRAMES / FPS),
                    "source_id": source["videoid"],
                    "source_uri": source["contentUrl"],
                    "split": source["split"],
                    "labels": json.dumps(labels),
                    "caption": source["name"],
                    "appearance_caption": source["name"],
                    "motion_caption": "moves left",
                    "start_seconds": 0.0,
                    "end_seconds": FRAMES / FPS,
                    "bucket": str(recipe.curation.tiers["low"][0]),
                    "verdict": "kept",
                }
            )
    layout = RunLayout(Path(recipe.run_directory))
    write_table(clips_path(layout, 0), pa.Table.from_pylist(rows, SCHEMA))
