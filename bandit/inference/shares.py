"""Who may err how often: shares of alpha, fixed before the first user.

The treatments present at the start share 0.8 alpha equally; the rest is kept for those that join later. Half of
an arm's share bounds a wrong "better" and half a wrong "worse"; its guardrails divide the share again.
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.generations import AT_START, Generation
from bandit.history import History

PLANNED_USERS = 10_000
"""The any-time interval is tuned to so many users where no horizon is declared in users."""


def arm_share(experiment: Experiment) -> float:
    """Return the share of alpha of each treatment: the any-time interval has level 1 − share."""
    return AT_START * experiment.policy.alpha / (experiment.n_arms - 1)


def arm_shares(experiment: Experiment, history: History) -> FloatArray:
    """Return the share of alpha of each arm's generation, shape (n_arms,); control's own means nothing."""
    return np.array([generation.share(experiment) for generation in history.generations_of(experiment.n_arms)])


def decision_level(experiment: Experiment) -> float:
    """Return b, half of a treatment's share: an e-value of 1/b decides one side."""
    return arm_share(experiment) / 2.0


def guardrail_share(experiment: Experiment) -> float:
    """Return the share of one guardrail of one treatment; one more guardrail of every arm is its response."""
    return arm_share(experiment) / (len(experiment.guardrails) + 1)


def breach_level(experiment: Experiment) -> float:
    """Return the level at which a breach is declared: the first limit and the first window of a guardrail.

    The i-th limit gets 1/(i(i + 1)) of the guardrail's share and the d-th window 1/(d(d + 1)) of that, so that a
    changed limit and a returning user have a share left.
    """
    return guardrail_share(experiment) / 4.0


def breach_level_of(experiment: Experiment, generation: Generation) -> float:
    """Return the same for one generation of an arm."""
    return generation.share(experiment) / (len(experiment.guardrails) + 1) / 4.0


def breach_levels(experiment: Experiment, history: History) -> FloatArray:
    """Return the same for each arm's generation, shape (n_arms,)."""
    return np.array([breach_level_of(experiment, each) for each in history.generations_of(experiment.n_arms)])


def fixed_time_level(experiment: Experiment) -> float:
    """Return alpha/(K − 1), the level of the fixed-time intervals: one look, all arms against control."""
    return experiment.policy.alpha / (experiment.n_arms - 1)


def planned_users(experiment: Experiment) -> float:
    """Return for how many users of all arms any-time intervals are tightest: half of the horizon."""
    horizon = experiment.analysis.horizon_users
    return PLANNED_USERS if horizon is None else horizon / 2.0


def planned_pair_users(experiment: Experiment) -> float:
    """Return the same for the users of one arm and control together, on an equal split."""
    return planned_users(experiment) * 2.0 / experiment.n_arms


def data_check_level(experiment: Experiment, tests: int) -> float:
    """Return the level of one of so many tests of one data check: three checks share alpha.

    They are the sample ratio of assigned users, that of users with an outcome, and response against control. Their
    errors come on top of those of decisions, but a false flag deploys nothing.
    """
    return experiment.policy.alpha / (3.0 * tests)
