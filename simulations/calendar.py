"""When users come and answer: what gives a world a clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray, IntArray

DAY = 86_400.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Arrivals and answers.

    Attributes:
        users_per_day: New users on a day of weight 1, above 0.
        days: Length of a run, above 0.
        weekdays: Weights of Monday to Sunday; a run begins on a Monday.
        delay: Mean time from a visit to its reward, seconds, 0 or more; exponential.
        response: Share of visits with a reward, by variant, in [0, 1].
        returns: Mean number of further visits of a user, 0 or more; geometric.
        gap: Mean time between visits of a user, seconds; exponential.
        alike: Chance that a further visit has the values of the first, in [0, 1]: the correlation of a user's visits.
    """

    users_per_day: float
    days: float
    weekdays: tuple[float, ...] = (1.0,) * 7
    delay: float = 0.0
    response: tuple[float, ...] = ()
    returns: float = 0.0
    gap: float = DAY
    alike: float = 0.0

    @property
    def users(self) -> int:
        """Expected users of a run."""
        whole, part = divmod(self.days, 1.0)
        weights = [self.weekdays[day % 7] for day in range(int(whole) + 1)]
        return round(self.users_per_day * (sum(weights[:-1]) + part * weights[-1]))


@dataclass(frozen=True, slots=True)
class Visits:
    """Visits of one run, in the order in which they come.

    Attributes:
        at: Seconds since the start, shape (n_visits,).
        user: Number of the user, from 0 in the order of their first visit, same shape.
        first: Whether it is the user's first visit, same shape.
    """

    at: FloatArray
    user: IntArray
    first: FloatArray


def visits(calendar: Calendar, rng: np.random.Generator) -> Visits:
    """Return the visits of one run: each day has a Poisson number of new users at times of its own.

    Args:
        calendar: When they come.
        rng: Source of luck.
    """
    days = np.arange(int(np.ceil(calendar.days)))
    length = np.minimum(calendar.days - days, 1.0)
    weight = np.array(calendar.weekdays)[days % 7]
    n = rng.poisson(calendar.users_per_day * weight * length)
    at = np.sort((np.repeat(days, n) + rng.random(int(n.sum())) * np.repeat(length, n)) * DAY)
    more = rng.geometric(1.0 / (1.0 + calendar.returns), len(at)) - 1 if calendar.returns > 0.0 else np.zeros_like(at)
    users, further = np.arange(len(at)), np.repeat(np.arange(len(at)), more.astype(np.int64))
    gaps = rng.exponential(calendar.gap, len(further))
    # Time of each further visit: the first one's, and all gaps of the user so far.
    total = np.cumsum(gaps)
    starts = np.concatenate([[0], np.cumsum(more.astype(np.int64))])[:-1]
    before = np.concatenate([[0.0], total])[starts]
    later = at[further] + total - before[further] if len(further) else np.empty(0)
    inside = later < calendar.days * DAY
    every = np.concatenate([at, later[inside]])
    order = np.argsort(every, kind="stable")
    first = np.concatenate([np.ones(len(at)), np.zeros(int(inside.sum()))])
    return Visits(every[order], np.concatenate([users, further[inside]])[order], first[order])
