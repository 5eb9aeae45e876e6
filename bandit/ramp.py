"""Who is let in: the share of users in the experiment, step by step up a canary ramp.

The ramp acts on who is enrolled, at a user's first visit only: probabilities inside the experiment, and with them all
inference, stay as they are, and a step in either direction moves nobody who is in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.measures import N, guardrail_measure

LEAST_CHANCE = 0.5
"""No step up while an arm's chance to keep its limits, relative to the prior, is below this."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """Where an experiment is on its ramp.

    Attributes:
        step: Index among `rollout.ramp`; 0 without a ramp.
        first_epoch: Number of the first epoch on this step.
        since: When it began, seconds of the experiment's clock.
        by_hand: Share of users that a person set; None: the ramp, or else `rollout.exposure`, decides.
    """

    step: int = 0
    first_epoch: int = 1
    since: float = 0.0
    by_hand: float | None = None

    def exposure(self, experiment: Experiment) -> float:
        """Return the share of users that is let in now, in [0, 1]."""
        rollout = experiment.rollout
        if self.by_hand is not None:
            return self.by_hand
        return rollout.exposure if rollout.ramp is None else min(rollout.exposure, rollout.ramp[self.step])

    def next_step(self, experiment: Experiment) -> int | None:
        """Return the step above; None at the top, without a ramp, or while a person has set the share."""
        ramp = experiment.rollout.ramp
        return None if ramp is None or self.by_hand is not None or self.step + 1 >= len(ramp) else self.step + 1


def what_holds(experiment: Experiment, history: History, ramp: Ramp, feasible: FloatArray, now: float | None) -> str:
    """Return why the next step is not taken yet, in words; empty if nothing holds it.

    A step needs its least time, enough users of each treatment with a value of every guardrail (without guardrails:
    users assigned), and no treatment that may well break a limit. With nothing on it a ramp does not climb.

    Args:
        experiment: Its ramp.
        history: All epochs.
        ramp: Where it is, not at the top.
        feasible: Chance of each arm to keep its limits, relative to the prior, shape (n_arms,).
        now: Seconds of the experiment's clock; None: there is none, and no least time.
    """
    if now is not None and now - ramp.since < experiment.ramp_after_seconds:
        return f"the least time on a step ({experiment.rollout.ramp_after}) is not over"
    since = slice(ramp.first_epoch - 1, None)
    wanted = experiment.rollout.ramp_users
    sums = history.ledger.sums
    counted = [
        (f" with a value of {rail.metric}", sums[guardrail_measure(experiment, rail)][since, :, N].sum(axis=0))
        for rail in experiment.guardrails
    ] or [("", history.ledger.assigned[since].sum(axis=0).astype(np.float64))]
    treatments = [each for each in history.generations_of(experiment.n_arms) if each.arm != experiment.control]
    going_on = [generation.arm for generation in treatments if generation.ended is None]
    for arm in going_on:
        for what, users in counted:
            if users[arm] < wanted:
                return f"{experiment.arms[arm]} has {int(users[arm])} of {wanted} users{what} on this step"
        if feasible[arm] < LEAST_CHANCE:
            return (
                f"{experiment.arms[arm]} may break a limit: it keeps all with {feasible[arm]:.2g} of the prior's chance"
            )
    return "" if going_on else "no variant but control gets users"
