"""Whether the data are what they should be: users by arm, users with an outcome, means over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.inference.drift import drift_p_values
from bandit.inference.observed import Observed
from bandit.inference.sample_ratio import log_e_sample_ratio
from bandit.inference.shares import data_check_level
from bandit.report.comparisons import Evidence
from bandit.report.document import ArmCheck, Checks
from bandit.report.numbers import e_value

DRIFT_LEVEL = 0.01
"""A mean is said to have moved where chance alone would show as much in one of so many experiments."""


def data_checks(
    experiment: Experiment, history: History, goal: Observed, response: Observed, found: Evidence
) -> Checks:
    """Return the checks.

    Args:
        experiment: Control, alpha, rule for missing outcomes.
        history: What happened.
        goal: The goal, from `observe`.
        response: From `observe_response`.
        found: From `evidence` of the response.
    """
    drifting = drift_p_values(goal) < DRIFT_LEVEL / experiment.n_arms
    drift = tuple(key for key, moved in zip(experiment.arms, drifting, strict=True) if moved)
    if history.probabilities is None:
        return Checks((), (), (), experiment.missing == "ignore", (), drift)
    everyone = history.ledger.assigned.astype(np.float64)
    assigned = _ratio(experiment, everyone, history.probabilities)
    with_outcome = _ratio(experiment, response.z, response.p)
    answered = _response(experiment, response, found)
    matters = experiment.missing == "ignore"
    return Checks(
        assigned=assigned,
        with_outcome=with_outcome,
        response=answered,
        response_matters=matters,
        fix_first=_fix_first(experiment, history.unit, assigned, (*with_outcome, *answered) if matters else ()),
        drift=drift,
    )


def _ratio(experiment: Experiment, users: FloatArray, p: FloatArray) -> tuple[ArmCheck, ...]:
    """Return users of each arm against their probabilities, at all looks so far."""
    most = log_e_sample_ratio(users, p).max(axis=0, initial=0.0)
    expected = (users.sum(axis=1, keepdims=True) * p).sum(axis=0)
    limit = -math.log(data_check_level(experiment, experiment.n_arms))
    return tuple(
        ArmCheck(key, int(users[:, arm].sum()), float(expected[arm]), e_value(most[arm]), bool(most[arm] >= limit))
        for arm, key in enumerate(experiment.arms)
    )


def _response(experiment: Experiment, response: Observed, found: Evidence) -> tuple[ArmCheck, ...]:
    """Return users with a goal value of each treatment against control's response, at all looks so far."""
    if found.log_higher is None or found.log_lower is None:
        return ()
    control = experiment.control
    both = np.logaddexp(found.log_higher, found.log_lower) - math.log(2.0)
    most = both.max(axis=0, initial=0.0)
    users, answers = response.n.sum(axis=0), response.z.sum(axis=0)
    rate = answers[control] / users[control] if users[control] > 0 else 0.0
    limit = -math.log(data_check_level(experiment, experiment.n_arms - 1))
    return tuple(
        ArmCheck(key, int(answers[arm]), float(users[arm] * rate), e_value(most[arm]), bool(most[arm] >= limit))
        for arm, key in enumerate(experiment.arms)
        if arm != control
    )


def _fix_first(
    experiment: Experiment, unit: str, assigned: Sequence[ArmCheck], answered: Sequence[ArmCheck]
) -> tuple[str, ...]:
    """Return what has to be put right, in words."""
    odd = [check for check in assigned if check.flagged]
    found = [
        f"{check.variant} has {check.users:,} {unit}s where its probabilities make {check.expected:,.0f}: assignment "
        "is not what was recorded, or users got lost"
        for check in [check for check in odd if check.users < check.expected] or odd
    ]
    if found:
        return tuple(found)  # lost users have no outcome either: the same fault is named once
    lost = {check.variant: check for check in answered if check.flagged}
    return tuple(
        f"{check.variant} has {check.users:,} {unit}s with a value of {experiment.goal.metric} where "
        f"{check.expected:,.0f} would be expected: outcomes go missing by variant, and those that are left compare "
        "other people"
        for check in lost.values()
    )
