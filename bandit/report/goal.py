"""What decides on the goal: e-values for better and for worse, and whether a gain that matters is ruled out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.inference.any_time import any_time
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.observed import Observed
from bandit.inference.shares import arm_shares, planned_pair_users
from bandit.report.comparisons import Evidence


@dataclass(frozen=True, slots=True)
class GoalEvidence:
    """Each arm against control, arrays of shape (n_arms,); "better" is the direction that the goal declares.

    Attributes:
        log_better: ln E against "at no time better than control".
        log_worse: ln E against "at no time worse than control".
        too_small: Whether the any-time interval excludes a gain of `mde`.
        gain: Shared-weight estimate of the difference, positive is better; nan without data.
        gain_to_mde: The same of arm − (1 ± mde) × control: below 0 where the gain is smaller than `mde`.
        exact: Whether the e-values are exact.
    """

    log_better: FloatArray
    log_worse: FloatArray
    too_small: BoolArray
    gain: FloatArray
    gain_to_mde: FloatArray
    exact: bool


def goal_evidence(experiment: Experiment, history: History, observed: Observed, found: Evidence) -> GoalEvidence | None:
    """Return what decides on the goal after the last closed epoch; None without propensities or closed epochs.

    Exact bets where outcomes are bounded (`exact.py`), else the confidence sequence; which one is fixed by the
    declaration of the goal, before the first user.

    Args:
        experiment: Control, direction, mde, levels.
        history: Its generations.
        observed: The goal.
        found: From `evidence` of it.
    """
    scores, sequence = found.scores, found.any_time
    if scores is None or sequence is None:
        return None
    shares, planned = arm_shares(experiment, history), planned_pair_users(experiment)
    sign = 1.0 if experiment.goal.better == "higher" else -1.0
    if found.log_higher is not None and found.log_lower is not None:
        higher, lower, exact = found.log_higher[-1], found.log_lower[-1], observed.exact
    else:
        last, readable = scores.at(-1), sequence.readable[-1]
        z = np.divide(last.difference(), last.standard_error(), out=np.zeros_like(last.t), where=readable)
        higher, lower = (
            np.where(readable, one_sided_log_e_value(side * z, last.t, tuning(shares, planned)), 0.0)
            for side in (1.0, -1.0)
        )
        exact = False
    ratio = wanted_ratio(experiment, observed)
    to_mde = any_time(observed, scores, experiment.control, shares, planned, ratio)
    return GoalEvidence(
        higher if sign > 0 else lower,
        lower if sign > 0 else higher,
        np.asarray((to_mde.high[-1] < 0.0) if sign > 0 else (to_mde.low[-1] > 0.0)),
        sign * sequence.difference[-1],
        sign * to_mde.difference[-1],
        exact,
    )


def wanted_ratio(experiment: Experiment, observed: Observed) -> float:
    """Return the ratio of means, arm to control, that a gain of `mde` makes: 1 ± mde.

    Where control's mean is negative, a gain brings the arm's mean nearer to 0 if higher is better.
    """
    n = float(observed.n[..., experiment.control].sum())
    mean = float(observed.z[..., experiment.control].sum()) / n + observed.origin if n > 0 else 1.0
    direction = 1.0 if (experiment.goal.better == "higher") == (mean >= 0.0) else -1.0
    return 1.0 + direction * experiment.goal.mde
