"""Users of one arm, one after the other, in many runs: what a guardrail sees at every value.

The arm gets its share of every epoch of an equal split, the same in all runs; it starts again where the product would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import Experiment, Guardrail
from bandit.inference.breaches import columns_of_limit
from bandit.inference.restarts import starts
from bandit.measures import Measure, N, Z
from simulations.errors.breach_looks import ArmLooks
from simulations.errors.records import epoch_ends

_SPARE = 7.0  # standard deviations of the number of events that are drawn beyond the expected ones


def arm_epochs(experiment: Experiment, users: int) -> IntArray:
    """Return the users of one arm per epoch, if every arm gets its share and this one so many in all."""
    ends = epoch_ends(experiment.policy, users * experiment.n_arms)
    return np.diff(ends // experiment.n_arms, prepend=0)


def arm_starts(experiment: Experiment, users: int) -> IntArray:
    """Return the users of the arm before each start, shape (n_starts,)."""
    assigned = arm_epochs(experiment, users)
    return np.asarray((np.cumsum(assigned) - assigned)[starts(assigned.astype(np.float64), 0)])


def event_users(rng: np.random.Generator, rate: float, users: int, runs: int, first: int = 0) -> IntArray:
    """Return which users of the arm have an event, in order, shape (n_runs, most_events).

    Args:
        rng: Source of luck.
        rate: Probability of an event, in (0, 1).
        users: The last user; later places are beyond it.
        runs: How many runs.
        first: Users before the first one who may have an event.

    Returns:
        Numbers of users, from 1.
    """
    expected = (users - first) * rate
    most = int(expected + _SPARE * np.sqrt(expected) + 10.0)
    return np.asarray(first + np.cumsum(rng.geometric(rate, (runs, most)), axis=1))


def worse_later(rng: np.random.Generator, before: float, after: float, change: int, users: int, runs: int) -> IntArray:
    """Return which users have an event if the rate changes after so many users; otherwise as `event_users`."""
    early = event_users(rng, before, change, runs)
    early = np.where(early <= change, early, users + 1)
    return np.sort(np.concatenate([early, event_users(rng, after, users, runs, change)], axis=1), axis=1)


def looks_at_events(places: IntArray, users: int, starts_at: IntArray) -> ArmLooks:
    """Return the looks of a rate whose users are known at once: only an event can break a limit.

    Args:
        places: From `event_users`.
        users: Users of the arm.
        starts_at: From `arm_starts`.
    """
    begins = (places[np.newaxis] <= starts_at[:, np.newaxis, np.newaxis]).sum(axis=-1)
    ranks = np.arange(1.0, places.shape[1] + 1.0)

    def since(start: int) -> FloatArray:
        return np.stack([places - starts_at[start], ranks - begins[start][:, np.newaxis]], axis=-1).astype(np.float64)

    return ArmLooks(since, begins, places <= users)


@dataclass(frozen=True, slots=True)
class LateAnswers:
    """Harm is known at once, a clean answer only after so many further users of the arm.

    Attributes:
        rail: The guardrail, "any".
        delay: Further users.
    """

    rail: Guardrail
    delay: int

    def looks(self, places: IntArray, users: int, starts_at: IntArray, *, all_at_risk: bool) -> ArmLooks:
        """Return the looks at each harm.

        Args:
            places: From `event_users`.
            users: Users of the arm.
            starts_at: From `arm_starts`.
            all_at_risk: Read as the product does; False: only users with a value are counted.
        """
        at_once = looks_at_events(places, users, starts_at)
        reported = np.maximum(places - self.delay, 0)
        harms = np.stack([np.searchsorted(run, upto, side="right") for run, upto in zip(places, reported, strict=True)])

        def since(start: int) -> FloatArray:
            assigned, harmed = np.moveaxis(at_once.since(start), -1, 0)
            clean = np.maximum(reported - starts_at[start], 0) - np.maximum(harms - at_once.begins[start][:, None], 0)
            sums = np.zeros((*places.shape, 4))
            sums[..., N], sums[..., Z] = harmed + clean, harmed
            return columns_of_limit(self.rail, sums, assigned if all_at_risk else sums[..., N])

        return ArmLooks(since, at_once.begins, at_once.looks)


def looks_at_bets(measure: Measure, outcomes: FloatArray, starts_at: IntArray) -> ArmLooks:
    """Return the looks of a mean at every user above the limit: the others lower every bet.

    Args:
        measure: With a limit and no cap.
        outcomes: Not negative, shape (n_runs, n_users).
        starts_at: From `arm_starts`.
    """
    assert measure.limit is not None  # noqa: S101 (callers have one)
    ratio = outcomes / measure.limit - 1.0
    wealth = np.log1p(ratio[..., np.newaxis] * np.array(measure.stakes))
    np.cumsum(wealth, axis=1, out=wealth)

    def since(start: int) -> FloatArray:
        at = int(starts_at[start])
        return np.asarray(wealth - wealth[:, at - 1 : at]) if at else wealth

    return ArmLooks(since, np.tile(starts_at[:, np.newaxis], len(outcomes)), ratio > 0.0)


def shares_of_calls(
    rng: np.random.Generator, rate: float, calls: int, correlation: float, users: int, runs: int, apart: float
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return the calls of users in the order of time, and what each changed in the mean of its user.

    Args:
        rng: Source of luck.
        rate: Probability that a call is above the limit.
        calls: Of each user.
        correlation: Between two calls of a user, in (0, 1).
        users: Of the arm.
        runs: How many.
        apart: Mean time between two calls of a user, in users.

    Returns:
        By which the sum of the users' means rises, shape (n_runs, n_calls); which user, from 0, and which of the
        user's calls, from 0, shape (n_calls,): the times are the same in all runs.
    """
    size = (1.0 - correlation) / correlation
    own = rng.beta(rate * size, (1.0 - rate) * size, (runs, users))
    above = rng.random((runs, users, calls)) < own[..., np.newaxis]
    means = np.cumsum(above, axis=2) / np.arange(1.0, calls + 1.0)
    changes = np.diff(means, axis=2, prepend=0.0)
    waits = np.concatenate([np.zeros((users, 1)), rng.exponential(apart, (users, calls - 1))], axis=1)
    times = np.arange(users)[:, np.newaxis] + np.cumsum(waits, axis=1)
    order = np.argsort(times, axis=None, kind="stable")
    return changes.reshape(runs, -1)[:, order], order // calls, order % calls


def looks_at_calls(changes: FloatArray, user: IntArray, call: IntArray, starts_at: IntArray) -> ArmLooks:
    """Return the looks of a share of calls at every call that raises the mean of its user.

    Args:
        changes: From `shares_of_calls`; so are the next two.
        user: Which user.
        call: Which call of the user.
        starts_at: From `arm_starts`.
    """

    def since(start: int) -> FloatArray:
        counted = user >= starts_at[start]
        n = np.cumsum(counted & (call == 0)).astype(np.float64)
        return np.stack(np.broadcast_arrays(n, np.cumsum(changes * counted, axis=1)), axis=-1)

    begins = np.array([int(np.argmax(user >= at)) for at in starts_at])
    return ArmLooks(since, np.tile(begins[:, np.newaxis], len(changes)), changes > 0.0)


def returning_events(
    rng: np.random.Generator, rate: float, correlation: float, windows: int, users: int, runs: int
) -> list[IntArray]:
    """Return which users have an event in each of their windows, each as from `event_users`.

    Args:
        rng: Source of luck.
        rate: Mean rate; that of a user is the same in all windows and differs between users by a Beta law.
        correlation: Between two windows of a user, in (0, 1).
        windows: How many; everybody comes back.
        users: Of the arm.
        runs: How many.
    """
    size = (1.0 - correlation) / correlation
    own = rng.beta(rate * size, (1.0 - rate) * size, (runs, users))
    return [_places(rng.random((runs, users)) < own) for _ in range(windows)]


def _places(events: FloatArray | np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> IntArray:
    """Return the numbers of users with an event, from 1, in order and padded, shape (n_runs, most_events)."""
    runs, users = events.shape
    counts = events.sum(axis=1)
    found = np.full((runs, int(counts.max(initial=1))), users + 1, dtype=np.int64)
    found[np.arange(found.shape[1]) < counts[:, np.newaxis]] = np.nonzero(events)[1] + 1
    return found


def information(level: float, limit: float) -> float:
    """Return kl(level, limit) of two coins, in nats: what one user tells of a rate at a level against a limit."""
    return float(sc.rel_entr(level, limit) + sc.rel_entr(1.0 - level, 1.0 - limit))
