"""AIPW scores of an arm and of control with one shared weight: the sums behind every interval.

A user i of the pair (arm k, control c) had arm k with the known probability π, given all users before. With any
plug-in means m from earlier epochs the scores

    a = m_k + 1{k} (y − m_k) / π,      b = m_c + 1{c} (y − m_c) / (1 − π)

have expectations μ_k(i) and μ_c(i) given the past, whatever m is, so a − b is unbiased for the difference of that
moment and a baseline that moves both arms cancels. The weight h = √(π(1 − π)), known before the epoch, makes the
variance of h(a − b) the same in all epochs, so the martingale central limit theorem holds although the allocation
never settles. It has to be one weight for both arms: arm by arm weights bring the drift back in.

Sources: Hadad, Hirshberg, Zhan, Wager, Athey (2021) for adaptive weights; Bibaut et al. (2021) for stabilised
variances; here with users of other arms left out, which costs nothing and lets epochs count by the pair's own users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.inference.observed import Observed, earlier, pair_shares

_PRIOR_USERS = 1.0  # an arm's plug-in mean leans this much on that of all arms
_PRIOR_DF = 5.0  # and its variance this much
_ROUNDING = 1e-12  # a variance below this part of the mean square is a rounding error


@dataclass(frozen=True, slots=True)
class Scores:
    """Weighted sums of the scores of each arm (a) and of control (b) over the users of the pair.

    All arrays have the arms on the last axis (control's own column means nothing); the epoch axis is summed
    away, or, for every look, cumulated.

    Attributes:
        origin: Scores are of z = y − origin.
        t: Users of the pair.
        h: Σ h.
        h2: Σ h².
        a: Σ h a; `b` likewise.
        b: Σ h b.
        a2: Σ h² a; `b2` likewise.
        b2: Σ h² b.
        aa: Σ h² a²; `ab`, `bb` likewise.
        ab: Σ h² a b.
        bb: Σ h² b².
        va: Σ h² v_k / π with plug-in variances; `vb` likewise for control.
        vb: Σ h² v_c / (1 − π).
    """

    origin: float
    t: FloatArray
    h: FloatArray
    h2: FloatArray
    a: FloatArray
    b: FloatArray
    a2: FloatArray
    b2: FloatArray
    aa: FloatArray
    ab: FloatArray
    bb: FloatArray
    va: FloatArray
    vb: FloatArray

    def difference(self, ratio: FloatArray | float = 1.0) -> FloatArray:
        """Return the estimate of mean(arm) − ratio × mean(control), unit of the metric; nan without users."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.a - ratio * self.b) / self.h + (1.0 - np.asarray(ratio)) * self.origin)

    def standard_error(self, ratio: FloatArray | float = 1.0) -> FloatArray:
        """Return the standard error of `difference`: the larger of the empirical and the plug-in one."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.sqrt(self._variance(np.asarray(ratio, dtype=np.float64))) / self.h)

    def at(self, epoch: int) -> Scores:
        """Return the sums after one epoch (an index), of running sums."""
        return self._of(lambda sums: sums[..., epoch, :])

    def since(self, epoch: int) -> Scores:
        """Return the sums over this epoch (an index) and all after it, of running sums."""
        if epoch == 0:
            return self.at(-1)
        return self._of(lambda sums: sums[..., -1, :] - sums[..., epoch - 1, :])

    def ratio(self, width: FloatArray | float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the ratio of means, and the ends of the ratios r whose contrast is within `width` errors of 0.

        Solves (A − r B)² = width² V(r), quadratic in r, for both variances and takes the outer ends.
        Reference: Fieller (1954), Some problems in interval estimation.

        Args:
            width: In standard errors, any shape that goes with the arrays.

        Returns:
            Estimate, low, high; the ends are infinite where control's mean cannot be told from 0.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = self.a / self.h, self.b / self.h
            centred = (
                self.aa - 2.0 * a * self.a2 + a * a * self.h2,
                self.ab - a * self.b2 - b * self.a2 + a * b * self.h2,
                self.bb - 2.0 * b * self.b2 + b * b * self.h2,
            )
            mean, base = a + self.origin, b + self.origin
            ends = [
                _roots(mean, base, [np.asarray((width / self.h) ** 2 * v) for v in variances])
                for variances in (centred, (self.va, np.zeros_like(a), self.vb))
            ]
            low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
            return mean / base, low, high

    def _of(self, part: Callable[[FloatArray], FloatArray]) -> Scores:
        sums = (getattr(self, field.name) for field in fields(self) if field.name != "origin")
        return Scores(self.origin, *map(part, sums))

    def _variance(self, r: FloatArray) -> FloatArray:
        """Return Σ h² (a − r b − D)², not below what the plug-in variances promise."""
        centre = (self.a - r * self.b) / self.h
        squares = self.aa - 2.0 * r * self.ab + r * r * self.bb
        empirical = squares - 2.0 * centre * (self.a2 - r * self.b2) + centre * centre * self.h2
        varied = empirical > _ROUNDING * (self.aa + r * r * self.bb)  # a single user's score does not
        return np.maximum(np.where(varied, empirical, 0.0), self.va + r * r * self.vb)


def total_scores(observed: Observed, control: int, *, weighted: bool = True) -> Scores:
    """Return the sums over all epochs, arrays of shape (..., n_arms).

    Args:
        observed: The measure.
        control: Index of control.
        weighted: False: h = 1, the plain average over users. Unbiased whatever the allocation did, but wider.
    """
    return _summed(observed, control, weighted=weighted, every_look=False)


def running_scores(observed: Observed, control: int, *, weighted: bool = True) -> Scores:
    """Return the sums after each epoch, arrays of shape (..., n_epochs, n_arms). Arguments as `total_scores`."""
    return _summed(observed, control, weighted=weighted, every_look=True)


def _summed(observed: Observed, control: int, *, weighted: bool, every_look: bool) -> Scores:
    pi = pair_shares(observed.p, control)
    rest = 1.0 - pi
    usable = (pi > 0.0) & (rest > 0.0)
    inverse, inverse_rest = _inverse(pi, usable), _inverse(rest, usable)
    h = np.where(usable, np.sqrt(pi * rest) if weighted else 1.0, 0.0)
    h2 = h * h

    mean, variance = plug_ins(observed)
    mean_c, variance_c = mean[..., [control]], variance[..., [control]]
    users = observed.n + observed.n[..., [control]]
    residual = observed.z - observed.n * mean
    square = observed.z2 - 2.0 * mean * observed.z + observed.n * mean * mean
    r_k, w_k = residual * inverse, square * inverse * inverse
    r_c, w_c = residual[..., [control]] * inverse_rest, square[..., [control]] * inverse_rest * inverse_rest

    a = users * mean + r_k
    b = users * mean_c + r_c
    columns = (
        users * usable,
        h * users,
        h2 * users,
        h * a,
        h * b,
        h2 * a,
        h2 * b,
        h2 * (mean * (a + r_k) + w_k),
        h2 * (mean_c * a + mean * r_c),
        h2 * (mean_c * (b + r_c) + w_c),
        h2 * users * variance * inverse,
        h2 * users * variance_c * inverse_rest,
    )
    add = np.cumsum if every_look else np.sum
    return Scores(observed.origin, *(np.asarray(add(column, axis=-2)) for column in columns))


def plug_ins(observed: Observed) -> tuple[FloatArray, FloatArray]:
    """Return each epoch's plug-in mean (of z) and outcome variance per arm, from the epochs before it.

    The first epoch with users has none before it and takes its own mean over all arms: with a guess far off, its few
    users would outweigh all later ones of a rare event. While arms do not differ, that mean says nothing of who had
    which arm, so the scores stay unbiased.

    Args:
        observed: The measure.

    Returns:
        Two arrays of shape (..., n_epochs, n_arms); the variance is 0 where nothing is known of it.
    """
    n, z, z2 = earlier(observed.n), earlier(observed.z), earlier(observed.z2)
    if observed.whole is None:
        of_all = [sums.sum(axis=-1, keepdims=True) for sums in (observed.n, observed.z, observed.z2)]
    else:
        of_all = list(observed.whole)
    all_n, all_z, all_z2 = map(earlier, of_all)
    known = all_n > 0.0
    seen = np.maximum(np.where(known, all_n, of_all[0]), 1.0)
    pooled = np.where(known, all_z, of_all[1]) / seen
    spread = np.maximum(all_z2 / seen - pooled * pooled, 0.0) * known
    mean = (z + _PRIOR_USERS * pooled) / (n + _PRIOR_USERS)
    within = np.maximum(z2 - 2.0 * mean * z + n * mean * mean, 0.0)
    return mean, (within + _PRIOR_DF * spread) / (n + _PRIOR_DF)


def _inverse(x: FloatArray, usable: BoolArray) -> FloatArray:
    return np.asarray(np.divide(1.0, x, out=np.zeros_like(x), where=usable))


def _roots(mean: FloatArray, base: FloatArray, variances: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return the r with (mean − r base)² = v_aa − 2 r v_ab + r² v_bb; infinite where they enclose no interval."""
    square = base * base - variances[2]
    cross = mean * base - variances[1]
    root = np.sqrt(np.maximum(cross * cross - square * (mean * mean - variances[0]), 0.0))
    bounded = square > 0.0
    low = np.where(bounded, (cross - root) / square, -np.inf)
    return low, np.where(bounded, (cross + root) / square, np.inf)
