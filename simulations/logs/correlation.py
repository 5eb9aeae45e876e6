"""How much rows of one user resemble one another."""

from __future__ import annotations

import numpy as np

from bandit.arrays import FloatArray, IntArray


def intra_user_correlation(values: FloatArray, of: IntArray) -> float | None:
    """Return the intra-user correlation of values: the share of their variance that lies between users.

    The estimator of the one-way analysis of variance for groups of unequal size; it may come out below 0.

    Args:
        values: One per row, nan where a row has none.
        of: The user of each row, same shape.

    Returns:
        At most 1; None where no user has two values or nothing varies.

    Reference:
        Donner (1986), A review of inference procedures for the intraclass correlation coefficient in the one-way
        random effects model.
    """
    kept = ~np.isnan(values)
    _, user = np.unique(of[kept], return_inverse=True)
    y = values[kept]
    sizes = np.bincount(user)
    n_users, n = len(sizes), len(y)
    if n == n_users or n_users < 2:
        return None
    y = y - y.mean()
    means = np.bincount(user, y) / sizes
    within = float(((y - means[user]) ** 2).sum()) / (n - n_users)
    between = float((sizes * means**2).sum()) / (n_users - 1)
    size = (n - float((sizes**2).sum()) / n) / (n_users - 1)
    total = between + (size - 1.0) * within
    return (between - within) / total if total > 0.0 else None
