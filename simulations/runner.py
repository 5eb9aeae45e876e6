"""Runs of an experiment in a world without a clock: whole epochs as counts, or user by user.

Rewards come at once, `window` and `max_epoch` do not act, and an epoch is closed when it ends. Schedule, allocation,
learning, forgetting and guardrails are the engine's own functions; the leading axis of their arrays is the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bandit import Bandit
from bandit.allocation import batch_size
from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.engine import allocate, fading, learn
from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.experiment_rules import POLICIES_THAT_REMEMBER
from bandit.inference.running import RunningBreaches
from bandit.learning import Totals, totals_of
from bandit.ledger import GOAL
from bandit.measures import measures_of
from bandit.wording import received
from simulations.outcomes import Outcomes, Phase
from simulations.records import Tape

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
        by_phase: `assigned` by phase of the world, shape (n_phases, n_runs, n_arms); None: there is one phase.
        suspended_after: Users of the run, of all arms, when each arm was suspended, nan if it never was, shape
            (n_runs, n_arms); None: nothing was guarded.
        remembered: Goal sums that the policy reads at the end, faded, as `totals`; None: it forgets nothing.
    """

    assigned: IntArray
    totals: Totals
    epochs: IntArray
    by_phase: IntArray | None = None
    suspended_after: FloatArray | None = None
    remembered: Totals | None = None

    @property
    def in_phases(self) -> IntArray:
        """Users by phase of the world, shape (n_phases, n_runs, n_arms)."""
        return self.assigned[np.newaxis] if self.by_phase is None else self.by_phase


def run_epochs(
    experiment: Experiment,
    world: Outcomes | Sequence[Phase],
    users: IntArray,
    seeds: np.random.SeedSequence,
    watch: Watch | None = None,
    tape: Tape | None = None,
) -> Runs:
    """Run an experiment once per horizon, all runs at once, each epoch drawn exactly as counts.

    Time grows with the number of epochs, so with the logarithm of the users; memory does not depend on them. After
    each epoch the guardrails of the metrics that the phases have are judged: an arm that breaks a limit is suspended,
    one that may break it gets less. The users of an epoch in which the world changes are drawn in two parts.

    Args:
        experiment: Policy, floors, schedule, guardrails. Its exposure does not act: all users are enrolled ones.
        world: What happens to the users: goal outcomes alone, or phases, in order, the first from user 0 on.
        users: Horizon of each run, 0 or more, shape (n_runs,).
        seeds: Three children are spawned: for assignments, for goal outcomes and for all others. So the same seeds give
            the same luck with and without guardrails, until the first allocation that differs.
        watch: Called after each epoch.
        tape: Keeps every epoch; all horizons must be equal.

    Raises:
        InvalidInput: The policy forgets by time, and there is no clock.
    """
    _refuse_time(experiment)
    phases = world if isinstance(world, Sequence) else (Phase(0, world),)
    assigning, *luck = (np.random.default_rng(child) for child in seeds.spawn(3))
    n_measures = len(measures_of(experiment))
    going = Going.start(experiment, users.astype(np.int64), phases)
    runs = _empty(experiment, len(users), phases)
    while len(going.index):
        size = np.minimum(batch_size(experiment.policy, going.users_before), going.left)
        p = going.allocation()
        drawn = np.zeros_like(going.assigned)
        sums: list[FloatArray | None] | None = None
        for place, part in _parts(phases, going.users_before, size):
            some = assigning.multinomial(part, p)
            found = phases[place].draw((luck[0], luck[1]), some, going.index, n_measures)
            sums = found if sums is None else _added(sums, found)
            drawn = drawn + some
            runs.in_phases[place, going.index] += some
        going.take_in(p, drawn, sums or [])
        if tape is not None:
            tape.origin = going.origin
            tape.add(p, drawn, goal_of(sums or []), going.suspended)
        runs.epochs[going.index] += size > 0
        going = going.without_finished(runs)
        if watch is not None:
            watch(int(size.sum()))
    origin = _origin(experiment, phases[0].goal)
    remembered = None if runs.remembered is None else replace(runs.remembered, origin=origin)
    return replace(runs, totals=replace(runs.totals, origin=origin), remembered=remembered)


def _added(first: Sequence[FloatArray | None], second: Sequence[FloatArray | None]) -> list[FloatArray | None]:
    """Return the sums of both; None for a measure that is not simulated."""
    return [None if a is None or b is None else a + b for a, b in zip(first, second, strict=True)]


def _forgets(experiment: Experiment) -> bool:
    """Whether the policy forgets."""
    return experiment.policy.half_life is not None and experiment.policy.kind not in POLICIES_THAT_REMEMBER


def _refuse_time(experiment: Experiment) -> None:
    """Refuse a half-life in time: there is no clock."""
    if experiment.half_life_seconds is not None and _forgets(experiment):
        message = (
            f"received {received(experiment.policy.half_life)}, but a simulated world has no clock; "
            "allowed: a number of users, such as half_life = 20000"
        )
        raise InvalidInput([Problem("policy.half_life", message)])


def _parts(phases: Sequence[Phase], before: int, size: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each phase that users of an epoch fall into, with how many of each run do, shape (n_runs,)."""
    ends = [*(phase.first_user - before for phase in phases), np.iinfo(np.int64).max]
    for place, (start, end) in enumerate(pairwise(ends)):
        part = np.clip(size, 0, max(end, 0)) - np.clip(size, 0, max(start, 0))
        if part.any() or (place == 0 and not size.any()):
            yield place, part


@dataclass(slots=True)
class Going:
    """The runs that go on; row i of each array is run `index[i]`.

    All of them have had equally many users: their batches do not depend on what happened, and a run that has reached
    its horizon goes on no more.

    Attributes:
        experiment: What is run.
        index: Number of each run, shape (n_going,).
        left: Users still to come, same shape.
        assigned: Users so far, shape (n_going, n_arms).
        learned: What the policy reads.
        totals: What there would be to read.
        origin: Of the goal's sums.
        evidence: What guardrails say; None: nothing is guarded.
        suspended_after: Users of the run when each arm was suspended; nan: it is not.
    """

    experiment: Experiment
    index: IntArray
    left: IntArray
    assigned: IntArray
    learned: Totals
    totals: Totals
    origin: float
    evidence: RunningBreaches | None
    suspended_after: FloatArray

    @classmethod
    def start(cls, experiment: Experiment, users: IntArray, phases: Sequence[Phase]) -> Going:
        """Return all runs before their first user."""
        shape = (len(users), experiment.n_arms)
        nothing, first = Totals.nothing(shape), phases[0]
        origins = [0.0] * len(measures_of(experiment))
        origins[GOAL] = first.goal.origin
        for metric in first.metrics:
            for place, origin in zip(metric.places, metric.origins, strict=True):
                origins[place] = origin
        evidence = RunningBreaches(experiment, len(users), origins) if first.metrics else None
        return cls(
            experiment, np.arange(len(users)), users, np.zeros(shape, np.int64), nothing, nothing, origins[GOAL],
            evidence, np.full(shape, np.nan),
        )  # fmt: skip

    @property
    def users_before(self) -> int:
        """Users that each run has had."""
        return int(self.assigned[0].sum())

    @property
    def suspended(self) -> BoolArray:
        """Whether each arm gets no users, shape (n_going, n_arms)."""
        return ~np.isnan(self.suspended_after)

    def allocation(self) -> FloatArray:
        """Return the probability of each arm for the next epoch, shape (n_going, n_arms)."""
        feasible = None if self.evidence is None else self.evidence.feasible
        return allocate(self.experiment, self.learned, self.assigned.astype(np.float64), feasible, self.suspended)

    def take_in(self, p: FloatArray, drawn: IntArray, sums: Sequence[FloatArray | None]) -> None:
        """Close an epoch: forget, learn, judge, suspend.

        Args:
            p: Its allocation, shape (n_going, n_arms).
            drawn: Users assigned in it, same shape.
            sums: For each measure the ledger rows of these users; None: it is not simulated.
        """
        epoch = totals_of(self.experiment, drawn, goal_of(sums), self.origin)
        if _forgets(self.experiment):
            self.learned = self.learned.faded(fading(self.experiment, drawn.sum(axis=-1), 0.0))
        self.learned = learn(self.experiment, self.learned, epoch)
        self.totals = self.totals + epoch
        self.assigned = self.assigned + drawn
        self.left = self.left - drawn.sum(axis=-1)
        if self.evidence is None:
            return
        self.evidence.add(p, drawn, sums)
        among = ~self.suspended
        among[:, self.experiment.control] = False
        broken = self.evidence.broken(among)
        self.suspended_after = np.where(broken, self.assigned.sum(axis=-1, keepdims=True), self.suspended_after)

    def without_finished(self, runs: Runs) -> Going:
        """Write the runs that have reached their horizon into the result, return the others."""
        done = self.left <= 0
        if not done.any():
            return self
        where = self.index[done]
        runs.assigned[where] = self.assigned[done]
        if runs.suspended_after is not None:
            runs.suspended_after[where] = self.suspended_after[done]
        for result, own in ((runs.totals, self.totals), (runs.remembered, self.learned)):
            for name in _SUMS if result is not None else ():
                getattr(result, name)[where] = getattr(own, name)[done]
        keep = ~done
        if self.evidence is not None:
            self.evidence.keep(keep)
        return replace(
            self,
            index=self.index[keep],
            left=self.left[keep],
            assigned=self.assigned[keep],
            learned=_taken(self.learned, keep),
            totals=_taken(self.totals, keep),
            suspended_after=self.suspended_after[keep],
        )


def goal_of(sums: Sequence[FloatArray | None]) -> FloatArray:
    """Return the goal's sums, which every world has."""
    goal = sums[GOAL]
    assert goal is not None  # noqa: S101 (every world has a goal)
    return goal


def _empty(experiment: Experiment, n_runs: int, phases: Sequence[Phase]) -> Runs:
    """Return a result with arrays of its own, to be written into."""
    shape = (n_runs, experiment.n_arms)

    def zeros() -> Totals:
        return Totals(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape), phases[0].goal.origin)

    return Runs(
        np.zeros(shape, np.int64),
        zeros(),
        np.zeros(n_runs, np.int64),
        np.zeros((len(phases), *shape), np.int64),
        np.full(shape, np.nan) if phases[0].metrics else None,
        zeros() if _forgets(experiment) else None,
    )


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
