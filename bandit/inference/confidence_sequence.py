"""Asymptotic confidence sequence: a normal mixture over all looks at an estimate that is a sum.

At look t the estimate has an error that is about normal with a known standard error. Mixing the likelihood ratio
over normal effects gives a process whose mean is 1 where the effect is nil, so it reaches 1/alpha at any look with
probability alpha at most (Ville), as far as the normal approximation holds from the first look on.

Source: Robbins (1970); Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2021), Time-uniform central limit theory.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray


def tuning(alpha: FloatArray | float, users: float) -> FloatArray:
    """Return ρ², with which the interval of level 1 − alpha is tightest after so many users.

    Args:
        alpha: In (0, 1), any shape.
        users: Above 0; has to be fixed before the first look.

    Returns:
        Shape of `alpha`.
    """
    log = -2.0 * np.log(alpha)
    return np.asarray(np.where(log > 1.0, log + np.log(np.maximum(log, 1.0)) + 1.0, 1.0) / users)


def half_width(t: FloatArray | float, rho2: FloatArray | float, alpha: FloatArray | float) -> FloatArray:
    """Return the half width of the interval in standard errors of the estimate at that look.

    Args:
        t: Users so far, 0 or more, any shape; 0 gives infinity.
        rho2: From `tuning`.
        alpha: Two-sided error over all looks; a number, or one per arm, as `rho2`.
    """
    t = np.asarray(t, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.sqrt((1.0 + 1.0 / (t * rho2)) * (np.log1p(t * rho2) - 2.0 * np.log(alpha)))


def log_e_value(z: FloatArray | float, t: FloatArray | float, rho2: FloatArray | float) -> FloatArray:
    """Return ln E against "no effect at any time", two-sided; E <= 1/alpha where the interval covers 0.

    Args:
        z: Estimate in standard errors, any shape.
        t: Users so far, same shape.
        rho2: From `tuning`.
    """
    t, z = np.asarray(t, dtype=np.float64), np.asarray(z, dtype=np.float64)
    return np.asarray(-0.5 * np.log1p(t * rho2) + t * rho2 * z * z / (2.0 * (1.0 + t * rho2)))


def one_sided_log_e_value(z: FloatArray | float, t: FloatArray | float, rho2: FloatArray | float) -> FloatArray:
    """Return ln E against "the effect is 0 or below at any time", one-sided.

    The mixture over positive effects only: twice the two-sided one's upper half,
    E = 2 (1 + tρ²)^(-1/2) exp(tρ² z² / (2(1 + tρ²))) Φ(z √(tρ²/(1 + tρ²))).
    """
    t, z = np.asarray(t, dtype=np.float64), np.asarray(z, dtype=np.float64)
    shrink = t * rho2 / (1.0 + t * rho2)
    return np.asarray(math.log(2.0) + log_e_value(z, t, rho2) + sc.log_ndtr(z * np.sqrt(shrink)))
