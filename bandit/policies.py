"""Policies: posterior -> probability per arm.

A policy is a small frozen value with one pure method. Floors are put on afterwards (`bandit.allocation`),
on every policy but `Fixed`. Ties are broken evenly, so the order of arms never matters. Arms that may be chosen
with a chance q only get less; what that leaves is control's and is put there afterwards, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.best_arm import probability_best
from bandit.experiment import Experiment
from bandit.posteriors import Posterior

_INDISTINCT = 1e-8  # well above the error of P(best)


class Policy(Protocol):
    """A rule from what is known to a probability per arm."""

    def allocate(self, posterior: Posterior, n_users: FloatArray, feasible: FloatArray | None = None) -> FloatArray:
        """Return a probability per arm.

        Args:
            posterior: Arrays of shape (..., n_arms).
            n_users: Users that the posterior has read, shape (...).
            feasible: Chance q in [0, 1] that each arm may be chosen at all, shape (..., n_arms) or one that is
                repeated, with at least one 1 in each row (control); None: all 1.

        Returns:
            Shape (..., n_arms), non-negative, summing to 1; with `feasible` to at most 1, and 0 for q = 0.
        """
        ...


def evenly(among: BoolArray) -> FloatArray:
    """Return equal probabilities for the marked arms (at least one), shape (..., n_arms)."""
    return np.asarray(among / among.sum(axis=-1, keepdims=True), dtype=np.float64)


def largest(values: FloatArray) -> FloatArray:
    """Return all probability on the arm with the largest value, shared evenly by ties."""
    return evenly(values == values.max(axis=-1, keepdims=True))


def _able(values: FloatArray, feasible: FloatArray | None) -> FloatArray:
    """Return the values with −inf for arms that cannot be chosen at all, so that another one leads."""
    return values if feasible is None else np.where(feasible > 0.0, values, -np.inf)


def _times(weights: FloatArray, feasible: FloatArray | None) -> FloatArray:
    """Return weights times chances, of which None are all 1."""
    return weights if feasible is None else weights * feasible


@dataclass(frozen=True, slots=True)
class Fixed:
    """The declared split, whatever the data say and however likely an arm may be chosen: the classical A/B test.

    Attributes:
        split: Probability of each arm, summing to 1.
    """

    split: tuple[float, ...]

    def allocate(
        self,
        posterior: Posterior,
        n_users: FloatArray,  # noqa: ARG002 (reads no data)
        feasible: FloatArray | None = None,  # noqa: ARG002 - all policies are asked alike
    ) -> FloatArray:
        """Return the split."""
        return np.broadcast_to(np.asarray(self.split), posterior.mean.shape)


@dataclass(frozen=True, slots=True)
class Thompson:
    """Thompson sampling by its law: each arm's probability of being the best.

    Drawing an arm from these probabilities is the same as drawing a mean from each posterior and taking the
    largest. Reference: Thompson (1933); Scott (2010), A modern Bayesian look at the multi-armed bandit.
    """

    def allocate(
        self,
        posterior: Posterior,
        n_users: FloatArray,  # noqa: ARG002 - all policies are asked alike
        feasible: FloatArray | None = None,
    ) -> FloatArray:
        """Return P(best) among the arms that may be chosen."""
        return probability_best(posterior, feasible)


@dataclass(frozen=True, slots=True)
class TopTwo:
    """Top-two Thompson sampling: with 1 − beta the draw goes to the challenger, a second, other winner.

    Reference: Russo (2016), Simple Bayesian algorithms for best-arm identification.

    Attributes:
        beta: Probability of playing the first winner, in (0, 1). With two arms, 1/2 is the equal split.
    """

    beta: float

    def allocate(
        self,
        posterior: Posterior,
        n_users: FloatArray,  # noqa: ARG002 - all policies are asked alike
        feasible: FloatArray | None = None,
    ) -> FloatArray:
        """Return q_k w_k (beta + (1 − beta) Σ_{j≠k} w_j / (1 − w_j)), w = P(best) among the arms that may be chosen.

        Times the chance q_k to be chosen at all: as the only challenger an arm would else keep 1 − beta however slim
        its chance is.
        """
        able = None if feasible is None else (feasible > 0.0).astype(np.float64)
        win = probability_best(posterior, able)
        n_arms = win.shape[-1]
        others = 1.0 - np.eye(n_arms)
        among = np.ones(n_arms) if able is None else able
        # Challengers whose chances are below what P(best) can tell apart share alike, without a jump.
        challenge = win @ others + (among @ others) * _INDISTINCT
        lead = np.divide(win, challenge, out=np.zeros_like(win), where=challenge > 0.0)
        challenger = (win + among * _INDISTINCT) * (lead @ others)
        return _times(np.asarray(self.beta * win + (1.0 - self.beta) * challenger, dtype=np.float64), feasible)


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """All but epsilon on the largest posterior mean, epsilon on all arms alike.

    Attributes:
        epsilon: Share that explores, in [0, 1].
    """

    epsilon: float

    def allocate(
        self,
        posterior: Posterior,
        n_users: FloatArray,  # noqa: ARG002 - all policies are asked alike
        feasible: FloatArray | None = None,
    ) -> FloatArray:
        """Return (1 − epsilon) on the best mean, epsilon spread evenly."""
        best = largest(_able(posterior.mean, feasible))
        weights = (1.0 - self.epsilon) * best + self.epsilon / best.shape[-1]
        return _times(np.asarray(weights, dtype=np.float64), feasible)


@dataclass(frozen=True, slots=True)
class BayesUCB:
    """All on the arm with the largest 1 − 1/(1 + n) posterior quantile; one rule for rates and means.

    Reference: Kaufmann, Cappé, Garivier (2012), On Bayesian upper confidence bounds for bandit problems.
    """

    def allocate(self, posterior: Posterior, n_users: FloatArray, feasible: FloatArray | None = None) -> FloatArray:
        """Return 1 on the largest upper quantile."""
        level = 1.0 - 1.0 / (1.0 + np.maximum(n_users, 1.0))
        return _times(largest(_able(posterior.quantile(level[..., np.newaxis]), feasible)), feasible)


@dataclass(frozen=True, slots=True)
class ExploreThenCommit:
    """The equal split for a number of users, then for good the arm with the largest posterior mean.

    The commitment is for good because later users are not read: see `reads`.

    Attributes:
        explore_users: Users whose outcomes decide, at least 1.
    """

    explore_users: int

    def allocate(self, posterior: Posterior, n_users: FloatArray, feasible: FloatArray | None = None) -> FloatArray:
        """Return the equal split until enough users have been read, then 1 on the best mean."""
        best = largest(_able(posterior.mean, feasible))
        exploring = np.asarray(n_users)[..., np.newaxis] < self.explore_users
        return _times(np.where(exploring, 1.0 / best.shape[-1], best), feasible)


def reads(policy: Policy, n_users: FloatArray) -> BoolArray:
    """Say whether a policy that has read this many users reads further epochs, shape (...)."""
    limit = policy.explore_users if isinstance(policy, ExploreThenCommit) else np.inf
    return np.asarray(n_users < limit)


def policy_of(experiment: Experiment) -> Policy:
    """Return the policy that an experiment declares."""
    settings = experiment.policy
    match settings.kind:
        case "fixed":
            return Fixed(experiment.split)
        case "thompson":
            return Thompson()
        case "top_two":
            return TopTwo(settings.beta)
        case "epsilon_greedy":
            return EpsilonGreedy(settings.epsilon)
        case "ucb":
            return BayesUCB()
        case "explore_then_commit":
            return ExploreThenCommit(settings.explore_users)
