"""Sample-ratio check: do the users of each arm fit the probabilities they were drawn with, at any look.

Against "each user counted had arm k with probability p_k" the wealth Π exp(λ 1{k}) / (1 − p_k + p_k e^λ) is a
martingale for every λ, whatever moved the probabilities: traffic that follows the data cannot set it off, users that
get lost can. A mixture over λ of both signs tests losses and gains alike.
"""

from __future__ import annotations

import math

import numpy as np

from bandit.arrays import FloatArray
from bandit.inference.mixture import log_mean

STAKES = (-0.4, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 0.4)
"""Mixture over λ; about the relative surplus of an arm that each is tuned to."""


def log_e_sample_ratio(users: FloatArray, p: FloatArray) -> FloatArray:
    """Return ln E per arm after each epoch against "users were drawn with these probabilities".

    Over all arms the error stays below alpha if an arm is flagged at E >= n_arms / alpha.

    Args:
        users: Users counted, shape (..., n_epochs, n_arms).
        p: Their probabilities, same shape, rows summing to 1.

    Returns:
        Shape (..., n_epochs, n_arms).
    """
    total = users.sum(axis=-1, keepdims=True)
    logs = [np.cumsum(stake * users - total * np.log1p(p * math.expm1(stake)), axis=-2) for stake in STAKES]
    return log_mean(np.stack(logs))
