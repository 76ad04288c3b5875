"""Source tables, and recipes that curate them, for the tests of several rooms."""

import csv
from pathlib import Path
from typing import Any

from pipelines.recipe import Recipe

EMBEDDED_MODELS = {
    "text_to_image": "embedded://stable_diffusion",
    "image_encoder": "embedded://clip",
    "motion_encoder": "embedded://motion_encoder",
}


def source_row(name: str, caption: str = "x", **more: str) -> dict[str, str]:
    """A row of a source table, for the file `{name}.mp4`; `more` adds columns, or replaces these."""
    return {"videoid": name, "contentUrl": f"{name}.mp4", "name": caption} | more


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV table with the columns of its first row."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def curation_recipe(
    run_directory: Path,
    table: Path,
    models: dict[str, str],
    *,
    name: str = "test",
    columns: dict[str, str] | None = None,
    data: dict[str, Any] | None = None,
    **curation: Any,
) -> Recipe:
    """A recipe whose one bucket is 8x32x32, unless `curation` says otherwise."""
    return Recipe.model_validate(
        {
            "name": name,
            "run_directory": str(run_directory),
            "data": {"table": str(table), "columns": columns or {}, **(data or {})},
            "curation": {"tiers": {"low": ["8x32x32"]}, **curation},
            "models": models,
        }
    )
