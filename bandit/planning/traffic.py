"""From users to days: how many come, how many are enrolled and answer, how long a reward and a ramp may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment

DAY = 86_400.0
"""Seconds of a day."""

SMALLEST_EXPOSURE = 1e-9
"""A smaller share of users is no plan."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a number of users takes.

    Attributes:
        enrolled: Users to enrol, those without an outcome included.
        days: Whole days until the last one's reward window is over, rounded up.
        weeks: Whole weeks, `analysis.min_days` respected: traffic on weekdays and weekends differs.
    """

    enrolled: int
    days: int
    weeks: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """The flow of users into an experiment.

    Attributes:
        users_per_day: New users a day, from 1e-6.
        exposure: Share of them that is enrolled, above 0; with a ramp that of its last step.
        response: Share of the enrolled that counts with an outcome, in (0, 1]; 1 where a missing outcome counts
            as a value.
        window_days: Time from a user's assignment until the outcome is final, in days.
        min_days: No "deploy" before.
    """

    users_per_day: float
    exposure: float
    response: float
    window_days: float
    min_days: float

    def enrolment_days(self, users: float) -> float:
        """Return days, not rounded, until so many users have been enrolled."""
        return users / (self.users_per_day * self.exposure)

    def schedule(self, users: float) -> Schedule:
        """Return when so many users with an outcome have been enrolled and their windows are over."""
        enrolled = math.ceil(users / self.response * (1.0 - 1e-12))
        days = math.ceil((self.enrolment_days(enrolled) + self.window_days) * (1.0 - 1e-12))
        return Schedule(enrolled, days, math.ceil(max(days, self.min_days) / 7.0))

    def users_in(self, days: float) -> float:
        """Return users whose outcome is final after so many days, not rounded."""
        return max(days - self.window_days, 0.0) * self.users_per_day * self.exposure * self.response


def ramp_days(experiment: Experiment, traffic: Traffic, shares: Sequence[float]) -> float:
    """Return the days, not rounded, until a ramp enrols as many users as it ever will; 0 without a ramp.

    Each step before lasts `ramp_after`, or longer: until the treatment with the smallest share has `ramp_users`. Time
    until their values are there, and steps back after a breach, come on top.

    Args:
        experiment: Gives the ramp.
        traffic: Gives the users a day.
        shares: Share of each arm, above 0.
    """
    rollout = experiment.rollout
    smallest = min(share for arm, share in enumerate(shares) if arm != experiment.control)
    users, least = rollout.ramp_users / smallest, experiment.ramp_after_seconds / DAY
    earlier = (step for step in rollout.steps if step < rollout.steps[-1])
    return sum(max(users / traffic.users_per_day / step, least) for step in earlier)


def traffic_of(experiment: Experiment, users_per_day: float, response_rate: float | None = None) -> Traffic:
    """Return the traffic of an experiment.

    Args:
        experiment: Gives exposure, reward window, `min_days`, and whether missing outcomes count as a value.
        users_per_day: New users a day before exposure, finite, from 1e-6.
        response_rate: Share of users with an outcome, in (0, 1]; default 1. It changes sizes only where missing
            outcomes are ignored.

    Raises:
        InvalidInput: A number is out of range, or nobody is enrolled.
    """
    exposure = experiment.rollout.steps[-1]
    problems = []
    if not (1e-6 <= users_per_day < math.inf):
        message = f"received {users_per_day:g}, allowed: a finite number above 0, from 1e-6"
        problems.append(Problem("users-per-day", message))
    if experiment.rollout.exposure <= 0:
        problems.append(Problem("rollout.exposure", "is 0: nobody is enrolled; raise it to plan"))
    elif exposure < SMALLEST_EXPOSURE:
        name = "exposure" if experiment.rollout.exposure < SMALLEST_EXPOSURE else "ramp"
        message = f"enrols a share of {exposure:g} in the end, allowed in a plan: from {SMALLEST_EXPOSURE:g}"
        problems.append(Problem(f"rollout.{name}", message))
    if response_rate is not None and not 1e-6 <= response_rate <= 1:
        message = f"received {response_rate:g}, allowed: a share above 0, from 1e-6 to 1"
        problems.append(Problem("response-rate", message))
    if problems:
        raise InvalidInput(problems)
    answered = 1.0 if response_rate is None or experiment.missing != "ignore" else response_rate
    window = 0.0 if experiment.window_seconds is None else experiment.window_seconds / DAY
    return Traffic(users_per_day, exposure, answered, window, experiment.analysis.min_days)
