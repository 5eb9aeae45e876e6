"""Policies: posterior -> probability per arm.

A policy is a small frozen value with one pure method. Floors are put on afterwards (`bandit.allocation`),
on every policy but `Fixed`. Ties are broken evenly, so the order of arms never matters.
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

    def allocate(self, posterior: Posterior, n_users: FloatArray) -> FloatArray:
        """Return a probability per arm.

        Args:
            posterior: Arrays of shape (..., n_arms).
            n_users: Users that the posterior has read, shape (...).

        Returns:
            Shape (..., n_arms), non-negative, summing to 1.
        """
        ...


def evenly(among: BoolArray) -> FloatArray:
    """Return equal probabilities for the marked arms (at least one), shape (..., n_arms)."""
    return np.asarray(among / among.sum(axis=-1, keepdims=True), dtype=np.float64)


def largest(values: FloatArray) -> FloatArray:
    """Return all probability on the arm with the largest value, shared evenly by ties."""
    return evenly(values == values.max(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Fixed:
    """The declared split, whatever the data say: the classical A/B test.

    Attributes:
        split: Probability of each arm, summing to 1.
    """

    split: tuple[float, ...]

    def allocate(self, posterior: Posterior, n_users: FloatArray) -> FloatArray:  # noqa: ARG002 (reads no data)
        """Return the split."""
        return np.broadcast_to(np.asarray(self.split), posterior.mean.shape)


@dataclass(frozen=True, slots=True)
class Thompson:
    """Thompson sampling by its law: each arm's probability of being the best.

    Drawing an arm from these probabilities is the same as drawing a mean from each posterior and taking the
    largest. Reference: Thompson (1933); Scott (2010), A modern Bayesian look at the multi-armed bandit.
    """

    def allocate(self, posterior: Posterior, n_users: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return P(best)."""
        return probability_best(posterior)


@dataclass(frozen=True, slots=True)
class TopTwo:
    """Top-two Thompson sampling: with 1 − beta the draw goes to the challenger, a second, other winner.

    Reference: Russo (2016), Simple Bayesian algorithms for best-arm identification.

    Attributes:
        beta: Probability of playing the first winner, in (0, 1). With two arms, 1/2 is the equal split.
    """

    beta: float

    def allocate(self, posterior: Posterior, n_users: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return w_k (beta + (1 − beta) Σ_{j≠k} w_j / (1 − w_j)), w = P(best)."""
        win = probability_best(posterior)
        n_arms = win.shape[-1]
        others = 1.0 - np.eye(n_arms)
        # Challengers whose chances are below what P(best) can tell apart share alike, without a jump.
        lead = win / (win @ others + (n_arms - 1) * _INDISTINCT)
        challenger = (win + _INDISTINCT) * (lead @ others)
        return np.asarray(self.beta * win + (1.0 - self.beta) * challenger, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """All but epsilon on the largest posterior mean, epsilon on all arms alike.

    Attributes:
        epsilon: Share that explores, in [0, 1].
    """

    epsilon: float

    def allocate(self, posterior: Posterior, n_users: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return (1 − epsilon) on the best mean, epsilon spread evenly."""
        best = largest(posterior.mean)
        return np.asarray((1.0 - self.epsilon) * best + self.epsilon / best.shape[-1], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class BayesUCB:
    """All on the arm with the largest 1 − 1/(1 + n) posterior quantile; one rule for rates and means.

    Reference: Kaufmann, Cappé, Garivier (2012), On Bayesian upper confidence bounds for bandit problems.
    """

    def allocate(self, posterior: Posterior, n_users: FloatArray) -> FloatArray:
        """Return 1 on the largest upper quantile."""
        level = 1.0 - 1.0 / (1.0 + np.maximum(n_users, 1.0))
        return largest(posterior.quantile(level[..., np.newaxis]))


@dataclass(frozen=True, slots=True)
class ExploreThenCommit:
    """The equal split for a number of users, then for good the arm with the largest posterior mean.

    The commitment is for good because later users are not read: see `reads`.

    Attributes:
        explore_users: Users whose outcomes decide, at least 1.
    """

    explore_users: int

    def allocate(self, posterior: Posterior, n_users: FloatArray) -> FloatArray:
        """Return the equal split until enough users have been read, then 1 on the best mean."""
        best = largest(posterior.mean)
        exploring = np.asarray(n_users)[..., np.newaxis] < self.explore_users
        return np.where(exploring, 1.0 / best.shape[-1], best)


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
