"""Strengths, intervals and agreement against closed forms and published examples."""

import math

import numpy as np
import pytest

from pipelines.study.agreement import agreement_share, krippendorff_alpha
from pipelines.study.bradley_terry import Comparisons, standings, strengths


def comparisons(rows: list[tuple[int, int, float, int, int]]) -> Comparisons:
    one, other, score, rater, clip = (np.array(column) for column in zip(*rows, strict=True))
    return Comparisons(one.astype(int), other.astype(int), score.astype(float), rater, clip)


def votes_of_two_runs(better: float, *, raters: int, clips: int, seed: int = 0) -> Comparisons:
    """Votes in which run 0 wins with probability `better`."""
    rng = np.random.default_rng(seed)
    return comparisons(
        [(0, 1, float(rng.random() < better), r, c) for r in range(raters) for c in range(clips)]
    )


@pytest.mark.parametrize(("won", "lost"), [(30, 10), (7, 7), (1, 99)])
def test_of_two_runs_the_difference_is_the_log_of_the_odds(won: int, lost: int):
    found = strengths(np.array([[0.0, won], [lost, 0.0]]), prior_wins=0)
    assert found[0] - found[1] == pytest.approx(math.log(won / lost))
    assert found.sum() == pytest.approx(0)


def test_three_runs_that_meet_as_the_model_says_get_its_strengths():
    told = np.array([0.9, -0.2, -0.7])
    p = np.exp(told)
    expected_wins = 200 * p[:, None] / (p[:, None] + p) * (1 - np.eye(3))
    assert strengths(expected_wins, prior_wins=0) == pytest.approx(told, abs=1e-6)


def test_strengths_of_many_tables_at_once_are_those_of_each():
    tables = np.random.default_rng(0).integers(1, 20, (5, 4, 4)) * (1 - np.eye(4))
    assert strengths(tables) == pytest.approx(np.stack([strengths(table) for table in tables]), abs=1e-7)


def test_a_run_that_always_won_has_a_strength_of_its_own_only_with_prior_wins():
    wins = np.array([[0.0, 10.0], [0.0, 0.0]])
    found = strengths(wins)
    assert found[0] - found[1] == pytest.approx(math.log(10.5 / 0.5))
    with pytest.raises(ArithmeticError, match="add prior wins"):
        strengths(wins, prior_wins=0)


def test_a_tie_is_half_a_win_for_each():
    ties = comparisons([(0, 1, 0.5, 1, 0), (0, 1, 0.5, 1, 1), (1, 0, 0.0, 2, 0), (0, 1, 0.0, 2, 1)])
    first, second = standings(ties, 2)
    assert (first.wins, first.ties, first.losses) == (1, 2, 1)
    assert first.win_rate.value == second.win_rate.value == 0.5
    assert first.strength.value == pytest.approx(0)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of studies with the same truth and independent votes; drawing raters and clips both is cautious."""
    held = 0
    for seed in range(60):
        votes = votes_of_two_runs(0.7, raters=8, clips=12, seed=seed)
        (low, high) = standings(votes, 2, resamples=200)[0].win_rate.interval or (1, 0)
        held += low <= 0.7 <= high
    assert held >= 55


def test_votes_of_one_rater_are_not_taken_for_votes_of_many():
    """Raters who each always prefer one side: what is known is six opinions, not six times forty votes."""
    rows = [(0, 1, float(rater % 2), rater, clip) for rater in range(6) for clip in range(40)]
    low, high = standings(comparisons(rows), 2)[0].win_rate.interval or (0.5, 0.5)
    assert high - low > 0.6  # of independent votes it would be 0.13


def test_votes_that_are_all_alike_have_no_interval():
    alike = comparisons([(0, 1, 1.0, rater, clip) for rater in range(3) for clip in range(5)])
    for standing in standings(alike, 2):
        assert standing.win_rate.interval is None
        assert standing.strength.interval is None


def test_intervals_are_the_same_every_time():
    votes = votes_of_two_runs(0.6, raters=4, clips=6)
    assert standings(votes, 2) == standings(votes, 2)


KRIPPENDORFF_2011 = (  # section C: four observers, twelve units, five values, 0 for none
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)


def test_alpha_is_that_of_the_published_example():
    data = np.array(KRIPPENDORFF_2011)
    counts = np.stack([(data == value).sum(0) for value in range(1, 6)], axis=1)
    assert krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)


def test_agreement_is_the_share_of_twos_of_raters():
    counts = np.array([[3, 0, 0], [2, 1, 0], [1, 0, 0]])
    assert agreement_share(counts) == pytest.approx((3 + 1) / 6)


def test_agreement_is_unknown_where_nothing_could_differ():
    alone = np.eye(3)
    assert krippendorff_alpha(alone) is None
    assert agreement_share(alone) is None
    assert krippendorff_alpha(np.array([[2, 0, 0], [3, 0, 0]])) is None
