"""An ablation's arms: recipes that differ from the base in what they name, and in nothing else."""

import pytest

from pipelines.ablation.arms import arm_runs
from pipelines.recipe import Recipe, RecipeError
from pipelines.recipe_file import load_recipe
from pipelines.tracking import flat, tracking_uri
from pipelines.training.stage import check_networks

OF_EVERY_RUN = {"name", "run_directory", "seed", "ablate", "tracking.uri", "tracking.experiment"}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("ablation")


def settings_of(recipe: Recipe) -> dict[str, object]:
    return flat(recipe.model_dump(mode="json", exclude={"ablate"}))


def test_an_arm_differs_from_the_base_in_its_own_settings_alone(recipe: Recipe) -> None:
    runs = {run.arm: run.recipe for run in arm_runs(recipe, 1)}
    base = settings_of(runs["full"])
    differing = {
        arm: {
            key
            for key, value in settings_of(of_arm).items()
            if base[key] != value and key not in OF_EVERY_RUN
        }
        for arm, of_arm in runs.items()
    }
    assert differing["full"] == set()
    assert differing["no_paca"] == {"model.pixel_attention"}
    assert differing["clip_motion"] == {"models.motion_encoder"}
    assert differing["shift_only"] == {f"train.stages.{i}.schedule.terminal_snr" for i in (0, 1)}
    assert len(differing) == 1 + len(recipe.ablate.arms)


@pytest.mark.parametrize("name", ["ablation", "conditions", "limited_data"])
def test_every_arm_of_a_shipped_ablation_has_a_network_that_can_be_trained(name: str) -> None:
    runs = arm_runs(load_recipe(name), 1)
    assert len(runs) > 4
    for run in runs:
        check_networks(run.recipe)  # raises
        assert "*" in run.recipe.train.stages[-1].trainable


def test_all_arms_have_a_seed_before_any_has_the_next_and_share_one_experiment(recipe: Recipe) -> None:
    runs = arm_runs(recipe, 2, ("no_paca",))
    assert [(run.arm, run.seed, run.recipe.seed) for run in runs] == [
        ("full", 0, 0),
        ("no_paca", 0, 0),
        ("full", 1, 1),
        ("no_paca", 1, 1),
    ]
    assert {tracking_uri(run.recipe) for run in runs} == {tracking_uri(recipe)}
    assert {run.recipe.tracking.experiment for run in runs} == {"ablation: ablation"}
    assert len({run.recipe.run_directory for run in runs}) == 4


def test_an_arm_that_is_not_there_and_one_that_gives_no_recipe_are_refused(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="no arm no_pcaa: the recipe has full, plain_schedule"):
        arm_runs(recipe, 1, ("no_pcaa",))
    arms = dict(recipe.ablate.arms)
    arms["wrong"] = arms["no_paca"].model_copy(update={"settings": ("model.pixel_atention=false",)})
    wrong = recipe.model_copy(update={"ablate": recipe.ablate.model_copy(update={"arms": arms})})
    with pytest.raises(RecipeError, match=r"(?s)ablate\.arms\.wrong: .*did you mean 'pixel_attention'"):
        arm_runs(wrong, 1)
    with pytest.raises(RecipeError, match="no section `ablate`"):
        arm_runs(load_recipe("demo"), 1)
    with pytest.raises(RecipeError, match="needs sections `train` and `evaluate`"):
        arm_runs(recipe.model_copy(update={"evaluate": None}), 1)
