"""Trainable patterns."""

import pytest
from torch import nn

from pipelines.training.parts import PartsError, select_trainable


@pytest.fixture
def model() -> nn.Module:
    return nn.ModuleDict({"image": nn.Linear(2, 2), "temporal": nn.Linear(2, 2), "flow": nn.Linear(2, 2)})


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_what_no_pattern_names_is_frozen(model: nn.Module) -> None:
    assert select_trainable(model, ["temporal.*", "flow.bias"]) == [
        "temporal.weight",
        "temporal.bias",
        "flow.bias",
    ]
    assert trained(model) == {"temporal.weight", "temporal.bias", "flow.bias"}


def test_parts_that_the_loss_does_not_reach_stay_frozen(model: nn.Module) -> None:
    select_trainable(model, ["*"], unreached=["flow.*"])
    assert trained(model) == {"image.weight", "image.bias", "temporal.weight", "temporal.bias"}


def test_what_stands_after_an_exclamation_mark_stays_frozen(model: nn.Module) -> None:
    select_trainable(model, ["*", "!image.*"])
    assert trained(model) == {"temporal.weight", "temporal.bias", "flow.weight", "flow.bias"}
    with pytest.raises(PartsError, match=r"'imagee\.\*' matches no parameter"):
        select_trainable(model, ["*", "!imagee.*"])


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_part(model: nn.Module) -> None:
    with pytest.raises(PartsError, match=r"'temporel\.\*' matches no parameter; did you mean 'temporal\.\*'"):
        select_trainable(model, ["*", "temporel.*"])


def test_nothing_left_to_train_is_an_error(model: nn.Module) -> None:
    with pytest.raises(PartsError, match="does not reach"):
        select_trainable(model, ["flow.*"], unreached=["flow.*"])
