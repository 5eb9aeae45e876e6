"""When a decision can be expected: how many more users, at the allocation in force, until evidence is enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import DAY, WEEK, History
from bandit.inference.confidence_sequence import half_width, one_sided_log_e_value, tuning
from bandit.inference.observed import Observed
from bandit.inference.shares import arm_shares, planned_pair_users
from bandit.report.comparisons import Evidence
from bandit.report.goal import GoalEvidence, wanted_ratio

MOST_USERS = 1e9
"""A decision that needs more is out of reach."""

_STEPS = 24  # each halves the range on a logarithmic scale


@dataclass(frozen=True, slots=True)
class Outlook:
    """Until a decision on one arm.

    Attributes:
        users: Further users of the experiment; None: not to be told, or out of reach.
        assuming: What has to hold: "the present estimate holds" or "the true effect is the mde".
    """

    users: float | None
    assuming: str


def users_per_day(history: History) -> float | None:
    """Return the present traffic: users a day over the last seven days, or since the start if that is shorter.

    None without a clock, or if less than a minute has passed.
    """
    started, now = history.started_at, history.now
    if started is None or now is None or len(started) == 0:
        return None
    first = int(np.searchsorted(started, now - WEEK, side="left"))
    if first == len(started):
        return 0.0
    elapsed = now - float(started[first])
    return float(history.users[first:].sum()) / elapsed * DAY if elapsed >= 60.0 else None


def outlook(
    experiment: Experiment, history: History, observed: Observed, found: Evidence, goal: GoalEvidence, arm: int
) -> Outlook:
    """Return when the goal can be expected to be decided for an arm: better, worse, or too small to matter.

    The variance of the estimate goes on falling as it does under the last allocation. If the estimate is within two
    standard errors of both no gain and the mde, or may not be read yet, the true effect is taken to be the mde.

    Args:
        experiment: Levels, mde, control.
        history: Its last allocation is that in force.
        observed: The goal.
        found: From `evidence` of it.
        goal: From `goal_evidence`.
        arm: Index of a treatment.
    """
    pair = _Pair.of(experiment, history, observed, found, arm)
    if pair is None:
        return Outlook(None, "")
    gain, to_mde = float(goal.gain[arm]), float(goal.gain_to_mde[arm])
    # |estimate| in standard errors, from whichever of the two marks is nearer to being told apart from it
    z = max(abs(gain), abs(to_mde)) * math.sqrt(pair.information)
    if pair.readable and z > 2.0:
        log_e = float(goal.log_better[arm] if gain > 0.0 else goal.log_worse[arm])
        ways = [pair.users_until_sign(abs(gain)) or pair.users_until_evidence(log_e), pair.users_until_excluded(to_mde)]
        assuming = "the present estimate holds"
    else:
        effect = abs((wanted_ratio(experiment, observed) - 1.0) * pair.control_mean)
        ways = [pair.users_until_sign(effect)]
        assuming = f"the true effect is {100.0 * experiment.goal.mde:.3g} %"
    possible = [users for users in ways if users is not None]
    # Nothing is decided before the next epoch.
    return Outlook(max(min(possible), experiment.policy.min_batch) if possible else None, assuming)


@dataclass(frozen=True, slots=True)
class _Pair:
    """An arm and control: what is known, and what another user of the experiment adds.

    Attributes:
        t: Users of the pair with an outcome.
        information: 1 / variance of the estimated difference.
        t_rate: Users of the pair with an outcome, per user of the experiment.
        rate: Information per user of the experiment.
        readable: Whether the any-time interval may be read.
        control_mean: Mean outcome of control.
        share: The arm's share of alpha, the two-sided level of its interval.
        level: Level of a decision to one side.
        rho2: Tuning of the confidence sequence.
    """

    t: float
    information: float
    t_rate: float
    rate: float
    readable: bool
    control_mean: float
    share: float
    level: float
    rho2: float

    @classmethod
    def of(
        cls, experiment: Experiment, history: History, observed: Observed, found: Evidence, arm: int
    ) -> _Pair | None:
        control, scores, sequence = experiment.control, found.scores, found.any_time
        p = history.latest_probabilities
        if scores is None or sequence is None or p is None:
            return None
        n, variance, mean = _moments(observed)
        p_arm, p_control = float(p[arm]), float(p[control])
        error = float(scores.at(-1).standard_error()[arm])
        if min(p_arm, p_control, n[arm], n[control]) <= 0 or not math.isfinite(error) or error <= 0:
            return None
        assigned = history.readable.ledger.assigned.sum(axis=0)
        answered = float((n[arm] + n[control]) / (assigned[arm] + assigned[control]))
        per_user = float(variance[arm]) / p_arm + float(variance[control]) / p_control
        if per_user <= 0:
            return None
        share, planned = float(arm_shares(experiment, history)[arm]), planned_pair_users(experiment)
        return cls(
            t=float(scores.at(-1).t[arm]),
            information=1.0 / error**2,
            t_rate=(p_arm + p_control) * answered,
            rate=answered / per_user,
            readable=bool(sequence.readable[-1, arm]),
            control_mean=float(mean[control]),
            share=share,
            level=share / 2.0,
            rho2=float(tuning(share, planned)),
        )

    def users_until_sign(self, effect: float) -> float | None:
        """Return the users until an effect of this size is told from none."""

        def there(users: float) -> bool:
            t, information = self.t + users * self.t_rate, self.information + users * self.rate
            log_e = one_sided_log_e_value(effect * math.sqrt(information), t, self.rho2)
            return float(log_e) >= -math.log(self.level)

        return _smallest(there)

    def users_until_evidence(self, log_e: float) -> float | None:
        """Return the users until the evidence that decides is there, if it goes on growing as it did on average.

        For where the normal approximation would have decided already: exact e-values lag behind it.
        """
        if log_e < 1.0:  # an average over so little evidence promises nothing
            return None
        return self.t * max(-math.log(self.level) / log_e - 1.0, 0.0) / self.t_rate

    def users_until_excluded(self, to_mde: float) -> float | None:
        """Return the users until a gain of the mde is ruled out, if the estimate is below it."""
        if to_mde >= 0.0:
            return None

        def there(users: float) -> bool:
            t, information = self.t + users * self.t_rate, self.information + users * self.rate
            return float(half_width(t, self.rho2, self.share)) / math.sqrt(information) < -to_mde

        return _smallest(there)


def _moments(observed: Observed) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return users, variance of an outcome and mean outcome per arm."""
    n, z, z2 = (sums.sum(axis=-2) for sums in (observed.n, observed.z, observed.z2))
    seen = np.maximum(n, 1.0)
    mean = z / seen
    return n, np.maximum(z2 / seen - mean * mean, 0.0), mean + observed.origin


def _smallest(there: Callable[[float], bool]) -> float | None:
    """Return about the smallest number of users at which it is there; None above `MOST_USERS`."""
    if there(0.0):
        return 0.0
    if not there(MOST_USERS):
        return None
    low, high = 1.0, MOST_USERS
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if there(middle) else (middle, high)
    return high
