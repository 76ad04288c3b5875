"""Recipes whose models are too big for here: their configurations are enough."""

from pathlib import Path

import pytest

from pipelines.models import resolve_model
from pipelines.preflight import bucket_faults
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
