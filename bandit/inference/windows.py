"""Windows of a user: those in which guardrails look at a user again.

A user's first window is the one after assignment; only it counts for the goal. Whoever comes back later is looked at
again, one window of the same length at a time, so that nobody stays on an arm that went bad after everybody had joined.
Counted are windows in which the user has a value, not all that pass: users who come once a day then meet in the same
window. Where an outcome is "any", a window counts once it is over, and where not all users of the first window have a
value, as many more are taken to be at risk in the later ones: clean answers that come late, or never, are no harm.

Each user is in a window at most once, so users are units there as well, and the union bound over windows, 1/(d(d+1))
for the d-th, covers all of them. Not every further window is a window of its own: from the tenth on they get rarer by a
fifth, which keeps their number, and the price of the union, logarithmic.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import Experiment, Guardrail
from bandit.limits import limit_of
from bandit.measures import guardrail_measure

_GROWTH = 1.2


@lru_cache(maxsize=1)
def _numbers() -> dict[int, int]:
    """Return the numbers of the visits that are looked at: 1, 2, …, 10, then each a fifth beyond the one before."""
    found: dict[int, int] = {}
    visit = 1
    while visit < 10**9:
        found[visit] = len(found) + 1
        visit = max(visit + 1, int(_GROWTH * visit))
    return found


def window_of(visit: int) -> int | None:
    """Return the number d of the window that a user's visit is, from 1; None: it is not looked at.

    Args:
        visit: 1 for the window after assignment, k + 1 for the k-th later one in which the user has a value.
    """
    return _numbers().get(visit)


def log_price(window: IntArray | int) -> FloatArray:
    """Return ln d(d+1), by which the e-value of window d has to be larger, any shape."""
    d = np.asarray(window, dtype=np.float64)
    return np.asarray(np.log(d * (d + 1.0)))


def is_looked_at_again(rail: Guardrail) -> bool:
    """Whether a guardrail reads open epochs and users who come back: an absolute `max` does."""
    limit = limit_of(rail)
    return not limit.is_relative and not limit.above


def looked_at_again(experiment: Experiment) -> dict[int, int]:
    """Return the guardrails that do, as their places in the file, each with its measure."""
    return {
        place: guardrail_measure(experiment, rail)
        for place, rail in enumerate(experiment.guardrails)
        if is_looked_at_again(rail)
    }
