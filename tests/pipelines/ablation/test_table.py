"""The table of an ablation: mean and spread over seeds, differences paired by seed."""

import math

import pytest

from pipelines.ablation.table import ablation_table, paired_interval
from pipelines.recipe import AblateSettings, Arm

SETTINGS = AblateSettings(
    metrics={"accuracy": "higher", "distance": "lower"},
    arms={
        "without": Arm(title="without it", settings=("model.adapter=false",)),
        "waiting": Arm(title="not run yet", settings=("model.pixel_attention=false",)),
    },
)
VALUES = {
    "full": {0: {"accuracy": 0.8, "distance": 2.0}, 1: {"accuracy": 0.9}, 2: {"accuracy": 0.7}},
    "without": {0: {"accuracy": 0.7, "distance": 3.0}, 1: {"accuracy": 0.8}, 2: {"accuracy": 0.6}},
    "waiting": {},
}


def results(arm: str) -> dict:
    table = ablation_table(SETTINGS, VALUES, [0, 1, 2])
    return next(found["results"] for found in table["arms"] if found["name"] == arm)


def test_a_paired_difference_is_sure_where_the_arms_themselves_vary() -> None:
    full, without = results("full")["accuracy"], results("without")["accuracy"]
    assert full["mean"] == pytest.approx(0.8)
    assert full["deviation"] == pytest.approx(0.1)
    assert without["values"] == {"0": 0.7, "1": 0.8, "2": 0.6}
    assert without["difference"] == pytest.approx(-0.1)
    assert (without["low"], without["high"]) == pytest.approx((-0.1, -0.1))
    assert "difference" not in full


def test_what_has_one_seed_has_no_interval_and_what_has_none_is_not_there() -> None:
    distance = results("without")["distance"]
    assert distance["mean"] == 3.0
    assert distance["deviation"] is None
    assert "difference" not in distance
    assert results("waiting") == {}


def test_the_interval_is_students() -> None:
    # By hand: mean 2, deviation 1, t(0.975, 2) = 4.302653.
    assert paired_interval([1, 2, 3]) == pytest.approx(
        (2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3))
    )
    with pytest.raises(ValueError, match="at least 2"):
        paired_interval([1.0])
