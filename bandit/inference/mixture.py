"""Wealth of several bets at once: their mean is a wealth too, so nobody has to know which bet is right."""

from __future__ import annotations

import math

import numpy as np

from bandit.arrays import FloatArray


def log_mean(log_wealths: FloatArray) -> FloatArray:
    """Return ln of the mean wealth over the first axis, the bets, from ln of each.

    Args:
        log_wealths: Shape (n_bets, ...), finite.

    Returns:
        Shape (...).
    """
    most = log_wealths.max(axis=0)
    mean = np.exp(log_wealths - most).sum(axis=0)
    return np.asarray(most + np.log(mean) - math.log(len(log_wealths)))
