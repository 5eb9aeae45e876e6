"""How likely each arm is the best, and what choosing it would cost, from the posteriors: no sampling.

The integrals P_k = ∫ f_k ∏_{j≠k} F_j are found by `bandit.quadrature` on the arms still able to win. Σ P_k = 1
is not imposed but found, because every density carries its exact constant; where it is not found, the row is
integrated more finely. "Feasible best" (an arm counts with probability q_k only) would replace F_j by
1 − q_j + q_j F_j there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import scipy.special as sc

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.posteriors import BetaPosterior, Posterior
from bandit.quadrature import Contenders, Maximum, Resolution, largest

# Mass left out beyond each end of an arm; also the chance below which an arm is said never to win.
_TAIL = 1e-13
# The same in standard deviations of a Gaussian, and as root of the deviance of any Beta posterior.
_REACH = 7.5
# Where Σ P_k differs from 1 by more than this, the row is integrated more finely.
_TOLERANCE = 1e-9
# Arms taken up at a time: keeps memory near 100 MB however many replications are asked for.
_BLOCK_ARMS = 50_000
# A Student-t with more degrees of freedom than this is a Gaussian to rounding.
_GAUSSIAN_DF = 1e12
# Below, the mass left out beyond the ends of a Student-t counts in its mean.
_HEAVY_DF = 1e3
# exp overflows not far above this.
_MAX_EXPONENT = 700.0


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


class _Block(Protocol):
    """Some rows of posteriors as continuous laws on a line; point masses are at −inf there."""

    resolutions: ClassVar[tuple[Resolution, ...]]

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        """Points with hardly any mass below and above, (n_rows, n_arms)."""

    @property
    def mean(self) -> FloatArray:
        """Means in the unit of the metric, (n_rows, n_arms)."""

    def coarsest(self, able: BoolArray) -> IntArray:
        """Number of the resolution to begin with, for the arms able to win (n_rows, n_arms): shape (n_rows,)."""

    def contest(self, rows: IntArray, arms: IntArray) -> Contest:
        """These arms, shape (n_picked_rows, n_picked_arms), of these rows."""


class Contest(Contenders, Protocol):
    """Contenders that know their centre on the line of their block, and the metric there; shape (n_rows,)."""

    @property
    def centre(self) -> FloatArray:
        """Origin of x on the line of the block."""

    @property
    def centre_metric(self) -> FloatArray:
        """The metric at the centre."""


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
            block: _Block = _BetaBlock.of(*(np.reshape(v, (n_rows, n_arms))[rows] for v in (posterior.a, posterior.b)))
            probability[rows], loss[rows] = _solve_block(block, None, with_loss)
        else:
            location, scale, df = (
                np.reshape(v, (n_rows, n_arms))[rows] for v in (posterior.location, posterior.scale, posterior.df)
            )
            points = np.where(scale == 0.0, location, -np.inf)
            probability[rows], loss[rows] = _solve_block(_StudentBlock.of(location, scale, df), points, with_loss)
    return probability.reshape(shape), loss.reshape(shape)


def _solve_block(block: _Block, points: FloatArray | None, with_loss: bool) -> tuple[FloatArray, FloatArray]:
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
    total = probability.sum(axis=-1) + below
    return Maximum(probability / total[:, None], below / total, mean)


def _stirling(x: FloatArray) -> FloatArray:
    """Stirling's remainder ln Γ(x) − [(x − ½) ln x − x + ½ ln 2π], whose series keeps the digits that lnΓ cancels."""
    large = np.maximum(x, 12.0)
    y = 1.0 / (large * large)
    series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / large
    small = np.minimum(x, 12.0)
    if np.all(x >= 12.0):
        return np.asarray(series)
    direct = sc.gammaln(small) - ((small - 0.5) * np.log(small) - small + 0.5 * np.log(2.0 * np.pi))
    return np.asarray(np.where(x < 12.0, direct, series))


def _log_peak(a: FloatArray, b: FloatArray) -> FloatArray:
    """Logarithm of p^a q^b / B(a, b) at p = a/(a+b): the density of a Beta at its mode on the logit scale.

    With Stirling's formula for B, all terms of the size of the counts cancel on paper.
    """
    n = a + b
    return 0.5 * np.log(a / n * b / (2.0 * np.pi)) + _stirling(n) - _stirling(a) - _stirling(b)


def _divergence(v: FloatArray, r: FloatArray) -> FloatArray:
    """ln(1 − r + r e^v) − r v: what one observation takes off the log density at distance v from the mode.

    r <= ½ is the rate of the rarer outcome and v points towards more of it, so nothing cancels at either end.
    """
    if v.size and v.max() > _MAX_EXPONENT:
        beyond = np.maximum(v - _MAX_EXPONENT, 0.0)
        return np.asarray(np.log1p(r * np.expm1(v - beyond)) + beyond - r * v)
    inside = np.expm1(v)
    inside *= r
    np.log1p(inside, out=inside)
    inside -= r * v
    return inside


def _beta_reach(a: FloatArray, b: FloatArray, side: float) -> FloatArray:
    """Distance on the logit scale, to one side of the mode, at which the log density is _REACH²/2 lower."""
    n = a + b
    target = 0.5 * _REACH**2
    rare = np.minimum(a, b) / n
    towards = np.where(a <= b, side, -side)
    width = _REACH * np.sqrt(n / a / b)
    bend = width * towards * (1.0 - 2.0 * rare) / 6.0
    distance = np.where(bend > 0.0, width / (1.0 + np.abs(bend)), width * (1.0 + np.abs(bend)))
    todo = np.ones(n.shape, dtype=bool)
    for _ in range(20):
        y, r = distance[todo], rare[todo]
        v = y * towards[todo]
        fall = _divergence(v, r)
        growth = r * np.expm1(np.minimum(v, _MAX_EXPONENT))
        # Newton's step for ln fall as a function of ln y: exact for a power, and exponential tails are nearly one.
        power = v * (1.0 - r) * growth / (1.0 + growth) / fall
        ratio = target / (n[todo] * fall)
        distance[todo] = y * ratio ** (1.0 / power)
        todo[todo] = np.abs(np.log(ratio)) > 0.02
        if not todo.any():
            break
    return distance


def _ladder(width: FloatArray, reach: FloatArray, t: FloatArray) -> FloatArray:
    """Distances from 0 to reach, starting as t · width: convex for a long tail, concave for a short one."""
    width, reach = width[..., None], reach[..., None]
    convex = width * t + np.maximum(reach - width, 0.0) * (t * t)
    concave = width * t / (1.0 + (width / reach - 1.0) * t)
    return np.where(reach > width, convex, concave)


@dataclass(frozen=True, slots=True)
class _BetaBlock:
    """Beta posteriors on the logit scale, where no density has a pole and all have tails."""

    # Largest errors measured: 7e-10 for counts from 4, 1e-12 from 0.4, 1e-10 from 0.01; the last is for the rest.
    resolutions: ClassVar[tuple[Resolution, ...]] = (
        Resolution(2, 10), Resolution(4, 10), Resolution(12, 20), Resolution(32, 20),
    )  # fmt: skip
    a: FloatArray
    b: FloatArray
    mode: FloatArray
    left: FloatArray
    right: FloatArray

    @classmethod
    def of(cls, a: FloatArray, b: FloatArray) -> Self:
        return cls(a, b, np.log(a) - np.log(b), _beta_reach(a, b, -1.0), _beta_reach(a, b, 1.0))

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        return self.mode - self.left, self.mode + self.right

    @property
    def mean(self) -> FloatArray:
        return self.a / (self.a + self.b)

    def coarsest(self, able: BoolArray) -> IntArray:
        """By the smallest count: with few events the logit density is far from Gaussian.

        Σ P_k = 1 alone would not tell. For two arms it holds whenever both masses are right, since f_1 F_2 + f_2 F_1
        is integrated exactly for the interpolating polynomials, however badly these follow the densities.
        """
        fewest = np.where(able, np.minimum(self.a, self.b), np.inf).min(axis=-1)
        return np.where(fewest < 0.4, 2, np.where(fewest < 4.0, 1, 0))

    def contest(self, rows: IntArray, arms: IntArray) -> _BetaContest:
        """Centred on the arm with most observations: the other arms' log densities are small sums there."""
        a, b, mode, left, right = (v[rows[:, None], arms] for v in (self.a, self.b, self.mode, self.left, self.right))
        n = a + b
        largest_arm = np.argmax(n, axis=-1)[:, None]
        a0, b0, centre = (np.take_along_axis(v, largest_arm, axis=-1) for v in (a, b, mode))
        sign = np.where(a0 <= b0, 1.0, -1.0)
        rare = np.minimum(a0, b0) / (a0 + b0)
        offset = mode - centre
        fall = n * _divergence(np.where(a <= b, -offset, offset), np.minimum(a, b) / n)
        return _BetaContest(
            centre=centre[:, 0], sign=sign[:, 0], rare=rare[:, 0], n=n, offset=offset,
            slope=np.where(sign > 0.0, a, b) - n * rare, log_density=_log_peak(a, b) - fall,
            width=_REACH * np.sqrt(n / a / b), left=left, right=right,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _BetaContest:
    """Beta posteriors on the logit scale, x = logit − centre. Per row: centre, sign, rare; the rest per arm.

    With v = sign · x, ln f_k(x) = log_density_k + slope_k v − n_k _divergence(v, rare): one transcendental
    function per point for all arms, and one exponential per arm.
    """

    centre: FloatArray
    sign: FloatArray
    rare: FloatArray
    n: FloatArray
    offset: FloatArray
    slope: FloatArray
    log_density: FloatArray
    width: FloatArray
    left: FloatArray
    right: FloatArray

    @property
    def n_arms(self) -> int:
        return int(self.n.shape[-1])

    @property
    def centre_metric(self) -> FloatArray:
        return np.where(self.sign > 0.0, self.rare, 1.0 - self.rare)

    def rows(self, index: IntArray) -> Self:
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def breakpoints(self, n_steps: int) -> FloatArray:
        """Spaced by standard deviations near the mode, by the shape of the tail further out."""
        t = np.arange(1, n_steps + 1) / n_steps
        # Narrower panels in the middle: measured to be best on Gaussian shapes.
        t -= 0.25 * t * (1.0 - t * t)
        return _edges(self.offset, -_ladder(self.width, self.left, t), _ladder(self.width, self.right, t))

    def density(self, x: FloatArray) -> FloatArray:
        v = x * self.sign[:, None]
        fall = _divergence(v, self.rare[:, None])
        out = self.slope.T[:, None, :, None] * v
        out -= self.n.T[:, None, :, None] * fall
        out += self.log_density.T[:, None, :, None]
        return np.exp(out, out=out)

    def metric(self, x: FloatArray) -> FloatArray:
        return np.asarray(sc.expit(self.centre + x) - sc.expit(self.centre))

    def metric_per_x(self, x: FloatArray) -> FloatArray:
        y = x + self.centre[:, None]
        return np.asarray(sc.expit(y) * sc.expit(-y))

    def beyond(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Nothing that counts: less than 1e-13 of the mass, on a metric within [0, 1]."""
        return np.zeros((self.n_arms, len(x))), np.zeros_like(x)


def _edges(mode: FloatArray, *offsets: FloatArray) -> FloatArray:
    """Modes (n_rows, n_arms) and offsets from them (n_rows, n_arms, n_steps), as one list per row."""
    every = np.concatenate([mode[..., None], *(mode[..., None] + offset for offset in offsets)], axis=-1)
    return every.reshape(len(mode), -1)


@dataclass(frozen=True, slots=True)
class _StudentBlock:
    """Student-t and Gaussian posteriors on the scale of the metric."""

    resolutions: ClassVar[tuple[Resolution, ...]] = (Resolution(5, 8), Resolution(8, 12), Resolution(16, 20))
    location: FloatArray
    scale: FloatArray
    df: FloatArray
    reach: FloatArray

    @classmethod
    def of(cls, location: FloatArray, scale: FloatArray, df: FloatArray) -> Self:
        df = np.minimum(df, _GAUSSIAN_DF)
        reach = np.full(df.shape, _REACH)
        heavy = df < _GAUSSIAN_DF
        reach[heavy] = np.maximum(-sc.stdtrit(df[heavy], _TAIL), _REACH)
        return cls(location, scale, df, reach)

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        radius = self.reach * self.scale
        spread = self.scale > 0.0
        return (
            np.where(spread, self.location - radius, -np.inf),
            np.where(spread, self.location + radius, -np.inf),
        )

    @property
    def mean(self) -> FloatArray:
        return self.location

    def coarsest(self, able: BoolArray) -> IntArray:
        """The first suits every number of degrees of freedom."""
        return np.zeros(len(able), dtype=np.int64)

    def contest(self, rows: IntArray, arms: IntArray) -> _StudentContest:
        """Centred on the narrowest arm, the one whose location needs the most digits."""
        location, scale, df, reach = (v[rows[:, None], arms] for v in (self.location, self.scale, self.df, self.reach))
        narrowest = np.argmin(scale, axis=-1)[:, None]
        centre = np.take_along_axis(location, narrowest, axis=-1)
        half, one_half = 0.5 * df, np.full_like(df, 0.5)
        # −ln B(ν/2, ½) from the peak of the Beta law, whose formula is free of cancellation.
        log_inverse_beta = _log_peak(half, one_half) + half * np.log1p(1.0 / df) + 0.5 * np.log1p(df)
        log_peak = log_inverse_beta - 0.5 * np.log(df) - np.log(scale)
        return _StudentContest(centre[:, 0], location - centre, scale, df, reach, log_peak)


@dataclass(frozen=True, slots=True)
class _StudentContest:
    """Student-t posteriors, x = metric − centre. Per row: centre; the rest per arm."""

    centre: FloatArray
    offset: FloatArray
    scale: FloatArray
    df: FloatArray
    reach: FloatArray
    log_peak: FloatArray

    @property
    def n_arms(self) -> int:
        return int(self.scale.shape[-1])

    @property
    def centre_metric(self) -> FloatArray:
        return self.centre

    def rows(self, index: IntArray) -> Self:
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def breakpoints(self, n_steps: int) -> FloatArray:
        """Spaced evenly in asinh(z / 2): by standard deviations near the mode, geometrically in heavy tails."""
        end = np.arcsinh(0.5 * self.reach)
        n_steps = int(np.ceil(n_steps * end.max() / np.arcsinh(0.5 * _REACH)))
        t = np.arange(1, n_steps + 1) / n_steps
        z = 2.0 * np.sinh(end[..., None] * t) * self.scale[..., None]
        return _edges(self.offset, -z, z)

    def density(self, x: FloatArray) -> FloatArray:
        scale, df, offset, log_peak = (v.T[:, None, :, None] for v in (self.scale, self.df, self.offset, self.log_peak))
        out = x - offset
        out /= scale
        out *= out
        if np.all(self.df >= _GAUSSIAN_DF):
            out *= -0.5
        else:
            out /= df
            np.log1p(out, out=out)
            out *= -0.5 * (df + 1.0)
        out += log_peak
        return np.exp(out, out=out)

    def metric(self, x: FloatArray) -> FloatArray:
        return x

    def metric_per_x(self, x: FloatArray) -> FloatArray:
        return np.ones_like(x)

    def beyond(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """P(T > z) and E[(T − z)₊] = f(z) (ν + z²)/(ν − 1) − z P(T > z) of heavy tails; lighter ones have ended."""
        heavy = self.df < _HEAVY_DF
        if not np.any(heavy):
            return np.zeros((self.n_arms, len(x))), np.zeros_like(x)
        z = (x[:, None] - self.offset) / self.scale
        df = np.where(heavy, self.df, _HEAVY_DF)
        tail = np.where(heavy, sc.stdtr(df, -z), 0.0)
        density = self.density(x[None, :, None])[:, 0, :, 0].T * self.scale
        excess = np.where(heavy, density * (df + z * z) / (df - 1.0) - z * tail, 0.0)
        return tail.T, np.sum(excess * self.scale, axis=-1)
