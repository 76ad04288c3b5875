"""The recipes of an ablation: one for each arm and seed, in run directories of their own."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.layout import RunLayout
from pipelines.recipe import AblateSettings, Arm, Recipe, RecipeError, TrackingSettings
from pipelines.recipe.ablation import BASE_ARM
from pipelines.recipe_file import with_overrides
from pipelines.tracking import tracking_uri


@dataclass(frozen=True)
class ArmRun:
    """One arm with one seed, as a recipe of its own."""

    arm: str
    seed: int
    recipe: Recipe

    @property
    def layout(self) -> RunLayout:
        return RunLayout.of(self.recipe)

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}"


def ablate_settings(recipe: Recipe) -> AblateSettings:
    if recipe.ablate is None:
        raise RecipeError("the recipe has no section `ablate`: name its metrics and arms")
    if recipe.train is None or recipe.evaluate is None:
        raise RecipeError(
            "an ablation trains and evaluates: the recipe needs sections `train` and `evaluate`"
        )
    return recipe.ablate


def all_arms(recipe: Recipe) -> dict[str, Arm | None]:
    """Arms by name, the recipe as it is first."""
    return {BASE_ARM: None, **ablate_settings(recipe).arms}


def arm_runs(recipe: Recipe, seeds: int, names: tuple[str, ...] = ()) -> list[ArmRun]:
    """All arms with the first seed, then all with the second, …: a table that grows by whole rows of seeds.

    names: of the arms to run; none: all. The recipe as it is, which they are compared with, is always among
    them. Raises RecipeError with every arm that is not known or gives no valid recipe.
    """
    arms = all_arms(recipe)
    if unknown := sorted(set(names) - set(arms)):
        raise RecipeError(f"no arm {', '.join(unknown)}: the recipe has {', '.join(arms)}")
    chosen = [name for name in arms if not names or name in names or name == BASE_ARM]
    faults, runs = [], []
    for seed in range(recipe.seed, recipe.seed + seeds):
        for name in chosen:
            try:
                runs.append(ArmRun(name, seed, _arm_recipe(recipe, name, arms[name], seed)))
            except RecipeError as error:
                faults.append(f"ablate.arms.{name}: {error}")
    if faults:
        raise RecipeError("\n".join(dict.fromkeys(faults)))
    return runs


def _arm_recipe(recipe: Recipe, name: str, arm: Arm | None, seed: int) -> Recipe:
    folder = ablation_folder(recipe) / name / f"seed-{seed}"
    plain = recipe.model_copy(
        update={
            "name": f"{recipe.name}-{name}-{seed}",
            "run_directory": str(folder),
            "seed": seed,
            "ablate": None,
            # All arms and seeds side by side in one experiment of the ablation's own store.
            "tracking": TrackingSettings(uri=tracking_uri(recipe), experiment=f"{recipe.name}: ablation"),
        }
    )
    return with_overrides(plain, arm.settings if arm else ())


def ablation_folder(recipe: Recipe) -> Path:
    return RunLayout.of(recipe).root / "ablate"
