"""How likely each arm is the best, and what choosing it would cost, from the posteriors: no sampling.

The integrals P_k = ∫ f_k ∏_{j≠k} F_j are found by `bandit.quadrature` on the arms still able to win. Σ P_k = 1
is not imposed but found, because every density carries its exact constant; where it is not found, the row is
integrated more finely. An arm that may be chosen with the chance q_k only is a law with the mass 1 − q_k at
−∞, so that F_j becomes 1 − q_j + q_j F_j and nothing else changes.
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


def probability_best(posterior: Posterior, feasible: FloatArray | None = None) -> FloatArray:
    """Probability that each arm may be chosen and has the highest mean of those that may.

    P_k = q_k ∫ f_k ∏_{j≠k} (1 − q_j + q_j F_j), where arm k may be chosen with the chance q_k, independently of
    all else.

    Args:
        posterior: Independent posteriors, shape (..., n_arms).
        feasible: The chances q_k in [0, 1], same shape or one that is repeated; 1 for at least one arm of each
            row (control). None: all 1.

    Returns:
        Shape (..., n_arms), non-negative, sums to 1; exactly 0 below about 1e-13 and for q_k = 0.

    Raises:
        ValueError: A row of `feasible` has no 1, or a chance is outside [0, 1].

    Reference:
        Scott (2010), A modern Bayesian look at the multi-armed bandit.
    """
    if feasible is None or np.all(feasible == 1.0):
        return _solve(posterior, with_loss=False)[0]
    if not np.all((feasible >= 0.0) & (feasible <= 1.0)) or not np.all(np.any(feasible == 1.0, axis=-1)):
        raise ValueError("chances of being feasible: allowed are 0 to 1, with at least one 1 in each row")
    return _solve(posterior, with_loss=False, feasible=np.broadcast_to(feasible, posterior.mean.shape))[0]


def expected_loss(posterior: Posterior) -> FloatArray:
    """Expected loss of each arm, E[highest mean − mean of this arm], shape (..., n_arms), unit of the metric."""
    return _solve(posterior, with_loss=True)[1]


def _solve(posterior: Posterior, with_loss: bool, feasible: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Both answers with leading axes taken up in blocks; the loss is nan if not asked for."""
    shape = np.shape(posterior.mean)
    n_arms = shape[-1]
    n_rows = int(np.prod(shape[:-1], dtype=np.int64))
    probability, loss = np.empty((2, n_rows, n_arms))
    step = max(_BLOCK_ARMS // n_arms, 1)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        chance = None if feasible is None else np.reshape(feasible, (n_rows, n_arms))[rows]
        if isinstance(posterior, BetaPosterior):
            a, b = (np.reshape(v, (n_rows, n_arms))[rows] for v in (posterior.a, posterior.b))
            no_point = np.full(len(a), -np.inf)
            probability[rows], _, loss[rows] = _solve_block(BetaBlock.of(a, b), no_point, with_loss, chance)
            continue
        location, scale, df = (
            np.reshape(v, (n_rows, n_arms))[rows] for v in (posterior.location, posterior.scale, posterior.df)
        )
        students = StudentBlock.of(location, scale, df)
        if chance is None:
            probability[rows], loss[rows] = _solve_students(students, with_loss)
        else:
            probability[rows] = _solve_feasible_students(students, chance)
    return probability.reshape(shape), loss.reshape(shape)


def _solve_students(block: StudentBlock, with_loss: bool) -> tuple[FloatArray, FloatArray]:
    """Both answers where arms may be point masses: the highest of them get what is left below the other arms."""
    points = block.points
    point = points.max(axis=-1)
    probability, below, loss = _solve_block(block, point, with_loss, None)
    tied = (points == point[:, None]) & (points > -np.inf)
    probability += tied * (below / np.maximum(np.count_nonzero(tied, axis=-1), 1))[:, None]
    return probability, loss


def _solve_feasible_students(block: StudentBlock, feasible: FloatArray) -> FloatArray:
    """P(best) where point masses may be infeasible: a sum over which of them is the highest feasible one."""
    untried = np.where(feasible > 0.0, block.points, -np.inf)
    probability = np.zeros_like(untried)
    reached = np.ones(len(untried))  # P(no point so far is feasible)
    rows = np.arange(len(untried))
    while rows.size:
        point = untried[rows].max(axis=-1)
        is_last = point == -np.inf
        tied = (untried[rows] == point[:, None]) & ~is_last[:, None]
        first = _first_of(tied, feasible[rows])
        chance = np.where(is_last, 1.0, first.sum(axis=-1))
        won, below, _ = _solve_block(block.rows(rows), point, False, feasible[rows])
        probability[rows] += reached[rows, None] * (won * chance[:, None] + first * below[:, None])
        reached[rows] *= np.prod(np.where(tied, 1.0 - feasible[rows], 1.0), axis=-1)
        untried[rows] = np.where(tied, -np.inf, untried[rows])
        rows = rows[~is_last & (reached[rows] > 0.0)]
    return probability


def _first_of(tied: BoolArray, feasible: FloatArray) -> FloatArray:
    """P(arm is feasible and, of the tied arms that are, drawn evenly), shape (n_rows, n_arms).

    q_k ∫₀¹ ∏_{j≠k} (1 − q_j + q_j t) dt, as if each tied arm had a uniform number: a polynomial, so exact.
    """
    if not tied.any():
        return np.zeros(tied.shape)
    nodes, weights = np.polynomial.legendre.leggauss(tied.shape[-1] // 2 + 1)
    t = 0.5 * (1.0 + nodes)[:, None, None]
    behind = np.where(tied, 1.0 - feasible + feasible * t, 1.0)
    others = np.prod(behind, axis=-1, keepdims=True) / behind
    return np.where(tied, feasible * np.einsum("i,ijk->jk", 0.5 * weights, others), 0.0)


def _solve_block(
    block: Block, point: FloatArray, with_loss: bool, feasible: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """P(best) of the arms that are no point masses, P(none of them is above the point), and the loss.

    Args:
        block: The arms, shape (n_rows, n_arms).
        point: The highest point mass, −inf where there is none, shape (n_rows,).
        with_loss: Also find the loss.
        feasible: Chance that an arm takes part, shape (n_rows, n_arms); None: all do.
    """
    low, high = block.ends
    mean = block.mean
    n_rows = len(mean)
    # The largest is above this floor, so an arm that ends below it cannot win. An arm that may be infeasible sets none.
    floor = np.maximum((low if feasible is None else np.where(feasible == 1.0, low, -np.inf)).max(axis=-1), point)
    able = high > floor[:, None]
    if feasible is not None:
        able &= feasible > 0.0
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
        contest = block.contest(rows, arms, None if feasible is None else feasible[rows[:, None], arms])
        has_point = point[rows] == floor[rows]
        found = _integrate(contest, floor[rows] - contest.centre, has_point, block.resolutions[first:], with_loss)
        probability[rows[:, None], arms] = found.probability
        below[rows], gain[rows], base[rows] = found.below, found.mean, contest.centre_metric
    return probability, below, np.maximum(gain[:, None] + (base[:, None] - mean), 0.0)


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
