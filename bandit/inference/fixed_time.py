"""Fixed-time estimate: the effect of an arm against control at one look that was fixed beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray
from bandit.inference.scores import Scores


@dataclass(frozen=True, slots=True)
class FixedTime:
    """Estimates per arm against control, arrays of shape (..., n_arms); nan where there is none.

    Attributes:
        difference: Mean of the arm minus mean of control, unit of the metric; where the effect moves, its
            average over epochs by their weights.
        standard_error: Its standard error.
        low: Lower end of the Wald interval.
        high: Upper end.
        p_value: Two-sided.
    """

    difference: FloatArray
    standard_error: FloatArray
    low: FloatArray
    high: FloatArray
    p_value: FloatArray


def fixed_time(scores: Scores, alpha: float, ratio: float = 1.0) -> FixedTime:
    """Return the estimate with its interval of level 1 − alpha.

    Asymptotic: wants 25 events and as many non-events per arm, or users enough for the skewness of a numeric
    metric.

    Args:
        scores: From `total_scores`.
        alpha: Two-sided, in (0, 1).
        ratio: The contrast is mean(arm) − ratio × mean(control).
    """
    difference, error = scores.difference(ratio), scores.standard_error(ratio)
    error = np.where(error > 0.0, error, np.nan)  # one user has an estimate and no error
    half = float(sc.ndtri(1.0 - alpha / 2.0)) * error
    p_value = 2.0 * sc.ndtr(-np.abs(difference) / error)
    return FixedTime(difference, error, difference - half, difference + half, np.asarray(p_value))
