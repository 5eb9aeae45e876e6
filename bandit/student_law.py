"""Student-t and Gaussian posteriors as `bandit.best_arm` integrates them: on the scale of the metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import scipy.special as sc

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.beta_law import log_peak as beta_log_peak
from bandit.laws import REACH, edges
from bandit.quadrature import Resolution

# Mass left out beyond each end of an arm.
_TAIL = 1e-13
# A Student-t with more degrees of freedom than this is a Gaussian to rounding.
_GAUSSIAN_DF = 1e12
# Below, the mass left out beyond the ends of a Student-t counts in its mean.
_HEAVY_DF = 1e3


@dataclass(frozen=True, slots=True)
class StudentBlock:
    """Student-t and Gaussian posteriors on the scale of the metric."""

    resolutions: ClassVar[tuple[Resolution, ...]] = (Resolution(5, 8), Resolution(8, 12), Resolution(16, 20))
    location: FloatArray
    scale: FloatArray
    df: FloatArray
    reach: FloatArray

    @classmethod
    def of(cls, location: FloatArray, scale: FloatArray, df: FloatArray) -> Self:
        """Return the block of these parameters, shape (n_rows, n_arms)."""
        df = np.minimum(df, _GAUSSIAN_DF)
        reach = np.full(df.shape, REACH)
        heavy = df < _GAUSSIAN_DF
        reach[heavy] = np.maximum(-sc.stdtrit(df[heavy], _TAIL), REACH)
        return cls(location, scale, df, reach)

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        """See `Block.ends`."""
        radius = self.reach * self.scale
        low, high = self.location - radius, self.location + radius
        spread = low < high
        return np.where(spread, low, -np.inf), np.where(spread, high, -np.inf)

    @property
    def points(self) -> FloatArray:
        """Where the point masses are, −inf for other arms; a scale below the digits of the location makes one too."""
        return np.where(self.ends[1] > -np.inf, -np.inf, self.location)

    @property
    def mean(self) -> FloatArray:
        """See `Block.mean`."""
        return self.location

    def rows(self, index: IntArray) -> Self:
        """Return the rows with these numbers."""
        return type(self)(self.location[index], self.scale[index], self.df[index], self.reach[index])

    def coarsest(self, able: BoolArray) -> IntArray:
        """The first suits every number of degrees of freedom."""
        return np.zeros(len(able), dtype=np.int64)

    def contest(self, rows: IntArray, arms: IntArray, chance: FloatArray | None = None) -> _StudentContest:
        """Centred on the narrowest arm, the one whose location needs the most digits.

        With chances, several narrow arms may be far apart: 9 digits are right down to scales of 1e-9 of the distance.
        """
        location, scale, df, reach = (v[rows[:, None], arms] for v in (self.location, self.scale, self.df, self.reach))
        narrowest = np.argmin(scale, axis=-1)[:, None]
        centre = np.take_along_axis(location, narrowest, axis=-1)
        half, one_half = 0.5 * df, np.full_like(df, 0.5)
        # −ln B(ν/2, ½) from the peak of the Beta law, whose formula is free of cancellation.
        log_inverse_beta = beta_log_peak(half, one_half) + half * np.log1p(1.0 / df) + 0.5 * np.log1p(df)
        log_peak = log_inverse_beta - 0.5 * np.log(df) - np.log(scale)
        if chance is None:
            return _StudentContest(centre[:, 0], location - centre, scale, df, reach, log_peak, np.ones_like(scale))
        return _StudentContest(centre[:, 0], location - centre, scale, df, reach, log_peak + np.log(chance), chance)


@dataclass(frozen=True, slots=True)
class _StudentContest:
    """Student-t posteriors, x = metric − centre. Per row: centre; the rest per arm."""

    centre: FloatArray
    offset: FloatArray
    scale: FloatArray
    df: FloatArray
    reach: FloatArray
    log_peak: FloatArray
    chance: FloatArray

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
        n_steps = int(np.ceil(n_steps * end.max() / np.arcsinh(0.5 * REACH)))
        t = np.arange(1, n_steps + 1) / n_steps
        z = 2.0 * np.sinh(end[..., None] * t) * self.scale[..., None]
        return edges(self.offset, -z, z)

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
        tail = np.where(heavy, sc.stdtr(df, -z), 0.0) * self.chance
        density = self.density(x[None, :, None])[:, 0, :, 0].T * self.scale
        excess = np.where(heavy, density * (df + z * z) / (df - 1.0) - z * tail, 0.0)
        return tail.T, np.sum(excess * self.scale, axis=-1)
