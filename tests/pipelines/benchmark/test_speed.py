"""Curation against its kernels: both find the same, and every figure is there."""

from pathlib import Path

import pytest

from pipelines.benchmark.speed import PRECOMPUTE_KERNELS, SCORE_KERNELS, measure_curation
from pipelines.recipe_file import load_recipe


@pytest.mark.usefixtures("ray")
def test_the_bare_kernels_find_what_the_pipeline_finds(sprites: Path, tmp_path: Path) -> None:
    table, run = sprites / "sprites.csv", tmp_path / "run"
    unfiltered = "curation.filters={max_text_area: 0.9}"
    clip = "curation.image_scores.clip=embedded://clip"
    overrides = (f"data.table={table}", f"run_directory={run}", "data.limit=2", unfiltered, clip)
    measured = measure_curation(load_recipe("stock", overrides), copies=1)
    assert measured["sources"] == 2
    assert measured["alike"] == {
        "sources whose shots begin at the bare cuts": "2 of 2",
        "largest difference of a latent": "0.0000",
    }
    assert set(measured["kernels"]) == {*SCORE_KERNELS, *PRECOMPUTE_KERNELS}
    assert all(seconds > 0 for seconds in measured["kernels"].values())
    assert not run.exists()  # it measures in a folder of its own
