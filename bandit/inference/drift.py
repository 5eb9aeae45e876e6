"""Whether an arm's mean moved over time: then pooled means, P(best) and credible intervals may mislead."""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray
from bandit.inference.observed import Observed

BLOCKS = 10
"""Time is cut into at most so many blocks, of equally many users of the arm as nearly as epochs allow …"""

FEWEST_USERS = 100
"""… and of so many at least."""


def drift_p_values(observed: Observed) -> FloatArray:
    """Return per arm the p-value of "all blocks of time have the same mean".

    The chi-square test of homogeneity, Σ n_b (ȳ_b − ȳ)² / s², on one run; 1 where there are too few users for two
    blocks or nothing varied.

    Args:
        observed: The measure, arrays of shape (n_epochs, n_arms).

    Returns:
        Shape (n_arms,).
    """
    return np.array([_homogeneity(*columns) for columns in zip(observed.n.T, observed.z.T, observed.z2.T, strict=True)])


def _homogeneity(n: FloatArray, z: FloatArray, z2: FloatArray) -> float:
    total = float(n.sum())
    blocks = min(BLOCKS, int(total // FEWEST_USERS))
    if blocks < 2:
        return 1.0
    block = np.minimum((np.cumsum(n) - n) * blocks // total, blocks - 1).astype(np.int64)
    users, sums = np.bincount(block, n, blocks), np.bincount(block, z, blocks)
    users, sums = users[users > 0], sums[users > 0]
    mean = float(z.sum()) / total
    variance = (float(z2.sum()) - total * mean * mean) / (total - 1.0)
    if len(users) < 2 or variance <= 1e-12 * float(z2.sum()) / total:
        return 1.0
    statistic = float((users * (sums / users - mean) ** 2).sum()) / variance
    return float(sc.chdtrc(len(users) - 1, statistic))
