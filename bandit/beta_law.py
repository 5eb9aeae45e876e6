"""Beta posteriors as `bandit.best_arm` integrates them: on the logit scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import scipy.special as sc

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.laws import REACH, edges
from bandit.quadrature import Resolution

# exp overflows not far above this.
_MAX_EXPONENT = 700.0
# Terms of this size may cancel in a log density: the rest keeps 10 digits.
_MAX_CANCELLED = 1e5


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


def log_peak(a: FloatArray, b: FloatArray) -> FloatArray:
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
    """Distance on the logit scale, to one side of the mode, at which the log density is REACH²/2 lower."""
    n = a + b
    target = 0.5 * REACH**2
    rare = np.minimum(a, b) / n
    towards = np.where(a <= b, side, -side)
    width = REACH * np.sqrt(n / a / b)
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
class BetaBlock:
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
        """Return the block of these parameters, shape (n_rows, n_arms)."""
        return cls(a, b, np.log(a) - np.log(b), _beta_reach(a, b, -1.0), _beta_reach(a, b, 1.0))

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        """See `Block.ends`."""
        return self.mode - self.left, self.mode + self.right

    @property
    def mean(self) -> FloatArray:
        """See `Block.mean`."""
        return self.a / (self.a + self.b)

    def coarsest(self, able: BoolArray) -> IntArray:
        """By the smallest count: with few events the logit density is far from Gaussian.

        Σ P_k = 1 alone would not tell. For two arms it holds whenever both masses are right, since f_1 F_2 + f_2 F_1
        is integrated exactly for the interpolating polynomials, however badly these follow the densities.
        """
        fewest = np.where(able, np.minimum(self.a, self.b), np.inf).min(axis=-1)
        return np.where(fewest < 0.4, 2, np.where(fewest < 4.0, 1, 0))

    def contest(self, rows: IntArray, arms: IntArray, chance: FloatArray | None = None) -> _BetaContest:
        """Centred on the arm with most observations: the other arms' log densities are small sums there."""
        a, b, mode, left, right = (v[rows[:, None], arms] for v in (self.a, self.b, self.mode, self.left, self.right))
        n = a + b
        largest_arm = np.argmax(n, axis=-1)[:, None]
        a0, b0, centre = (np.take_along_axis(v, largest_arm, axis=-1) for v in (a, b, mode))
        sign = np.where(a0 <= b0, 1.0, -1.0)
        rare = np.minimum(a0, b0) / (a0 + b0)
        offset = mode - centre
        side, own_rare = np.where(a <= b, 1.0, -1.0), np.minimum(a, b) / n
        fall = n * _divergence(-side * offset, own_rare)
        peak = log_peak(a, b) if chance is None else log_peak(a, b) + np.log(chance)
        parts: dict[str, FloatArray] = {
            "centre": centre[:, 0], "sign": sign[:, 0], "rare": rare[:, 0], "n": n, "offset": offset,
            "slope": np.where(sign > 0.0, a, b) - n * rare, "log_density": peak - fall,
            "width": REACH * np.sqrt(n / a / b), "left": left, "right": right,
        }  # fmt: skip
        apart = fall > _MAX_CANCELLED
        # Arms that all take part overlap where the largest can be; with chances, both of two distant arms can win.
        if chance is None or not apart.any():
            return _BetaContest(**parts)
        return _DistantBetaContest(**parts, apart=apart, side=side, own_rare=own_rare, peak=peak)


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
        return edges(self.offset, -_ladder(self.width, self.left, t), _ladder(self.width, self.right, t))

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


@dataclass(frozen=True, slots=True)
class _DistantBetaContest(_BetaContest):
    """Contest in which some arms are too far from the centre for the formula that all arms share.

    With v = side_k (x − offset_k), ln f_k(x) = peak_k − n_k _divergence(v, own_rare_k): a transcendental function
    more for each of these arms.
    """

    apart: BoolArray
    side: FloatArray
    own_rare: FloatArray
    peak: FloatArray

    def density(self, x: FloatArray) -> FloatArray:
        out = _BetaContest.density(self, x)
        for k in np.flatnonzero(self.apart.any(axis=0)):
            rows = self.apart[:, k]
            offset, side, rare, n, peak = (
                v[rows, k, None] for v in (self.offset, self.side, self.own_rare, self.n, self.peak)
            )
            out[k][:, rows] = np.exp(peak - n * _divergence(side * (x[:, rows] - offset), rare))
        return out
