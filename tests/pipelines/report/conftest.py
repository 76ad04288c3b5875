"""A small run of real curation for the tests of its page."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.recipe import Recipe
from pipelines.workflow import run_recipe
from tests.curation_input import EMBEDDED_MODELS, curation_recipe, write_rows

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
    return write_rows(folder / "table.csv", rows)


@pytest.fixture(scope="session")
def recipe_for(table: Path) -> Callable[..., Recipe]:
    def make(run_directory: Path, **filters: Any) -> Recipe:
        return curation_recipe(
            run_directory,
            table,
            EMBEDDED_MODELS,
            name="small <run>",
            columns={"split": "split"},
            units=3,
            shots={"detector": "none"},
            filters=FILTERS | filters,
            precompute={"splits": ["train"]},
        )

    return make


@pytest.fixture(scope="session")
def run(recipe_for: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run directory after `dreamer curate`."""
    recipe = recipe_for(tmp_path_factory.mktemp("report_run"))
    run_recipe(recipe, ("curate",))
    return recipe
