"""What is summed about users: a measure is a metric, how a call counts, and how calls make one outcome.

A user counts once: all calls of a user on a measure make one outcome. An outcome enters the ledger as the
fixed transforms of `Measure.transforms`, which add up over users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bandit.experiment import Experiment, Goal, Guardrail
from bandit.experiment_parts import INTERACTION_FIELDS

FAILED = "failed"
"""The built-in binary metric: this call crashed or timed out."""

BETTING_FRACTIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.6)
"""Stakes of the betting e-process for a mean against a limit (a mixture over them is taken)."""

N, Z, Z2, Z3 = range(4)
"""Places of the first transforms in a ledger row: 1, z, z², z³ with z = outcome − origin."""


@dataclass(frozen=True)
class Measure:
    """One column group of the ledger.

    Attributes:
        metric: Name of the metric whose calls feed it.
        kind: "binary" or "numeric".
        per_user: How a user's calls make one outcome: "mean", "first", "any" or "sum".
        above: If set, a call counts 1 where its value is above this limit, else 0.
        cap: If set, the outcome is cut there.
        limit: If set, the limit of a guardrail on a mean; the ledger then also sums the log-wealths of bets
            against it.
        failed: Value of a failed call on this measure; None: it gives no value.
    """

    metric: str
    kind: str
    per_user: str
    above: float | None = None
    cap: float | None = None
    limit: float | None = None
    failed: float | None = None

    @cached_property
    def stakes(self) -> tuple[float, ...]:
        """Betting stakes λ of ln(1 + λ(y/limit − 1)): upward ones, then with a cap the downward ones.

        A downward stake keeps the wealth positive for outcomes up to the cap: |λ| (cap/limit − 1) < 1.
        """
        if self.limit is None:
            return ()
        if self.cap is None:
            return BETTING_FRACTIONS
        room = self.cap / self.limit - 1.0
        return BETTING_FRACTIONS + tuple(-fraction / room for fraction in BETTING_FRACTIONS)

    @property
    def width(self) -> int:
        """Number of transforms that the ledger sums for each (epoch, arm)."""
        return 4 + len(self.stakes)

    def call(self, value: float) -> float:
        """Return what one call with this value counts."""
        if self.above is None:
            return value
        return 1.0 if value > self.above else 0.0

    @cached_property
    def is_plain(self) -> bool:
        """Whether a user's only call is their outcome as it stands."""
        return self.cap is None and (self.per_user != "any" or self.kind == "binary")

    def log_wealths(self, y: float) -> list[float]:
        """Return ln(1 + λ(y/limit − 1)) for each stake λ.

        Source: betting e-process for the mean of a non-negative variable, Waudby-Smith and Ramdas (2024), with
        fixed stakes.
        """
        ratio = 0.0 if self.limit is None else y / self.limit - 1.0
        return [math.log1p(stake * ratio) for stake in self.stakes]

    def transforms(self, y: float, origin: float) -> list[float]:
        """Return what an outcome y adds to the ledger: 1, z, z², z³ and its log-wealths; length `width`."""
        z = y - origin
        return [1.0, z, z * z, z * z * z, *self.log_wealths(y)]


def _goal_measure(goal: Goal) -> Measure:
    worst = None if goal.kind == "numeric" else (0.0 if goal.better == "higher" else 1.0)
    return Measure(goal.metric, goal.kind, goal.per_user, cap=goal.cap, failed=worst)


def _guardrail_measure(guardrail: Guardrail) -> Measure:
    metric, kind, per_user = guardrail.metric, guardrail.kind, guardrail.per_user
    if guardrail.quantile is not None:
        above = guardrail.max if guardrail.at is None else guardrail.at
        return Measure(metric, kind, per_user, above=above, failed=1.0)
    limit = guardrail.max if kind == "numeric" else None
    failed = 1.0 if metric == FAILED else None
    return Measure(metric, kind, per_user, cap=guardrail.cap, limit=limit, failed=failed)


def measures_of(experiment: Experiment) -> tuple[Measure, ...]:
    """Return the measures of an experiment, each once: the goal's first, then the guardrails' in file order."""
    every = [_goal_measure(experiment.goal), *map(_guardrail_measure, experiment.guardrails)]
    return tuple(dict.fromkeys(every))


def guardrail_measure(experiment: Experiment, guardrail: Guardrail) -> int:
    """Return the index of the measure that a guardrail of this experiment reads."""
    return measures_of(experiment).index(_guardrail_measure(guardrail))


def first_origin(experiment: Experiment, measure: int) -> float | None:
    """Return the origin that a measure has from the start, or None: its first accepted outcome will be it.

    Sums of z = y − origin keep their digits when the mean is large against the spread. The origin is 0 for
    0/1 calls, else the goal's baseline, or 0 where a missing outcome counts as 0: an epoch may then have outcomes
    before the first value comes. The middle of a range is no origin: a range may be wide, and with [-1, 1e7] for
    values near 0.02 the variance lost all its digits.
    """
    what, goal = measures_of(experiment)[measure], experiment.goal
    if what.kind == "binary" or what.above is not None:
        return 0.0
    if measure == 0 and goal.baseline is not None:
        return goal.baseline
    if measure == 0 and experiment.missing != "ignore":
        return 0.0
    return None


def metric_kinds(experiment: Experiment) -> Mapping[str, str]:
    """Return every metric that a reward may name, with its kind; "failed" has a field of its own."""
    return {m.metric: m.kind for m in measures_of(experiment) if m.metric != FAILED}


def metric_fields(experiment: Experiment) -> Mapping[str, str]:
    """Return the field of the interaction log that feeds each metric; absent where it has none for it.

    A metric is fed by the field of its own name, or by the one that a guardrail on it names. "failed" is none of them:
    it has a field of its own, as in rewards.
    """
    fields = {experiment.goal.metric: experiment.goal.metric}
    for rail in experiment.guardrails:
        if rail.field is not None or rail.metric not in fields:
            fields[rail.metric] = rail.field_name
    return {metric: field for metric, field in fields.items() if field in INTERACTION_FIELDS and metric != FAILED}


def metric_bounds(experiment: Experiment, metric: str) -> tuple[float, float]:
    """Return the least and the largest value of a metric; infinite where nothing bounds it.

    A goal keeps to its range. A metric is not negative if a guardrail limits its mean, or if outcomes are cut at a cap
    and no range says how low they go: only then has an exact bet on the mean a lower end to rest on.
    """
    goal = experiment.goal
    low, high = goal.range if goal.metric == metric and goal.range is not None else (-math.inf, math.inf)
    cut = goal.metric == metric and goal.cap is not None and goal.range is None
    rails = (rail for rail in map(_guardrail_measure, experiment.guardrails) if rail.metric == metric)
    if cut or any(rail.limit is not None or rail.cap is not None for rail in rails):
        low = max(low, 0.0)
    return low, high


def outcome_bounds(experiment: Experiment, measure_index: int) -> tuple[float, float] | None:
    """Return the least and the largest outcome that a user can have on a measure, unit of the metric.

    Args:
        experiment: Declares range, cap and what a missing outcome counts.
        measure_index: Index among `measures_of(experiment)`.

    Returns:
        (low, high), low < high; None where an outcome may be as low or as high as it likes.
    """
    measure = measures_of(experiment)[measure_index]
    if measure.kind == "binary" or measure.above is not None:
        return 0.0, 1.0
    low, high = metric_bounds(experiment, measure.metric)
    if measure.per_user == "sum":  # of any number of calls
        low, high = 0.0 if low >= 0.0 else -math.inf, math.inf
    if measure.cap is not None:
        high = min(high, measure.cap)
    if measure_index == 0 and experiment.missing == "zero":
        low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
