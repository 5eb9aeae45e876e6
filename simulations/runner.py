"""Runs of an experiment in a world without a clock: whole epochs as counts, or user by user.

Rewards come at once, `window` and `max_epoch` do not act, and an epoch is closed when it ends. Schedule,
allocation and learning are the engine's own functions; the leading axis of their arrays is the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bandit import Bandit
from bandit.allocation import batch_size
from bandit.arrays import BoolArray, IntArray
from bandit.engine import allocate, learn
from bandit.experiment import Experiment
from bandit.learning import Totals, totals_of
from simulations.worlds import Outcomes

Watch = Callable[[int], None]
"""Is told after each epoch how many users it had, over all runs."""

_SUMS = ("assigned", "n", "z", "z2")


@dataclass(frozen=True, slots=True)
class Runs:
    """What many independent runs came to.

    Attributes:
        assigned: Users per run and arm, shape (n_runs, n_arms).
        totals: Goal sums of all users of each run, also of those that the policy no longer read, same shape.
        epochs: Epochs of each run, shape (n_runs,).
    """

    assigned: IntArray
    totals: Totals
    epochs: IntArray


def run_epochs(
    experiment: Experiment,
    outcomes: Outcomes,
    users: IntArray,
    seeds: np.random.SeedSequence,
    watch: Watch | None = None,
) -> Runs:
    """Run an experiment once per horizon, all runs at once, each epoch drawn exactly as counts.

    Time grows with the number of epochs, so with the logarithm of the users; memory does not depend on them.

    Args:
        experiment: Policy, floors, schedule. Its exposure does not act: all users are enrolled ones.
        outcomes: Draws what happens to the users.
        users: Horizon of each run, 0 or more, shape (n_runs,).
        seeds: Two children are spawned, for assignments and for outcomes.
        watch: Called after each epoch.
    """
    assigning, answering = (np.random.default_rng(child) for child in seeds.spawn(2))
    going = _Going.start(users.astype(np.int64), experiment.n_arms)
    runs = _empty(len(users), experiment.n_arms, outcomes.origin)
    while len(going.index):
        size = np.minimum(batch_size(experiment.policy, going.assigned.sum(axis=-1)), going.left)
        p = allocate(experiment, going.learned, going.assigned.astype(np.float64))
        drawn = assigning.multinomial(size, p)
        sums = outcomes.draw(answering, drawn, going.index)
        epoch = totals_of(experiment, drawn, sums, outcomes.origin)
        going.learned = learn(experiment, going.learned, epoch)
        going.totals = going.totals + epoch
        going.assigned = going.assigned + drawn
        going.left = going.left - size
        runs.epochs[going.index] += size > 0
        going = going.without_finished(runs)
        if watch is not None:
            watch(int(size.sum()))
    return replace(runs, totals=replace(runs.totals, origin=_origin(experiment, outcomes)))


@dataclass(slots=True)
class _Going:
    """The runs that go on; row i of each array is run `index[i]`.

    Attributes:
        index: Number of each run, shape (n_going,).
        left: Users still to come, same shape.
        assigned: Users so far, shape (n_going, n_arms).
        learned: What the policy reads.
        totals: What there would be to read.
    """

    index: IntArray
    left: IntArray
    assigned: IntArray
    learned: Totals
    totals: Totals

    @classmethod
    def start(cls, users: IntArray, n_arms: int) -> _Going:
        """Return all runs before their first user."""
        shape = (len(users), n_arms)
        nothing = Totals.nothing(shape)
        return cls(np.arange(len(users)), users, np.zeros(shape, np.int64), nothing, nothing)

    def without_finished(self, runs: Runs) -> _Going:
        """Write the runs that have reached their horizon into the result, return the others."""
        done = self.left <= 0
        if not done.any():
            return self
        where = self.index[done]
        runs.assigned[where] = self.assigned[done]
        for name in _SUMS:
            getattr(runs.totals, name)[where] = getattr(self.totals, name)[done]
        keep = ~done
        return _Going(
            self.index[keep],
            self.left[keep],
            self.assigned[keep],
            _taken(self.learned, keep),
            _taken(self.totals, keep),
        )


def _empty(n_runs: int, n_arms: int, origin: float) -> Runs:
    """Return a result with arrays of its own, to be written into."""
    shape = (n_runs, n_arms)
    totals = Totals(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape), origin)
    return Runs(np.zeros(shape, np.int64), totals, np.zeros(n_runs, np.int64))


def _taken(totals: Totals, keep: BoolArray) -> Totals:
    return replace(totals, **{name: getattr(totals, name)[keep] for name in _SUMS})


def _origin(experiment: Experiment, outcomes: Outcomes) -> float:
    """Return the origin of totals, turned so that larger is better, as `totals_of` says it."""
    nobody = np.zeros((experiment.n_arms,), np.int64)
    return totals_of(experiment, nobody, np.zeros((experiment.n_arms, 4)), outcomes.origin).origin


@dataclass(frozen=True, slots=True)
class UserRecord:
    """What happened to one user.

    Attributes:
        user_id: Who.
        arm: Key of the variant served.
        propensity: Probability of that variant at the assignment; None for a user who is not enrolled.
        epoch: Number of the epoch of the assignment, or None.
        outcomes: The metrics that the world answered with.
    """

    user_id: str
    arm: str
    propensity: float | None
    epoch: int | None
    outcomes: Mapping[str, float]


def run_users(
    experiment: Experiment | Bandit,
    user_ids: Iterable[str],
    answer: Callable[[str, str], Mapping[str, float]],
) -> list[UserRecord]:
    """Run an experiment user by user through `bandit.Bandit`: choose, answer, reward, next user.

    Args:
        experiment: An experiment, run without a clock under its salt (else its key), or a bandit to go on with.
        user_ids: Users in the order in which they come; an id that comes again is the same user again.
        answer: Called with a user's id and the variant's key; returns a value for each metric that is known.

    Returns:
        One record per visit, in order.

    Example:
        >>> from bandit import parse_toml
        >>> experiment = parse_toml('''
        ... key = "greeting"
        ... variants = [{key = "A", control = true}, {key = "B"}]
        ... goal = {metric = "resolved", kind = "binary"}
        ... ''')
        >>> record, = run_users(experiment, ["user-1"], lambda user, arm: {"resolved": float(arm == "B")})
        >>> record.arm, record.propensity, record.epoch
        ('B', 0.5, 1)
    """
    bandit = experiment if isinstance(experiment, Bandit) else Bandit(experiment)
    records = []
    for user_id in user_ids:
        given = bandit.choose(user_id)
        outcomes = answer(user_id, given.variant)
        bandit.reward(user_id, outcomes)
        records.append(UserRecord(user_id, given.variant, given.propensity, given.epoch, outcomes))
    return records
