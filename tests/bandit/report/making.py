"""Histories for tests, from counts."""

from __future__ import annotations

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.ledger import Ledger
from bandit.measures import measures_of

EPOCH = 21_600.0
"""Seconds."""


def counted(
    experiment: Experiment, assigned: FloatArray, answers: FloatArray, events: FloatArray, p: FloatArray
) -> History:
    """Return a history of closed epochs of six hours with a binary goal; arrays of shape (n_epochs, n_arms)."""
    empty = Ledger.empty(measures_of(experiment), *assigned.shape)
    sums = np.stack([answers, events, events, events], axis=-1)
    ledger = Ledger(assigned.astype(np.int64), empty.moved, (sums, *empty.sums[1:]), (0.0,) * len(empty.sums))
    return History(ledger, len(assigned), p, EPOCH * np.arange(float(len(assigned))), len(assigned) * EPOCH)
