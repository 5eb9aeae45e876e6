"""The steps from the ledger to an allocation, each a pure function of the one before.

    ledger -> totals -> posterior -> policy -> floors -> probabilities

The service and the simulator call these; neither has a copy. Leading axes are free.
"""

from __future__ import annotations

import numpy as np

from bandit.allocation import with_floors
from bandit.arrays import FloatArray
from bandit.experiment import Experiment
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


def allocate(experiment: Experiment, totals: Totals, assigned: FloatArray) -> FloatArray:
    """Return the probability of each arm for the next epoch.

    Until each arm has been assigned `warmup` users the split is equal; the warm-up counts assigned users,
    so an arm that never answers does not hold it for ever.

    Args:
        experiment: Policy, floors, warm-up.
        totals: What the closed epochs say, arrays of shape (..., n_arms).
        assigned: Users assigned so far in all epochs, closed or not, same shape.

    Returns:
        Shape (..., n_arms), summing to 1.
    """
    policy = policy_of(experiment)
    if isinstance(policy, Fixed):
        return np.broadcast_to(np.asarray(policy.split), assigned.shape).astype(np.float64)
    equal = np.full(assigned.shape, 1.0 / experiment.n_arms)
    warm = assigned.min(axis=-1) >= experiment.policy.warmup
    if not warm.any():
        return equal
    weights = policy.allocate(posterior_of(experiment, totals), totals.assigned.sum(axis=-1))
    p = with_floors(weights, np.asarray(experiment.floors))
    return np.where(warm[..., np.newaxis], p, equal)
