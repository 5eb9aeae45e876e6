"""The steps from the ledger to an allocation, each a pure function of the one before.

    ledger -> totals -> posterior -> policy -> floors -> probabilities

The service and the simulator call these; neither has a copy. Leading axes are free.
"""

from __future__ import annotations

import numpy as np

from bandit.allocation import with_floors
from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import Experiment
from bandit.experiment_rules import POLICIES_THAT_REMEMBER
from bandit.learning import Totals
from bandit.policies import Fixed, policy_of, reads
from bandit.posteriors import Posterior, beta_posterior, student_posterior


def learn(experiment: Experiment, totals: Totals, epoch: Totals) -> Totals:
    """Return the totals after one more closed epoch, as far as the policy reads on.

    Epochs are folded strictly in order; a policy that has committed reads no more.

    Args:
        experiment: Its policy says what is read.
        totals: Totals of all earlier epochs.
        epoch: Totals of this epoch alone.
    """
    going_on = reads(policy_of(experiment), totals.assigned.sum(axis=-1))
    if going_on.all():
        return totals + epoch
    keep = going_on[..., np.newaxis].astype(np.float64)
    read = Totals(epoch.assigned * keep, epoch.n * keep, epoch.z * keep, epoch.z2 * keep, epoch.origin)
    return totals + read


def posterior_of(experiment: Experiment, totals: Totals) -> Posterior:
    """Return the posterior of the arms' mean goal outcomes, larger is better, from what was learned.

    The location of a numeric posterior is relative to `totals.origin`: probabilities and losses do not
    depend on it.
    """
    goal = experiment.goal
    lower = goal.better == "lower"
    if goal.kind == "numeric":
        baseline = None if goal.baseline is None else (-goal.baseline if lower else goal.baseline) - totals.origin
        return student_posterior(totals.n, totals.z, totals.z2, baseline)
    # Binary outcomes have origin 0; turned round, a failure (1 − y) is the success, and z is −Σy.
    successes = totals.n + totals.z if lower else totals.z
    baseline = None if goal.baseline is None else (1.0 - goal.baseline if lower else goal.baseline)
    return beta_posterior(totals.n, successes, baseline)


def fading(experiment: Experiment, users: IntArray | FloatArray | int, seconds: FloatArray | float) -> FloatArray:
    """Return what one user learned of counts after more users and more time: ½ after a half-life.

    1 where no half-life is declared, and for `fixed` and `explore_then_commit`, which forget nothing.

    Args:
        experiment: Its policy declares a half-life in users or in time, or none.
        users: Users assigned since, at least 0, shape (...).
        seconds: Time since, at least 0, same shape.

    Returns:
        In [0, 1], shape (...): a factor for `Totals.faded`.
    """
    users, seconds = np.broadcast_arrays(users, seconds)
    half_lives = np.zeros(users.shape)
    if experiment.policy.kind not in POLICIES_THAT_REMEMBER:
        if experiment.half_life_users is not None:
            half_lives = users / experiment.half_life_users
        elif experiment.half_life_seconds is not None:
            half_lives = seconds / experiment.half_life_seconds
    return np.asarray(0.5**half_lives, dtype=np.float64)


def allocate(
    experiment: Experiment,
    totals: Totals,
    assigned: FloatArray,
    feasible: FloatArray | None = None,
    suspended: BoolArray | None = None,
) -> FloatArray:
    """Return the probability of each arm for the next epoch.

    Until each arm that is not suspended has been assigned `warmup` users the split is equal; the warm-up counts
    assigned users, so an arm that never answers does not hold it for ever. What a suspended arm, or one that may
    be infeasible, does not get is control's. A suspended arm is out of the contest for the best.

    Args:
        experiment: Policy, floors, warm-up.
        totals: What the closed epochs say, arrays of shape (..., n_arms).
        assigned: Users assigned so far in all epochs, closed or not, same shape.
        feasible: Chance in [0, 1] that each arm meets its guardrails, same shape or one that is repeated, 1 for
            control. It acts on the policy's weights, not on floors, on the warm-up or on `fixed`. None: all 1.
        suspended: Arms that get no users, never control, same shape or one that is repeated; None: no arm is.

    Returns:
        Shape (..., n_arms), summing to 1; exactly 0 for suspended arms.
    """
    policy = policy_of(experiment)
    suspended = None if suspended is None or not suspended.any() else np.broadcast_to(suspended, assigned.shape)
    feasible = None if feasible is None or np.all(feasible == 1.0) else feasible
    split = policy.split if isinstance(policy, Fixed) else 1.0 / experiment.n_arms
    start = np.full(assigned.shape, split, dtype=np.float64)
    reached = assigned
    if suspended is not None:
        start = with_floors(start, np.zeros(experiment.n_arms), suspended, experiment.control)
        reached = np.where(suspended, np.inf, assigned)
        feasible = np.where(suspended, 0.0, 1.0 if feasible is None else feasible)
    warm = reached.min(axis=-1) >= experiment.policy.warmup
    if isinstance(policy, Fixed) or not warm.any():
        return start
    weights = policy.allocate(posterior_of(experiment, totals), totals.assigned.sum(axis=-1), feasible)
    rest = None if feasible is None else experiment.control
    p = with_floors(weights, np.asarray(experiment.floors), suspended, rest)
    return np.where(warm[..., np.newaxis], p, start)
