"""What policies are to be measured against: one variant for everybody, and what no policy can beat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray
from bandit.inference.shares import arm_share
from bandit.measures import metric_bounds
from simulations.bounds import best_weights, fewest_users, regret_constant
from simulations.laws import Bounds
from simulations.worlds import World

COST = "cost_usd"
"""The metric by which a variant is the cheapest: the interaction log's name of it."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """One variant for all users of a run.

    Attributes:
        reward_per_user: Expected goal outcome.
        regret: Expected loss against the variant that is best when a user comes, summed over the users of a run.
        breaks_limit: Whether it breaks a limit at any time.
        control: Whether it is control.
        cheapest: Whether no variant costs less, by `cost_usd`; false where the world says nothing of that.
        best_fixed: Whether nobody would have done better with one variant for everybody that is control or breaks no
            limit: the best fixed choice in hindsight.
    """

    reward_per_user: float
    regret: float
    breaks_limit: bool
    control: bool
    cheapest: bool
    best_fixed: bool


def baselines(world: World, users: int) -> Mapping[str, Baseline]:
    """Return by variant what it would be worth to give it to everybody.

    Args:
        world: The truth.
        users: Users of a run.
    """
    experiment, stretches = world.experiment, world.stretches
    starts = [*(min(start, users) for start in (0, *(change.after_users for change in world.changes))), users]
    weights = np.diff(starts) / users
    means = np.array([each.means for each in stretches])
    gains = means if experiment.goal.better == "higher" else -means
    reward, gain = weights @ means, weights @ gains
    regret = users * (weights @ (gains.max(axis=-1, keepdims=True) - gains))
    broken = np.any([each.broken for each in stretches], axis=0)
    broken[experiment.control] = False
    allowed = np.where(broken, -math.inf, gain)
    cost = None
    if COST in world.laws:
        bounds = Bounds(*metric_bounds(experiment, COST))
        cost = weights @ np.array([[bounds.mean(law) for law in each.laws[COST]] for each in stretches])
    return {
        arm: Baseline(
            float(reward[k]), float(regret[k]), bool(broken[k]), k == experiment.control,
            cost is not None and bool(np.isclose(cost[k], cost.min())), bool(np.isclose(allowed[k], allowed.max())),
        )
        for k, arm in enumerate(experiment.arms)
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Floors:
    """What no policy can beat, whatever it does, in a binary world that stands still and in which no limit is broken.

    Attributes:
        regret: C ln T, which the regret of a policy that is good in every world approaches for many users T: Lai and
            Robbins (1985). A policy may have less in one world, or at few users.
        users_to_best: Least expected users until the best variant can be named with an error of at most the level of
            a decision: Garivier and Kaufmann (2016). None where several are best.
    """

    regret: float
    users_to_best: float | None


def floors(world: World, users: int) -> Floors | None:
    """Return the bounds, or None where they say nothing: numeric goals, changes, broken limits, 0 or 1 as rates.

    Args:
        world: The truth.
        users: Users of a run.
    """
    rates = world.means
    if world.experiment.goal.kind != "binary" or world.changes or world.broken.any() or np.ptp(rates) == 0.0:
        return None
    rates = np.sort(rates if world.experiment.goal.better == "higher" else 1.0 - rates)[::-1]
    if rates.min() <= 0.0 or rates.max() >= 1.0:
        return None
    return Floors(regret_constant(rates) * math.log(users), _fewest(world, rates))


def _fewest(world: World, rates: FloatArray) -> float | None:
    """Return the users to the best variant; None if there are several, or the equations have no solution in reach."""
    if np.isclose(rates[0], rates[1], rtol=1e-9, atol=0.0):
        return None
    try:
        return fewest_users(best_weights(rates)[1], arm_share(world.experiment) / 2.0)
    except ValueError:  # rates so far apart, or so near to 0 or 1, that one user says nearly all
        return None
