import math

import numpy as np
import pytest

from pipelines.evaluation.metrics import (
    GaussianStatistics,
    dynamic_degree,
    flow_score,
    frame_consistency,
    frechet_distance,
    image_repetition,
    inception_score,
    leakage,
    motion_strength,
    prompt_consistency,
    psnr_db,
    ssim,
    warping_error,
    wilson_interval,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def covariance(rng: np.random.Generator, size: int) -> np.ndarray:
    root = rng.standard_normal((size, size))
    return root @ root.T / size


def test_frechet_distance_of_one_dimensional_gaussians() -> None:
    # (μ₁ − μ₂)² + (σ₁ − σ₂)²
    found = frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([-2.0]), np.array([[25.0]]))
    assert found == pytest.approx(9 + 9, abs=1e-12)


def test_frechet_distance_of_covariances_that_commute(rng: np.random.Generator) -> None:
    turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    a, b = rng.uniform(0, 3, 5), rng.uniform(0, 3, 5)
    mean = rng.standard_normal(5)
    found = frechet_distance(mean, turn * a @ turn.T, mean + 1, turn * b @ turn.T)
    assert found == pytest.approx(5 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), abs=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute_agrees_with_the_matrix_root(
    rng: np.random.Generator,
) -> None:
    from scipy.linalg import sqrtm

    a, b = covariance(rng, 6), covariance(rng, 6)
    expected = np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(np.zeros(6), a, np.zeros(6), b) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_is_symmetric_and_zero_to_itself_even_when_singular(
    rng: np.random.Generator,
) -> None:
    samples = rng.standard_normal((4, 9))  # rank 3 in 9 dimensions
    part = GaussianStatistics(9).update(samples)
    other = GaussianStatistics(9).update(samples + rng.standard_normal((4, 9)))
    assert part.distance(part) == pytest.approx(0, abs=1e-6)
    assert part.distance(other) == pytest.approx(other.distance(part), rel=1e-6)


def test_frechet_distance_refuses_sizes_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="must match"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))


def test_statistics_of_parts_are_the_statistics_of_the_whole_in_any_order(rng: np.random.Generator) -> None:
    features = rng.standard_normal((100, 7)) * 3 + 50
    parts = [GaussianStatistics(7).update(part) for part in np.split(features, [1, 30, 31, 77])]
    merged = GaussianStatistics(7)
    for number in rng.permutation(len(parts)):
        merged.merge(parts[number])
    assert merged.count == 100
    np.testing.assert_allclose(merged.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(features.T), rtol=1e-10)


def test_inception_score_of_known_tables() -> None:
    assert inception_score(np.full((20, 4), 0.25), splits=2) == pytest.approx(1)
    assert inception_score(np.tile(np.eye(4), (5, 1)), splits=5) == pytest.approx(4)
    # Two classes at 3:1, every sample certain: exp of the entropy of the marginal.
    certain = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert inception_score(certain, splits=1) == pytest.approx(math.exp(entropy))


def test_inception_score_refuses_what_is_no_table_of_probabilities() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(np.ones((4, 3)), splits=2)
    with pytest.raises(ValueError, match="splits=10"):
        inception_score(np.full((4, 2), 0.5))


def test_psnr_of_a_known_error() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr_db(black, grey) == pytest.approx(20 * math.log10(5))
    assert psnr_db(black, black) == 100


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    noisy = [
        np.clip(picture + rng.normal(0, spread, picture.shape), 0, 255).astype(np.uint8) for spread in (9, 60)
    ]
    assert ssim(picture, picture) == pytest.approx(1)
    assert 1 > ssim(noisy[0], picture) > ssim(noisy[1], picture) > 0
    # Flat pictures: (2ab + c) / (a² + b² + c) with c = 0.01².
    black, grey = np.zeros((24, 24, 3), np.uint8), np.full((24, 24, 3), 51, np.uint8)
    assert ssim(black, grey) == pytest.approx(0.0001 / (0.04 + 0.0001))


def test_consistency_is_the_cosine_of_neighbours_and_of_the_prompt() -> None:
    features = np.array([[1.0, 0], [3, 0], [0, 2]])
    assert frame_consistency(features) == pytest.approx(0.5)
    assert frame_consistency(features[[0, 2, 1]]) == 0  # another order of frames is worse
    assert prompt_consistency(features, np.array([0.0, 7])) == pytest.approx(1 / 3)


def test_frozen_videos_have_no_motion_and_perfect_consistency() -> None:
    flow = np.zeros((7, 32, 32, 2))
    assert motion_strength(flow, fps=8) == 0
    assert dynamic_degree([0.0, 0.0, 0.3], threshold=0.1) == pytest.approx(1 / 3)
    assert frame_consistency(np.ones((8, 5))) == pytest.approx(1)


def test_motion_strength_is_the_speed_of_the_fastest_pixels() -> None:
    flow = np.zeros((4, 20, 20, 2))
    flow[:, :5, :4] = (3, 4)  # 5 % of the pixels move 5 pixels a frame
    assert motion_strength(flow, fps=8) == pytest.approx(5 * 8 / 20)


def test_wilson_interval_against_published_values() -> None:
    # Newcombe (1998), table I: 81 of 263, 0 of 20, 1 of 29.
    for (right, of), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(right, of) == pytest.approx((low, high), abs=1e-4)
    assert wilson_interval(20, 20)[1] == 1
    with pytest.raises(ValueError):
        wilson_interval(3, 2)


def test_flow_score_is_the_mean_speed_of_all_pixels() -> None:
    flow = np.zeros((4, 20, 30, 2))
    flow[:, :10] = (3, 4)  # half of the pixels move 5 pixels a frame
    assert flow_score(flow, fps=8) == pytest.approx(2.5 * 8 / 20)
    assert flow_score(flow[:0], fps=8) == 0


def test_warping_error_is_zero_for_the_true_flow_and_the_squared_difference_without_one(
    rng: np.random.Generator,
) -> None:
    wide = rng.integers(0, 256, (16, 40, 3)).astype(np.uint8)
    frames = np.stack([wide[:, shift : shift + 24] for shift in (6, 4, 2)])  # everything moves 2 to the right
    flow = np.broadcast_to(np.array([2.0, 0.0]), (2, 16, 24, 2))
    valid = np.ones((2, 16, 24), bool)
    valid[:, :, -2:] = False  # what leaves the frame
    assert warping_error(frames, flow, valid) == pytest.approx(0, abs=1e-10)
    still = ((frames[1:] / 255.0 - frames[:-1] / 255.0) ** 2).mean()
    everywhere = np.ones_like(valid)
    assert warping_error(frames, np.zeros_like(flow), everywhere) == pytest.approx(still, rel=1e-4)
    assert warping_error(frames, flow, everywhere) > 0  # the edge that left counts, unless it is masked
    assert warping_error(frames, flow, ~everywhere) is None


def test_image_repetition_is_the_likeness_of_later_frames_to_the_image(rng: np.random.Generator) -> None:
    image, other = rng.integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    assert image_repetition(np.stack([other, image, image]), image) == pytest.approx(1)
    half = image_repetition(np.stack([image, image, other]), image)
    assert half == pytest.approx((1 + ssim(other, image)) / 2, abs=1e-4)


def test_leakage_counts_only_videos_that_were_asked_to_move() -> None:
    assert leakage([True, True, True, False], [0.0, 0.2, 0.05, 0.0], threshold=0.05) == pytest.approx(2 / 3)
    assert leakage([False], [0.0], threshold=0.05) is None
