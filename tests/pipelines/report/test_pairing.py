"""Differences over the same clips: as wide as the clips say, and only of what is a mean over them."""

import numpy as np
import pytest

from pipelines.report.pairing import clip_shares, paired_difference


def rows(name, values):
    return [{"set": "own", "clip_id": str(n), name: value} for n, value in enumerate(values)]


def shares(values):
    return {("own", str(n)): (value, 1) for n, value in enumerate(values)}


def test_pairing_takes_out_what_the_clips_have_in_common():
    generator = np.random.default_rng(1)
    clips = generator.normal(30, 5, 200)  # clips differ much more than the runs do
    found = paired_difference(shares(clips), shares(clips + generator.normal(0.5, 1, 200)))
    assert found.value == pytest.approx(0.5, abs=0.2)
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.15)
    assert found.is_clear
    assert found.clips == 200


def test_runs_that_differ_by_chance_are_not_told_apart():
    generator = np.random.default_rng(2)
    one, other = generator.normal(0, 1, (2, 100))
    assert not paired_difference(shares(one), shares(other)).is_clear


def test_only_clips_of_both_count_and_one_is_too_few():
    one, other = shares([1.0, 2.0, 3.0, 50.0]), shares([2.0, 3.0, 4.0])
    found = paired_difference(one, other)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert found.clips == 3
    assert paired_difference(one, shares([2.0])) is None


def test_a_share_of_objects_counts_every_object_of_a_clip():
    def clip(name, *seen):
        return {"set": "own", "clip_id": name, "objects": [{"asked": "left", "seen": each} for each in seen]}

    found = clip_shares(
        [clip("a", "left", "up"), clip("b", "left")], "motion_accuracy", {"value": 2 / 3}, 0.0
    )
    assert found == {("own", "a"): (1, 2), ("own", "b"): (1, 1)}
    whole = [clip("a", "left", "up"), clip("b", "left")]
    assert clip_shares(whole, "motion_accuracy_whole_clips", {"value": 0.5}, 0.0) is not None


def test_a_metric_that_is_no_mean_of_its_measures_is_not_paired():
    measured = rows("first_frame_psnr_db", [20.0, 30.0])
    assert clip_shares(measured, "first_frame_psnr_db", {"value": 25.0}, 0.0) is not None
    assert clip_shares(measured, "first_frame_psnr_db", {"value": 24.0}, 0.0) is None
    assert clip_shares(measured, "fvd", {"value": 25.0}, 0.0) is None
    assert clip_shares([], "first_frame_psnr_db", {"value": 25.0}, 0.0) is None
    strengths = rows("motion_strength", [0.1, 0.3])
    assert clip_shares(strengths, "dynamic_degree", {"value": 0.5}, 0.2) is not None
    assert clip_shares(strengths, "dynamic_degree", {"value": 0.5}, 0.5) is None
