from pathlib import Path

import pytest
import torch

from pipelines.evaluation.video_classifier import VideoClassifier
from pipelines.layout import RunLayout
from pipelines.recipe import Recipe
from tests.pipelines.evaluation import evaluation_world
from tests.pipelines.training import training_world


@pytest.fixture(scope="session")
def evaluation_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random tiny models in the formats of the big ones."""

    folder = tmp_path_factory.mktemp("evaluation_models")
    models = training_world.build_models(folder)
    torch.manual_seed(0)
    VideoClassifier(classes=("left", "right")).save_pretrained(folder / "video_classifier")
    return models | {"video_classifier": str(folder / "video_classifier")}


@pytest.fixture(scope="session")
def evaluation_recipe(
    tmp_path_factory: pytest.TempPathFactory, sprites: Path, evaluation_models: dict[str, str]
) -> Recipe:
    """A run directory with a clip table and a model whose added parts are at initialisation."""
    from pipelines.training.run import build_pipeline

    run = tmp_path_factory.mktemp("evaluation_run")
    recipe = evaluation_world.recipe(run, sprites / "sprites.csv", evaluation_models)
    evaluation_world.write_clip_table(recipe)
    build_pipeline(recipe).save_pretrained(run / "train" / "low" / "model")
    return recipe


@pytest.fixture
def run(evaluation_recipe: Recipe) -> Path:
    """A run directory as `dreamer run` leaves it."""
    layout = RunLayout(Path(evaluation_recipe.run_directory))
    layout.recipe.write_text(evaluation_recipe.model_dump_json())  # JSON is YAML
    return layout.root
