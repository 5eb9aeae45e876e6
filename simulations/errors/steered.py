"""Runs in which a limit relative to control steers the allocation, epoch by epoch, as in the product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.engine import allocate, learn
from bandit.experiment import Experiment
from bandit.inference.breaches import feasible_by_e, log_e_of_bets
from bandit.inference.exact import log_wealths_above_ratio
from bandit.inference.observed import Observed
from bandit.inference.restarts import starts
from bandit.learning import Totals, totals_of
from bandit.limits import Limit
from bandit.measures import Z2, Z3, N, Z
from simulations.errors.breach_looks import ArmLooks
from simulations.errors.records import epoch_ends
from simulations.errors.worlds import Truth
from simulations.records import moments_of


@dataclass(frozen=True, slots=True)
class Relative:
    """A `max_increase` and the law of its metric.

    Attributes:
        limit: Of the guardrail.
        truth: Draws the metric; everybody has a value.
        bounds: Least and largest outcome.
        fractional: Whether outcomes lie between them.
    """

    limit: Limit
    truth: Truth
    bounds: tuple[float, float]
    fractional: bool


def observed_sums(
    p: FloatArray, sums: FloatArray, bounds: tuple[float, float] | None, *, fractional: bool = False
) -> Observed:
    """Return what inference reads of a metric of which everybody has a value.

    Args:
        p: Shape (..., n_epochs, n_arms).
        sums: Of 1, y, y², y³, shape (..., n_epochs, n_arms, 4).
        bounds: Least and largest outcome, or None.
        fractional: Whether outcomes lie between them.
    """
    n, z, z2, z3 = (sums[..., place] for place in (N, Z, Z2, Z3))
    return Observed(p, n, z, z2, z3, 0.0, bounds, True, fractional)


@dataclass(frozen=True, slots=True)
class SteeredRuns:
    """What came of them, arrays of shape (n_runs, n_epochs, n_arms, …).

    Attributes:
        p: Probability of each arm.
        assigned: Users assigned.
        sums: Of the limited metric: 1, y, y², y³.
        bets: What each epoch added to the log-wealths of bets against "the limit is kept".
    """

    p: FloatArray
    assigned: IntArray
    sums: FloatArray
    bets: FloatArray

    def looks(self, arm: int) -> ArmLooks:
        """Return the looks of an arm at the end of every epoch."""
        wealth = np.cumsum(self.bets[:, :, arm], axis=1)
        before = np.concatenate([np.zeros_like(wealth[:, :1]), wealth], axis=1)
        found = [starts(run.astype(np.float64), 0) for run in self.assigned[..., arm]]
        begins = np.full((max(map(len, found)), len(found)), wealth.shape[1])
        for run, at in enumerate(found):
            begins[: len(at), run] = at
        runs = np.arange(len(found))

        def since(start: int) -> FloatArray:
            return np.asarray(wealth - before[runs, begins[start]][:, np.newaxis])

        return ArmLooks(since, begins, np.ones(wealth.shape[:2], dtype=bool))


def steered_runs(
    experiment: Experiment, goal: Truth, rail: Relative, users: int, runs: int, seeds: np.random.SeedSequence
) -> SteeredRuns:
    """Run an experiment many times at once; the chance that the limit is kept shrinks what an arm gets.

    What breaks the limit goes on, so that the first breach can be looked for afterwards.

    Args:
        experiment: Policy, floors, schedule.
        goal: Draws the goal; everybody has a value at once.
        rail: The limit.
        users: Of each run.
        runs: How many.
        seeds: Three children are spawned.
    """
    assigning, answering, limiting = (np.random.default_rng(child) for child in seeds.spawn(3))
    ends = epoch_ends(experiment.policy, users)
    control, shape = experiment.control, (runs, experiment.n_arms)
    learned = Totals.nothing(shape)
    before, earlier_sums = np.zeros(shape), np.zeros((*shape, 4))
    wealth, feasible = np.zeros(1), np.ones(shape)
    every: list[tuple[FloatArray, IntArray, FloatArray, FloatArray]] = []
    for size, moment in zip(np.diff(ends, prepend=0), moments_of(ends), strict=True):
        p = allocate(experiment, learned, before, feasible)
        drawn = assigning.multinomial(int(size), p)
        sums = rail.truth.draw(limiting, drawn, float(moment))
        # A bet knows of earlier epochs no more than their sums: they may be read as one.
        both = observed_sums(
            np.stack([p, p], axis=1),
            np.stack([earlier_sums, sums], axis=1),
            rail.bounds,
            fractional=rail.fractional,
        )
        running = np.moveaxis(log_wealths_above_ratio(both, control, rail.limit.declared), 0, -1)
        bets = running[:, 1] - running[:, 0]
        every.append((p, drawn, sums, bets))
        values = goal.draw(answering, drawn, float(moment))
        learned = learn(experiment, learned, totals_of(experiment, drawn, values, 0.0))
        before, earlier_sums, wealth = before + drawn, earlier_sums + sums, wealth + bets
        feasible = feasible_by_e(log_e_of_bets(wealth))
        feasible[:, control] = 1.0
    p, assigned, sums, bets = (np.stack(part, axis=1) for part in zip(*every, strict=True))
    return SteeredRuns(p, assigned, sums, bets)
