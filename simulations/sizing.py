"""How many users and days a fixed split needs: `bandit.planning`, turned into a calendar."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.planning import Plan, plan


@dataclass(frozen=True, slots=True)
class Sizing:
    """What an experiment needs under a fixed equal split.

    Attributes:
        plan: Users per variant, for two variants and one look.
        total_users: Users per variant × all variants of the file.
        days: Whole days until they have come, rounded up.
    """

    plan: Plan
    total_users: int
    days: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON contract, schema 1."""
        return {
            "schema": 1,
            "users_per_variant": self.plan.users_per_variant,
            "total_users": self.total_users,
            "days": self.days,
            "effect_size": self.plan.effect_size,
            "cohens_h": self.plan.cohens_h,
            "method": self.plan.method,
        }


def sizing(
    experiment: Experiment,
    users_per_day: float,
    *,
    baseline: float | None = None,
    sd: float | None = None,
    power: float = 0.8,
) -> Sizing:
    """Return users and days; the share `rollout.exposure` of a day's users is enrolled.

    Args:
        experiment: Variants, goal, mde, alpha, exposure.
        users_per_day: New users a day, above 0.
        baseline: Control's mean outcome instead of `goal.baseline`.
        sd: Standard deviation of a user's outcome; numeric goals only.
        power: Probability of finding an effect of the size mde.

    Raises:
        InvalidInput: A number is missing or out of range, or nobody is enrolled.
    """
    exposure = experiment.rollout.exposure
    problems = []
    if not (1e-6 <= users_per_day < math.inf):
        message = f"received {users_per_day:g}, allowed: a finite number above 0, from 1e-6"
        problems.append(Problem("users-per-day", message))
    if exposure <= 0:
        problems.append(Problem("rollout.exposure", "is 0: nobody is enrolled; raise it to plan"))
    if problems:
        raise InvalidInput(problems)
    needed = plan(experiment, baseline, sd, power)
    total = needed.users_per_variant * experiment.n_arms
    return Sizing(needed, total, math.ceil(total / (users_per_day * exposure)))
