"""How likely each arm is the best, and what choosing it would cost, from the posteriors: no sampling.

The integrals P_k = ∫ f_k ∏_{j≠k} F_j are found by `bandit.quadrature` on the arms still able to win. Σ P_k = 1
is not imposed but found, because every density carries its exact constant; where it is not found, the row is
integrated more finely. "Feasible best" (an arm counts with probability q_k only) would replace F_j by
1 − q_j + q_j F_j there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.beta_law import BetaBlock
from bandit.laws import Block, Contest
from bandit.posteriors import BetaPosterior, Posterior
from bandit.quadrature import Maximum, Resolution, largest
from bandit.student_law import StudentBlock

# Where Σ P_k differs from 1 by more than this, the row is integrated more finely.
_TOLERANCE = 1e-9
# Arms taken up at a time: keeps memory near 100 MB however many replications are asked for.
_BLOCK_ARMS = 50_000


@dataclass(frozen=True, slots=True)
class BestArm:
    """What the posteriors say about the best arm.

    Attributes:
        probability: P(arm has the highest mean), shape (..., n_arms), sums to 1.
        expected_loss: E[highest mean − mean of this arm], in the unit of the metric, >= 0, same shape.
    """

    probability: FloatArray
    expected_loss: FloatArray


def best_arm(posterior: Posterior) -> BestArm:
    """Chance of being the best, and expected loss if chosen, of each arm.

    Args:
        posterior: Independent posteriors, shape (..., n_arms).

    Example:
        >>> answer = best_arm(BetaPosterior(np.array([4.0, 6.0]), np.array([8.0, 6.0])))
        >>> answer.probability.round(3), answer.expected_loss.round(3)
        (array([0.193, 0.807]), array([0.188, 0.021]))
    """
    probability, loss = _solve(posterior, with_loss=True)
    return BestArm(probability, loss)


def probability_best(posterior: Posterior) -> FloatArray:
    """Probability that each arm has the highest mean.

    Args:
        posterior: Independent posteriors, shape (..., n_arms).

    Returns:
        Shape (..., n_arms), non-negative, sums to 1; exactly 0 below about 1e-13.

    Reference:
        Scott (2010), A modern Bayesian look at the multi-armed bandit.
    """
    return _solve(posterior, with_loss=False)[0]


def expected_loss(posterior: Posterior) -> FloatArray:
    """Expected loss of each arm, E[highest mean − mean of this arm], shape (..., n_arms), unit of the metric."""
    return _solve(posterior, with_loss=True)[1]


def _solve(posterior: Posterior, with_loss: bool) -> tuple[FloatArray, FloatArray]:
    """Both answers with leading axes taken up in blocks; the loss is nan if not asked for."""
    shape = np.shape(posterior.mean)
    n_arms = shape[-1]
    n_rows = int(np.prod(shape[:-1], dtype=np.int64))
    probability, loss = np.empty((2, n_rows, n_arms))
    step = max(_BLOCK_ARMS // n_arms, 1)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        if isinstance(posterior, BetaPosterior):
            block: Block = BetaBlock.of(*(np.reshape(v, (n_rows, n_arms))[rows] for v in (posterior.a, posterior.b)))
            probability[rows], loss[rows] = _solve_block(block, None, with_loss)
        else:
            location, scale, df = (
                np.reshape(v, (n_rows, n_arms))[rows] for v in (posterior.location, posterior.scale, posterior.df)
            )
            points = np.where(scale == 0.0, location, -np.inf)
            probability[rows], loss[rows] = _solve_block(StudentBlock.of(location, scale, df), points, with_loss)
    return probability.reshape(shape), loss.reshape(shape)


def _solve_block(block: Block, points: FloatArray | None, with_loss: bool) -> tuple[FloatArray, FloatArray]:
    """Both answers for one block; points are the arms' point masses, −inf for other arms."""
    low, high = block.ends
    mean = block.mean
    n_rows = len(mean)
    point = np.full(n_rows, -np.inf) if points is None else points.max(axis=-1)
    # The largest is above this floor, so an arm that ends below it cannot win.
    floor = np.maximum(low.max(axis=-1), point)
    able = high > floor[:, None]
    n_able = np.count_nonzero(able, axis=-1)
    contested = (n_able > 1) | ((n_able == 1) & (point == floor))
    probability = np.where(able, 1.0, 0.0)
    below = np.where(n_able == 0, 1.0, 0.0)
    base = np.where(n_able == 0, point, np.where(able, mean, -np.inf).max(axis=-1))
    gain = np.zeros(n_rows)
    coarsest = block.coarsest(able)
    kinds = n_able * len(block.resolutions) + coarsest
    for kind in np.unique(kinds[contested]):
        m, first = divmod(int(kind), len(block.resolutions))
        rows = np.flatnonzero(contested & (kinds == kind))
        arms = np.argsort(~able[rows], axis=-1, kind="stable")[:, :m]
        contest = block.contest(rows, arms)
        has_point = point[rows] == floor[rows]
        found = _integrate(contest, floor[rows] - contest.centre, has_point, block.resolutions[first:], with_loss)
        probability[rows[:, None], arms] = found.probability
        below[rows], gain[rows], base[rows] = found.below, found.mean, contest.centre_metric
    if points is not None:
        tied = (points == point[:, None]) & (points > -np.inf)
        probability += tied * (below / np.maximum(np.count_nonzero(tied, axis=-1), 1))[:, None]
    return probability, np.maximum(gain[:, None] + (base[:, None] - mean), 0.0)


def _integrate(
    contest: Contest,
    floor: FloatArray,
    has_point: BoolArray,
    resolutions: tuple[Resolution, ...],
    with_mean: bool,
) -> Maximum:
    """The law of the largest, more finely for the rows where the probabilities do not sum to 1.

    Without a point mass at the floor, nothing may be left below it; so the sum also tells whether the arm that
    set the floor has its whole mass on the panels.
    """
    found = largest(contest, floor, resolutions[0], with_mean)
    probability, below, mean = found.probability, found.below, found.mean
    below[~has_point] = 0.0
    for resolution in resolutions[1:]:
        total = probability.sum(axis=-1) + below
        rows = np.flatnonzero(~(np.abs(total - 1.0) <= _TOLERANCE))
        if rows.size == 0:
            break
        finer = largest(contest.rows(rows), floor[rows], resolution, with_mean)
        probability[rows], mean[rows] = finer.probability, finer.mean
        below[rows] = np.where(has_point[rows], finer.below, 0.0)
    np.maximum(probability, 0.0, out=probability)  # interpolation may undershoot zero by a rounding error
    total = probability.sum(axis=-1) + below
    return Maximum(probability / total[:, None], below / total, mean)
