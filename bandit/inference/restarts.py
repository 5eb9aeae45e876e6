r"""Restarted mixtures: an e-process that does not let a good past pay for a bad present.

An arm that kept its limit for long has banked evidence of that, and a plain e-process lets it use this up before it
speaks. So the same e-process is started again and again, at epoch starts at which the arm's users have grown enough,
and the mixture

    E = Σ_{j<=n} E_j / (j(j+1)) + 1/(n+1)

is taken, E_j being the e-process on the users since the j-th start; the last term is the weight of the starts to come.
Each start is known before the users that follow it, and E_j is 1 until then, so E is a supermartingale from 1 if each
E_j is one. The price of being ready for a change after the j-th start is ln j(j+1); with starts that grow
geometrically that is a logarithm of a logarithm of the users.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from bandit.arrays import FloatArray, IntArray

FEWEST = 500.0
"""Users of an arm between two starts at least …"""

GROWTH = 0.1
"""… and this part of its users before."""

LogE = Callable[[FloatArray], FloatArray]
"""From additive sums, shape (..., width), to ln E, shape (...)."""


def next_start(users: FloatArray) -> FloatArray:
    """Return the users of an arm at which it starts again, if it last did at so many, any shape."""
    return np.asarray(users + np.maximum(FEWEST, GROWTH * users))


def starts(assigned: FloatArray, first: int) -> IntArray:
    """Return the epochs at which an arm starts.

    Args:
        assigned: Its users per epoch, shape (n_epochs,).
        first: Index of the first epoch of its generation; the first start.

    Returns:
        Indices in order; empty if the generation has no epoch yet.
    """
    before = (np.cumsum(assigned[first:]) - assigned[first:]).tolist()
    found = []
    at = 0
    while at < len(before):
        found.append(first + at)
        at = bisect_left(before, before[at] + max(FEWEST, GROWTH * before[at]))
    return np.array(found, dtype=np.int64)


def log_e_restarted(log_e: LogE, since: FloatArray, n_starts: IntArray) -> FloatArray:
    """Return ln E of the restarted mixture, ln (Σ_j E_j / (j(j+1)) + 1/(n+1)).

    Args:
        log_e: The e-process, from sums.
        since: Sums since each start, shape (most_starts, ..., width); rows beyond an arm's own starts mean nothing.
        n_starts: Starts so far, n, at most `most_starts`, shape (...).

    Returns:
        Shape (...).
    """
    j = np.arange(1.0, len(since) + 1.0).reshape(-1, *(1,) * n_starts.ndim)
    begun = np.broadcast_to(j <= n_starts, since.shape[:-1])
    each = np.full(since.shape[:-1], -np.inf)
    each[begun] = log_e(since[begun])
    most = np.logaddexp.reduce(each - np.log(j * (j + 1.0)), axis=0) if len(since) else np.full(n_starts.shape, -np.inf)
    return np.asarray(np.logaddexp(most, -np.log(n_starts + 1.0)))
