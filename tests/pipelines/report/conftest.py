"""A small run of real curation for the tests of its page."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster import start_ray
from pipelines.curation.run import curate
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from pipelines.workflow import run_recipe, write_recipe

HOSTILE = '<script>alert("caption")</script> A red star <img src=x onerror=alert(1)> slides to the left'
FILTERS = {"min_motion": 0.2, "max_static": 0.5, "max_luminance": 150, "max_phash_distance": 2}


@pytest.fixture(scope="session")
def table(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of SpriteWorld, one of them with a hostile caption and one twice, and rows of bad files."""
    folder = tmp_path_factory.mktemp("report_table")
    with (sprites / "sprites.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = [*rows[:10], *[row for row in rows if row["split"] != "train"][:4]]
    for row in rows:
        shutil.copy(sprites / row["contentUrl"], folder / Path(row["contentUrl"]).name)
        row["contentUrl"] = Path(row["contentUrl"]).name
    rows[0]["name"] = HOSTILE
    shutil.copy(folder / rows[1]["contentUrl"], folder / "copy.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    for name in ("copy.mp4", "empty.mp4", "text.mp4", "gone.mp4"):
        rows.append(rows[1] | {"videoid": name.removesuffix(".mp4"), "contentUrl": name})
    path = folder / "table.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def recipe_for(table: Path) -> Callable[..., Recipe]:
    def make(run_directory: Path, **filters: Any) -> Recipe:
        return Recipe.model_validate(
            {
                "name": "small <run>",
                "run_directory": str(run_directory),
                "data": {"table": str(table), "columns": {"split": "split"}},
                "curation": {
                    "units": 3,
                    "tiers": {"low": ["8x32x32"]},
                    "shots": {"detector": "none"},
                    "filters": FILTERS | filters,
                    "precompute": {"splits": ["train"]},
                },
                "models": {
                    "text_to_image": "embedded://stable_diffusion",
                    "image_encoder": "embedded://clip",
                    "motion_encoder": "embedded://motion_encoder",
                },
            }
        )

    return make


@pytest.fixture(scope="session")
def run(recipe_for: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run directory after `dreamer curate`."""
    recipe = recipe_for(tmp_path_factory.mktemp("report_run"))
    run_recipe(recipe, ("curate",))
    return recipe


@pytest.fixture(scope="session")
def kept_nothing(recipe_for: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run directory that curation refused to go on with, because its filters let nothing pass."""
    from pipelines.curation.verdicts import CurationError

    recipe = recipe_for(tmp_path_factory.mktemp("report_nothing"), min_sharpness=1e9)
    write_recipe(recipe, RunLayout(Path(recipe.run_directory)))
    with start_ray(), pytest.raises(CurationError):
        curate(recipe)
    return recipe
