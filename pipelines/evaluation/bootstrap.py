"""95 % intervals by resampling clips with replacement (Efron 1979), the same for the same seed.

Clips are drawn independently of each other; frames, objects and pixels of a clip are not, so the clip is what
is resampled.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pipelines.evaluation.metrics import (
    frechet_distance,
    inception_score,
    wasserstein_distance,
    wilson_interval,
)

RESAMPLES = 1000
SLOW_RESAMPLES = 200  # of distances and scores that take a while each
LOW, HIGH = 0.025, 0.975

Interval = tuple[float, float]


def mean_interval(values: Sequence[float] | np.ndarray, seed: int) -> Interval:
    """Of the mean of one value per clip: percentiles of the resampled means."""
    return ratio_interval(values, np.ones(len(values)), seed)


def ratio_interval(
    numerators: Sequence[float] | np.ndarray, denominators: Sequence[float] | np.ndarray, seed: int
) -> Interval:
    """Of Σ numerators / Σ denominators, such as right objects and objects of each clip."""
    counts = _counts(len(numerators), RESAMPLES, seed)  # (R, N)
    found = (counts @ np.asarray(numerators, float)) / (counts @ np.asarray(denominators, float))
    low, high = np.quantile(found, (LOW, HIGH))
    return float(low), float(high)


def share_interval(flags: Sequence[bool], seed: int) -> Interval:
    """Of a share of clips. Where all agree resampling knows no doubt: then it is Wilson's."""
    if all(flags) or not any(flags):
        return wilson_interval(sum(flags), len(flags))
    return mean_interval(flags, seed)


def frechet_interval(features_1: np.ndarray, features_2: np.ndarray, seed: int, *, paired: bool) -> Interval:
    """Of the Fréchet distance of features (N, D) and (M, D).

    A resample repeats clips, which makes every Fréchet distance greater: the percentiles are moved so that
    the mean of the resampled distances is the distance itself. What they tell is its spread; its own bias,
    which falls with N, stays. paired: row n of both is of one clip, and both are drawn together.
    """
    one, two = np.asarray(features_1, np.float64), np.asarray(features_2, np.float64)
    value = frechet_distance(*_gaussian(one), *_gaussian(two))
    first = _counts(len(one), SLOW_RESAMPLES, seed)
    second = first if paired else _counts(len(two), SLOW_RESAMPLES, seed + 1)
    found = [
        frechet_distance(*_gaussian(one, a), *_gaussian(two, b)) for a, b in zip(first, second, strict=True)
    ]
    low, high = _centred(value, found)
    return max(0.0, low), high


def wasserstein_interval(values: np.ndarray, others: np.ndarray, seed: int) -> Interval:
    """Of the earth mover's distance of two numbers (N,), (N,) of each clip, which are drawn together.

    Percentiles are moved as for Fréchet distances.
    """
    chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))  # (R, N)
    low, high = _centred(
        float(wasserstein_distance(values, others)), wasserstein_distance(values[chosen], others[chosen])
    )
    return max(0.0, low), high


def inception_interval(probabilities: np.ndarray, splits: int, seed: int) -> Interval:
    """Of `inception_score(probabilities, splits)`: clips are resampled within their split.

    Percentiles are moved as for Fréchet distances: fewer different clips make a marginal that is less even.
    """
    table = np.asarray(probabilities, np.float64)
    found = np.mean(
        [_split_scores(part, seed + n) for n, part in enumerate(np.array_split(table, splits))], 0
    )
    low, high = _centred(inception_score(table, splits), found)
    return max(1.0, low), high


def _split_scores(part: np.ndarray, seed: int) -> np.ndarray:
    """(R,) inception scores of resampled probabilities (N, K): exp of mean Σ p log p less Σ m log m."""
    shares = _counts(len(part), SLOW_RESAMPLES, seed) / len(part)  # (R, N)
    marginals = shares @ part  # (R, K)
    return np.exp(shares @ _plogp(part).sum(1) - _plogp(marginals).sum(1))


def _plogp(p: np.ndarray) -> np.ndarray:
    return p * np.log(np.maximum(p, np.finfo(np.float64).tiny))


@lru_cache(maxsize=4)
def _counts(clips: int, resamples: int, seed: int) -> np.ndarray:
    """(R, N) float64: how often each clip is in each resample of N clips."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clips, np.full(clips, 1 / clips), size=resamples).astype(np.float64)


def _gaussian(features: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), each taken `counts` times."""
    chosen = features if counts is None else np.repeat(features, counts.astype(np.intp), axis=0)
    mean = chosen.mean(0)
    centred = chosen - mean
    return mean, centred.T @ centred / (len(chosen) - 1)


def _centred(value: float, resampled: Sequence[float] | np.ndarray) -> Interval:
    found = np.asarray(resampled)
    low, high = np.quantile(found, (LOW, HIGH)) - found.mean() + value
    return float(low), float(high)
