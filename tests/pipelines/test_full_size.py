"""Recipes whose models are too big for here: their configurations are enough."""

import re
from pathlib import Path

import pytest

from pipelines.models import resolve_model
from pipelines.preflight.machine import memory_faults, stage_bytes
from pipelines.preflight.networks import bucket_faults
from pipelines.recipe_file import load_recipe
from pipelines.training.stage import check_networks
from tests.full_size import write_configurations


@pytest.mark.parametrize("name", ["paper", "small_gpu"])
def test_recipes_for_gpus_fit_the_models_that_they_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_configurations(tmp_path)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(name)
    check_networks(recipe)
    assert list(bucket_faults(recipe)) == []


def test_a_missing_model_of_a_recipe_comes_with_the_command_that_fetches_it() -> None:
    with pytest.raises(
        FileNotFoundError, match="hf download google/flan-t5-xl --local-dir models/flan-t5-xl"
    ):
        resolve_model(load_recipe("paper").models.motion_encoder)


def test_networks_that_no_memory_here_holds_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_configurations(tmp_path)
    monkeypatch.chdir(tmp_path)
    # 64 workers of 1.5 G weights, their gradients and optimizer, and 1.6 G weights of frozen encoders.
    (first, *_) = memory_faults(load_recipe("paper", ("train.gpus_per_worker=0",)))
    assert re.match(
        r"train: stage new_parts holds [67]\d\d\.\d GB before any activation, this machine has", first
    )
    assert list(memory_faults(load_recipe("demo"))) == []
    recipe = load_recipe("small_gpu")
    assert recipe.train is not None
    held = stage_bytes(recipe, recipe.train)
    assert all(4e9 < each < 10e9 for each in held.values())  # on a GPU of 24 GB
