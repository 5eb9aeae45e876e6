"""What no policy can beat: regret per ln T, and users until the best of several rates can be named."""

from __future__ import annotations

import numpy as np
import scipy.special as sc
from scipy import optimize

from bandit.arrays import FloatArray


def divergence(p: FloatArray | float, q: FloatArray | float) -> FloatArray:
    """Return KL(Bernoulli(p) ‖ Bernoulli(q)) in nats; both in [0, 1], broadcast."""
    one, other = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    return np.asarray(sc.rel_entr(one, other) + sc.rel_entr(1.0 - one, 1.0 - other))


def regret_constant(rates: FloatArray) -> float:
    """Return C: the regret of a policy that is good everywhere grows at least as C ln T.

    C = Σ (μ* − μ_k)/KL(μ_k, μ*) over the arms below the best rate μ*.

    Args:
        rates: In (0, 1), shape (n_arms,).

    Reference:
        Lai, Robbins (1985), Asymptotically efficient adaptive allocation rules.
    """
    best = float(rates.max())
    below = rates[rates < best]
    return float(((best - below) / divergence(below, best)).sum())


def information(weights: FloatArray, rates: FloatArray) -> FloatArray:
    """Return how fast the closest wrong answer is ruled out, in nats per user, if arms get these shares.

    min over a > 0 of w_0 KL(μ_0, m_a) + w_a KL(μ_a, m_a), with m_a the weighted mean of both rates.

    Args:
        weights: Not negative, arm 0 above 0, rows summing to 1, shape (..., n_arms).
        rates: Arm 0 has the highest, shape (n_arms,).

    Returns:
        Shape (...).
    """
    first, others = weights[..., :1], weights[..., 1:]
    middle = (first * rates[0] + others * rates[1:]) / (first + others)
    return np.asarray((first * divergence(rates[0], middle) + others * divergence(rates[1:], middle)).min(axis=-1))


def best_weights(rates: FloatArray) -> tuple[FloatArray, float]:
    """Return the shares of users under which the best arm is named soonest, and T* = 1/(nats per user).

    Each x_a = w_a/w_0 makes its rival as hard to rule out as the others, at a common y; the right y is the root of
    Σ KL(μ_0, m_a)/KL(μ_a, m_a) = 1 (their theorem 5).

    Args:
        rates: Arm 0 has the highest, alone, shape (n_arms,).

    Reference:
        Garivier, Kaufmann (2016), Optimal best arm identification with fixed confidence.
    """

    def middle(x: float, rate: float) -> float:
        return float((rates[0] + x * rate) / (1.0 + x))

    def cost(x: float, rate: float) -> float:
        return float(divergence(rates[0], middle(x, rate)) + x * divergence(rate, middle(x, rate)))

    def shares(y: float) -> list[float]:
        return [float(optimize.brentq(lambda x, r=rate: cost(x, r) - y, 0.0, 1e6, xtol=1e-12)) for rate in rates[1:]]

    def excess(y: float) -> float:
        middles = [(rate, middle(x, rate)) for x, rate in zip(shares(y), rates[1:], strict=True)]
        return sum(float(divergence(rates[0], m) / divergence(rate, m)) for rate, m in middles) - 1.0

    limit = float(divergence(rates[0], rates[1:]).min())  # which no x reaches
    y = float(optimize.brentq(excess, 1e-4 * limit, (1.0 - 1e-4) * limit, xtol=1e-15))
    weights = np.array([1.0, *shares(y)])
    weights /= weights.sum()
    return weights, 1.0 / float(information(weights, rates))


def fewest_users(difficulty: float, delta: float) -> float:
    """Return the least expected number of users of any rule that is wrong with probability delta at most.

    Args:
        difficulty: T* of the instance.
        delta: In (0, 1/2).
    """
    return difficulty * float(divergence(delta, 1.0 - delta))
