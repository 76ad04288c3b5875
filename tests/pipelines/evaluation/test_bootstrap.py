"""Intervals beside metrics: seeded, about as wide as theory says, around their value."""

import numpy as np
import pytest

from pipelines.evaluation.bootstrap import (
    frechet_interval,
    inception_interval,
    mean_interval,
    ratio_interval,
    share_interval,
)
from pipelines.evaluation.metrics import GaussianStatistics, inception_score, wilson_interval


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return (
        GaussianStatistics(one.shape[1]).update(one).distance(GaussianStatistics(one.shape[1]).update(other))
    )


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says(rng: np.random.Generator) -> None:
    values = rng.normal(5, 2, 400)
    error = values.std(ddof=1) / 20
    low, high = mean_interval(values, seed=0)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


def test_intervals_are_the_same_for_the_same_seed_and_others_for_another(rng: np.random.Generator) -> None:
    values = rng.normal(0, 1, 50)
    assert mean_interval(values, seed=3) == mean_interval(values.tolist(), seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_objects_that_fail_together_are_not_counted_as_independent(rng: np.random.Generator) -> None:
    together = np.repeat(rng.random(60) < 0.5, 1) * 4.0  # all four objects of a clip, or none
    alone = rng.binomial(4, 0.5, 60).astype(float)
    objects = np.full(60, 4.0)
    wide, narrow = (np.ptp(ratio_interval(right, objects, seed=0)) for right in (together, alone))
    assert wide > 1.6 * narrow


def test_where_all_clips_agree_a_share_has_wilson_s_interval() -> None:
    assert share_interval([True] * 20, seed=0) == wilson_interval(20, 20)
    assert share_interval([False] * 20, seed=0) == wilson_interval(0, 20)
    low, high = share_interval([True, False] * 50, seed=0)
    assert (low, high) == pytest.approx((0.4, 0.6), abs=0.02)


def test_the_interval_of_a_frechet_distance_lies_around_it_and_narrows_with_clips(
    rng: np.random.Generator,
) -> None:
    widths = []
    for clips in (50, 800):
        one, other = rng.normal(0, 1, (clips, 4)), rng.normal(1, 1.5, (clips, 4))
        low, high = frechet_interval(one, other, seed=0, paired=False)
        assert low < distance(one, other) < high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


def test_a_frechet_distance_of_pairs_is_surer_than_of_strangers(rng: np.random.Generator) -> None:
    one = rng.normal(0, 3, (200, 4))
    other = one + rng.normal(0.5, 0.1, one.shape)
    paired, strangers = (np.ptp(frechet_interval(one, other, 0, paired=paired)) for paired in (True, False))
    assert paired < 0.5 * strangers
    low, _ = frechet_interval(one, one, 0, paired=False)
    assert low == 0  # no distance is negative


def test_the_interval_of_an_inception_score_lies_around_it_and_narrows_with_clips(
    rng: np.random.Generator,
) -> None:
    widths = []
    for clips in (100, 3000):
        table = rng.dirichlet(np.full(6, 0.3), clips)
        low, high = inception_interval(table, 2, seed=0)
        assert 1 <= low < inception_score(table, 2) < high < 6
        widths.append(high - low)
    assert widths[1] < 0.4 * widths[0]
