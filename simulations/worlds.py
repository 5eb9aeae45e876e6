"""Worlds: the truth about every variant, and draws from it, of whole epochs or of single users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.experiment import Experiment, Guardrail
from bandit.ledger import GOAL
from bandit.limits import limit_of
from bandit.measures import first_origin, guardrail_measure, measures_of, metric_bounds
from simulations.calendar import Calendar
from simulations.laws import Bounds, Law, between
from simulations.outcomes import Metric, Numbers, Outcomes, Phase, Successes

__all__ = ["Change", "Numbers", "Outcomes", "Successes", "World"]

_ROUNDING = 1e-9
"""A level beyond its limit by this part of it is at the limit: shares above a value are computed, not declared."""


@dataclass(frozen=True)
class Change:
    """From some user on, other laws.

    Attributes:
        after_users: How many users of all variants a run has had when it comes, 1 or more.
        laws: As in `World`, whole: those that do not change too.
    """

    after_users: int
    laws: Mapping[str, tuple[Law, ...]]


STEPS = 20
"""Steps in which a gradual change is made."""


def gradual(before: Mapping[str, tuple[Law, ...]], after: Change, over: int) -> tuple[Change, ...] | None:
    """Return a change in equal steps instead of at once; None if a law changes its kind, which has no middle.

    Args:
        before: The laws before it.
        after: What it leads to, and when it begins.
        over: Users whom it takes, 1 or more.
    """
    steps = min(STEPS, over)
    found = []
    for step in range(steps):
        share = (step + 0.5) / steps
        laws: dict[str, tuple[Law, ...]] = {}
        for metric, new in after.laws.items():
            mixed = [between(old, own, share) for old, own in zip(before[metric], new, strict=True)]
            if None in mixed:
                return None
            laws[metric] = tuple(law for law in mixed if law is not None)
        found.append(Change(after.after_users + step * over // steps, laws))
    return (*found, Change(after.after_users + over, after.laws))


@dataclass(frozen=True)
class World:
    """The truth about the variants of one experiment.

    Attributes:
        experiment: Whose variants and metrics it is about.
        laws: For each simulated metric one law per arm, in the order of `experiment.arms`.
        changes: What becomes of them, in order.
        calendar: When users come and answer; None: the world has no clock.
        correlations: How metrics of a visit go together, for pairs of metrics, in (−1, 1): the correlation of their
            normal scores (a Gaussian copula); pairs that are absent are independent. Rehearsals alone draw them so.
    """

    experiment: Experiment
    laws: Mapping[str, tuple[Law, ...]]
    changes: tuple[Change, ...] = ()
    calendar: Calendar | None = None
    correlations: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def stretches(self) -> tuple[World, ...]:
        """The world before the first change, and after each, as worlds that do not change; there is at least one."""
        laws = (self.laws, *(change.laws for change in self.changes))
        return tuple(replace(self, laws=each, changes=()) for each in laws)

    def until(self, users: int) -> World:
        """Return the world as far as so many users of a run see it: without changes that come after them."""
        return replace(self, changes=tuple(change for change in self.changes if change.after_users < users))

    @property
    def not_simulated(self) -> tuple[str, ...]:
        """Guardrail metrics that this world says nothing about, in file order."""
        every = dict.fromkeys(guardrail.metric for guardrail in self.experiment.guardrails)
        return tuple(metric for metric in every if metric not in self.laws)

    @property
    def simulated(self) -> tuple[Guardrail, ...]:
        """The guardrails whose metric has a law."""
        return tuple(g for g in self.experiment.guardrails if g.metric in self.laws)

    @property
    def means(self) -> FloatArray:
        """Expected goal outcome of a user per arm, cut as the goal says, shape (n_arms,), unit of the metric."""
        goal = self.experiment.goal
        bounds = Bounds(*metric_bounds(self.experiment, goal.metric))
        return np.array([bounds.mean(law, goal.cap) for law in self.laws[goal.metric]])

    @property
    def outcomes(self) -> Outcomes:
        """Goal outcomes of whole epochs, before any change."""
        return _goal_outcomes(self, _origins(self)[GOAL])

    def phases(self, *, guarded: bool = True) -> tuple[Phase, ...]:
        """Return what happens to users, before the first change and after each.

        Args:
            guarded: Whether guardrails are looked at; False: the goal alone is drawn.
        """
        origins = _origins(self)
        starts = (0, *(change.after_users for change in self.changes))
        return tuple(
            Phase(first, _goal_outcomes(world, origins[GOAL]), _guarded(world, origins) if guarded else ())
            for first, world in zip(starts, self.stretches, strict=True)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What in this world may not be what its author thinks, one sentence each."""
        goal = self.experiment.goal
        declared = np.array([law.mean for law in self.laws[goal.metric]])
        if np.allclose(declared, self.means, rtol=1e-6, atol=0.0):
            return ()
        cut = ", ".join(f"{arm} {mean:.6g}" for arm, mean in zip(self.experiment.arms, self.means, strict=True))
        return (f"outcomes of '{goal.metric}' are cut to goal.range and goal.cap; their true means are then {cut}",)

    def guardrail_means(self, guardrail: Guardrail) -> FloatArray:
        """Expected outcome of a user on a guardrail per arm: a rate, a mean, or a share above a value.

        Args:
            guardrail: One of `simulated`.

        Returns:
            Shape (n_arms,).
        """
        measure = measures_of(self.experiment)[guardrail_measure(self.experiment, guardrail)]
        bounds = Bounds(*metric_bounds(self.experiment, guardrail.metric))
        laws = self.laws[guardrail.metric]
        if measure.above is not None:
            return np.array([bounds.above(law, measure.above) for law in laws])
        return np.array([bounds.mean(law, measure.cap) for law in laws])

    def breaks(self, guardrail: Guardrail) -> BoolArray:
        """Whether the true level of each arm is beyond a limit, shape (n_arms,).

        Args:
            guardrail: One of `simulated`; a relative one is never broken by control.
        """
        limit, level = limit_of(guardrail), self.guardrail_means(guardrail)
        bar = limit.declared * (level[self.experiment.control] if limit.is_relative else 1.0)
        beyond = bar - level if limit.above else level - bar
        return np.asarray(beyond > _ROUNDING * abs(bar))

    @property
    def broken(self) -> BoolArray:
        """Whether each arm truly breaks a limit, shape (n_arms,)."""
        every = [self.breaks(guardrail) for guardrail in self.simulated]
        return np.any(every, axis=0) if every else np.zeros(self.experiment.n_arms, dtype=bool)

    @property
    def correlation_matrix(self) -> FloatArray:
        """Correlations of normal scores between the metrics of `laws`, in their order, shape (n_metrics, n_metrics)."""
        place = {metric: index for index, metric in enumerate(self.laws)}
        matrix = np.eye(len(place))
        for (one, other), rho in self.correlations.items():
            matrix[place[one], place[other]] = matrix[place[other], place[one]] = rho
        return matrix

    def user(self, rng: np.random.Generator, arm: str) -> dict[str, float]:
        """Return what happens to one user of a variant before any change: one value per simulated metric."""
        index = self.experiment.arm(arm)
        values: dict[str, float] = {}
        for metric, laws in self.laws.items():
            bounds = Bounds(*metric_bounds(self.experiment, metric))
            values[metric] = float(np.clip(laws[index].draw(rng, 1)[0], bounds.low, bounds.high))
        return values


def _origins(world: World) -> list[float]:
    """Return the origin of each measure.

    Without a declared origin the running engine takes its first outcome; any one near the means gives the same
    numbers, since they do not depend on it.
    """
    experiment = world.experiment
    found = []
    for index, measure in enumerate(measures_of(experiment)):
        origin, laws = first_origin(experiment, index), world.laws.get(measure.metric)
        if origin is None and laws is not None:
            bounds = Bounds(*metric_bounds(experiment, measure.metric))
            origin = float(np.mean([bounds.mean(law, measure.cap) for law in laws]))
        found.append(origin or 0.0)
    return found


def _goal_outcomes(world: World, origin: float) -> Outcomes:
    goal = world.experiment.goal
    laws = world.laws[goal.metric]
    if goal.kind == "binary":
        return Successes(np.array([law.mean for law in laws]))
    bounds = Bounds(*metric_bounds(world.experiment, goal.metric))
    high = bounds.high if goal.cap is None else min(bounds.high, goal.cap)
    return Numbers(laws, Bounds(bounds.low, high), origin)


def _guarded(world: World, origins: list[float]) -> tuple[Metric, ...]:
    """Return the metrics of all guardrails that are simulated, each with every measure of it."""
    experiment = world.experiment
    measures = measures_of(experiment)
    found = []
    for metric in dict.fromkeys(guardrail.metric for guardrail in world.simulated):
        places = tuple(index for index, measure in enumerate(measures) if measure.metric == metric)
        bounds = Bounds(*metric_bounds(experiment, metric))
        own = tuple(measures[place] for place in places)
        found.append(Metric(world.laws[metric], bounds, places, own, tuple(origins[place] for place in places)))
    return tuple(found)
