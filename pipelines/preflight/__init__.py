"""Preflight: what would stop a recipe half way is looked for before anything starts, and all said at once."""

from collections.abc import Iterator

from pipelines.node_types import reachable_cluster
from pipelines.preflight.data import data_faults
from pipelines.preflight.evaluation import evaluation_faults
from pipelines.preflight.machine import memory_faults
from pipelines.preflight.models import configuration_faults, model_faults
from pipelines.preflight.networks import bucket_faults, network_faults, prediction_faults, start_faults
from pipelines.preflight.place import directory_faults, disk_faults, tracking_faults
from pipelines.recipe import Recipe, RecipeError
from pipelines.schedulable import schedule_faults

STEPS = ("curate", "train", "evaluate")

Faults = Iterator[str]


class PreflightError(RecipeError):
    """A recipe that would fail on the way; `faults` holds every one, each with its mend."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        many = f"{len(faults)} things stand" if len(faults) > 1 else "one thing stands"
        super().__init__(
            f"{many} in the way of this recipe:\n" + "\n".join(f"  - {fault}" for fault in faults)
        )


def preflight(recipe: Recipe, steps: tuple[str, ...] = STEPS) -> None:
    """Check everything that `steps` will need; raises PreflightError with all faults at once."""
    faults = list(find_faults(recipe, steps))
    if faults:
        raise PreflightError(faults)


def find_faults(recipe: Recipe, steps: tuple[str, ...] = STEPS) -> Faults:
    """Every fault as `where: what; mend`. Reads configurations and the table, no network and no video."""
    models = list(model_faults(recipe, steps))
    yield from models
    if "train" in steps and not models:
        networks = list(network_faults(recipe))
        yield from networks or memory_faults(recipe)
        yield from start_faults(recipe)
        yield from prediction_faults(recipe)
    if "curate" in steps:
        yield from data_faults(recipe, steps)
    if "evaluate" in steps and recipe.evaluate is not None:
        yield from evaluation_faults(recipe, tables="curate" in steps)
    yield from bucket_faults(recipe)
    yield from directory_faults(recipe)
    yield from disk_faults(recipe, steps)
    yield from schedule_faults(recipe, steps, reachable_cluster())
    yield from tracking_faults(recipe, steps)


def plan_faults(recipe: Recipe) -> Faults:
    """What stands in the way of a plan, which reads configurations only: no weights, no table, no machine."""
    models = list(configuration_faults(recipe))
    yield from models
    if not models:
        yield from network_faults(recipe)
    yield from bucket_faults(recipe)
