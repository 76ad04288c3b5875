"""How far raters agree. Krippendorff's alpha is written here: the package that has it is under the GPL."""

import numpy as np


def krippendorff_alpha(counts: np.ndarray) -> float | None:
    """Krippendorff's alpha for nominal data: 1 full agreement, 0 what chance gives, below 0 less.

    counts: (units, values) how many raters gave each unit each value; raters may be missing. From the
    coincidences of values in a unit (Krippendorff, *Computing Krippendorff's Alpha-Reliability*, 2011, C):

        α = 1 − D_o / D_e = 1 − (n − 1) (n − Σ_c o_cc) / (n² − Σ_c n_c²).

    None when no unit has two raters, or all gave one value, so that nothing could have differed.
    """
    counts = counts[counts.sum(1) >= 2].astype(float)
    per_value = counts.sum(0)  # n_c
    n = per_value.sum()
    expected = n**2 - (per_value**2).sum()
    if not expected:
        return None
    agreeing = (counts * (counts - 1) / (counts.sum(1, keepdims=True) - 1)).sum()  # Σ_c o_cc
    return float(1 - (n - 1) * (n - agreeing) / expected)


def agreement_share(counts: np.ndarray) -> float | None:
    """Of all twos of raters who judged the same unit, the share that gave the same value; None without any.

    counts: (units, values) as above.
    """
    twos = (counts.sum(1) * (counts.sum(1) - 1)).sum()
    return float((counts * (counts - 1)).sum() / twos) if twos else None
