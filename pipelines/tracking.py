"""MLflow as training and evaluation use it: where a recipe's runs are, and what goes into them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.layout import RunLayout
from pipelines.lock import hold
from pipelines.recipe import Recipe
from pipelines.secrets import with_variables

PARAMS_PER_REQUEST = 100  # MLflow takes no more
PARAM_CHARACTERS = 6000
SQLITE = "sqlite:///"
OPENING_SECONDS = 120.0  # for others to make the tables: 5 s each on a busy machine


def tracking_uri(recipe: Recipe) -> str:
    """Where a recipe's runs are kept: its own setting, as it is written, or SQLite in the run directory."""
    if recipe.tracking.uri:
        return recipe.tracking.uri
    return f"{SQLITE}{RunLayout.of(recipe).mlflow.absolute()}"


def open_experiment(recipe: Recipe) -> tuple[Any, str]:
    """(MlflowClient, id of the recipe's experiment), made if it is not there."""
    from mlflow import MlflowClient

    uri = with_variables(tracking_uri(recipe))
    name = recipe.tracking.experiment
    with _opening(uri):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(name)
        if found is not None:
            return client, found.experiment_id
        # A local store would otherwise keep artifacts wherever the command happens to be started.
        root = RunLayout.of(recipe).root.absolute() / "mlflow_artifacts"
        location = root.as_uri() if uri.startswith(SQLITE) else None
        return client, client.create_experiment(name, artifact_location=location)


@contextmanager
def _opening(uri: str) -> Iterator[None]:
    """One process at a time opens a local store: two that make its tables at once fail, and spoil it."""
    if not uri.startswith(SQLITE):
        yield
        return
    file = Path(uri.removeprefix(SQLITE))
    with hold(file.with_name(f".{file.name}.lock"), wait_seconds=OPENING_SECONDS):
        yield


def log_params(client: Any, run_id: str, params: dict[str, Any]) -> None:
    """Log any number of parameters."""
    from mlflow.entities import Param

    entities = [Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in params.items()]
    for first in range(0, len(entities), PARAMS_PER_REQUEST):
        client.log_batch(run_id, params=entities[first : first + PARAMS_PER_REQUEST])


def recipe_params(recipe: Recipe) -> dict[str, Any]:
    """A recipe's settings as parameters, but for the store's address, which may hold a password."""
    return flat(recipe.model_dump(mode="json", exclude={"tracking": {"uri"}}))


def flat(tree: Any, where: str = "") -> dict[str, Any]:
    """{"train.stages.0.name": "low", …}."""
    if isinstance(tree, dict) and tree:
        items = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        items = {str(i): item for i, item in enumerate(tree)}.items()
    else:
        return {where: tree}
    return {
        path: leaf
        for key, value in items
        for path, leaf in flat(value, f"{where}.{key}" if where else key).items()
    }
