"""From the metrics of every arm and seed to one table: mean, spread, and paired difference to the base."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.recipe.ablation import BASE_ARM, AblateSettings

Values = Mapping[str, Mapping[int, Mapping[str, float]]]  # arm → seed → metric → value
CONFIDENCE = 0.95


def ablation_table(settings: AblateSettings, values: Values, seeds: Sequence[int]) -> dict[str, Any]:
    """What `ablation.json` holds.

    {"base", "seeds", "metrics": [{"name", "better"}], "arms": [{"name", "title", "changes",
    "results": {METRIC: {"values": {SEED: value}, "mean", "deviation", "difference", "low", "high"}}}]}.
    difference, low and high (95 %) are paired with the base by seed, and absent of the base and below two
    seeds; a metric that an arm has not got yet is absent.
    """
    arms: list[dict[str, Any]] = []
    for name in (BASE_ARM, *settings.arms):
        if name not in values:
            continue
        arm = settings.arms.get(name)
        arms.append(
            {
                "name": name,
                "title": arm.title if arm else "the recipe as it is",
                "changes": list(arm.settings) if arm else [],
                "results": {
                    metric: result
                    for metric in settings.metrics
                    if (result := _result(metric, values[name], values.get(BASE_ARM, {}), name))
                },
            }
        )
    return {
        "base": BASE_ARM,
        "seeds": list(seeds),
        "metrics": [{"name": name, "better": better} for name, better in settings.metrics.items()],
        "arms": arms,
    }


def paired_interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean of paired differences. Raises ValueError below two."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        raise ValueError(f"an interval needs at least 2 paired differences, not {count}")
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(count)
    reach = float(t.ppf((1 + confidence) / 2, count - 1) * error)
    return float(mean) - reach, float(mean) + reach


def _result(
    metric: str,
    of_arm: Mapping[int, Mapping[str, float]],
    of_base: Mapping[int, Mapping[str, float]],
    name: str,
) -> dict[str, Any]:
    mine = {seed: found[metric] for seed, found in sorted(of_arm.items()) if metric in found}
    if not mine:
        return {}
    numbers = list(mine.values())
    result: dict[str, Any] = {
        "values": {str(seed): value for seed, value in mine.items()},
        "mean": float(np.mean(numbers)),
        "deviation": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None,
    }
    both = [seed for seed in mine if metric in of_base.get(seed, {})]
    if name != BASE_ARM and len(both) > 1:
        differences = [mine[seed] - of_base[seed][metric] for seed in both]
        low, high = paired_interval(differences)
        result |= {"difference": float(np.mean(differences)), "low": low, "high": high}
    return result
