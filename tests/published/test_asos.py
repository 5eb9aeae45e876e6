"""Looking at real experiments: significance that comes and goes. See tests/data/asos/README.md.

Some of these experiments have real effects, and nobody knows which. So rules are compared with each other on the series
as they are, and errors are counted on series whose steps were given random signs, where there is no effect.
"""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.inference.confidence_sequence import log_e_value, tuning
from bandit.inference.welch import Sample, welch
from tests.simulations.making import Z

DATA = Path(__file__).parents[1] / "data" / "asos" / "experiments.csv.gz"
ALPHA = 0.05
CRITICAL = float(stats.norm.isf(ALPHA / 2))

# One number of users for all series, whatever their results: nine in ten pass 100,000 users by their first look here.
# What is said must not hang on it, so ten times fewer and ten times more are tried too.
TUNED_TO = pytest.mark.parametrize("tuned_to", [1e4, 1e5, 1e6])


@dataclass(frozen=True)
class Series:
    """One treatment against control by one metric, look by look; every array has shape (n_looks,).

    Attributes:
        count_c: Users of control.
        count_t: Users of the treatment.
        difference: Mean of the treatment minus mean of control.
        error: Standard error of the difference.
    """

    count_c: FloatArray
    count_t: FloatArray
    difference: FloatArray
    error: FloatArray

    @property
    def z(self) -> FloatArray:
        """Difference in standard errors."""
        return self.difference / self.error

    @property
    def users(self) -> FloatArray:
        """Users of both."""
        return self.count_c + self.count_t

    @property
    def pairs(self) -> FloatArray:
        """What turns a difference of means into a sum: half the users of each, if both have as many."""
        return 1.0 / (1.0 / self.count_c + 1.0 / self.count_t)

    @property
    def steps(self) -> FloatArray:
        """What each look added to the summed difference."""
        return np.diff(self.pairs * self.difference, prepend=0.0)


def rows() -> dict[tuple[str, str, str], list[list[float]]]:
    """Return the looks of each series as numbers, from `time_since_start` on."""
    looks: dict[tuple[str, str, str], list[list[float]]] = {}
    with gzip.open(DATA, "rt") as lines:
        for experiment, variant, metric, *numbers in list(csv.reader(lines))[1:]:
            looks.setdefault((experiment, variant, metric), []).append([float(x) for x in numbers])
    return looks


@pytest.fixture(scope="module")
def series() -> list[Series]:
    """All series, without looks at fewer than two users of a side or at outcomes that do not vary."""
    found = []
    for looks in rows().values():
        _, count_c, count_t, mean_c, mean_t, variance_c, variance_t = np.array(looks).T
        use = (np.minimum(count_c, count_t) >= 2) & (variance_c + variance_t > 0)
        c, t = count_c[use], count_t[use]
        error = np.sqrt(variance_c[use] / c + variance_t[use] / t)
        found.append(Series(c, t, (mean_t - mean_c)[use], error))
    return found


def decided(z: FloatArray, users: FloatArray, tuned_to: float) -> BoolArray:
    """Return at which looks the confidence sequence excludes 0, shape of z."""
    return np.asarray(log_e_value(z, users, tuning(ALPHA, tuned_to)) >= math.log(1.0 / ALPHA))


@dataclass(frozen=True)
class Rule:
    """What a rule finds in the series; both of shape (n_series,).

    Attributes:
        found: Whether it finds a difference at some look.
        gone: Whether it does, and at the last look there is none at the 5 % level.
    """

    found: BoolArray
    gone: BoolArray

    @classmethod
    def of(cls, looks: list[BoolArray], series: list[Series]) -> Rule:
        """From the looks at which the rule finds a difference, one array per series."""
        found = np.array([look.any() for look in looks])
        return cls(found, found & ~significant_at_the_end(series))


def significant_at_the_end(series: list[Series], level: float = ALPHA) -> BoolArray:
    """Return whether the last look alone is significant, shape (n_series,)."""
    return np.array([abs(s.z[-1]) > stats.norm.isf(level / 2) for s in series])


@pytest.fixture(scope="module")
def naive(series: list[Series]) -> Rule:
    return Rule.of([np.abs(s.z) > CRITICAL for s in series], series)


def any_time(series: list[Series], tuned_to: float) -> Rule:
    return Rule.of([decided(s.z, s.users, tuned_to) for s in series], series)


def test_the_extract_has_these_series(series: list[Series]) -> None:
    looks = rows()

    assert len(looks) == len(series) == 224
    assert len({key[0] for key in looks}) == 46
    assert len({key[:2] for key in looks}) == 56
    assert sum(map(len, looks.values())) == 4_339
    for numbers in looks.values():
        days = np.array(numbers)[:, 0]
        assert np.all(np.diff(np.ceil(days / 2 - 1e-9)) >= 1)


def test_so_many_users_are_normal_to_welchs_test(series: list[Series]) -> None:
    """So |z| > 1.96 is what a dashboard with Welch's test would have shown."""
    for looks, s in zip(rows().values(), series, strict=True):
        _, count_c, count_t, mean_c, mean_t, variance_c, variance_t = looks[-1]

        test = welch(Sample(count_t, mean_t, variance_t), Sample(count_c, mean_c, variance_c), ALPHA)

        assert test is not None
        assert test.t == pytest.approx(s.z[-1])
        assert test.p_value == pytest.approx(2 * stats.norm.sf(abs(s.z[-1])), abs=1e-4)


def test_half_of_the_series_are_significant_at_some_look_and_a_quarter_at_the_end(
    series: list[Series], naive: Rule
) -> None:
    at_the_end = significant_at_the_end(series)

    assert naive.found.sum() == 109  # 48.7 %
    assert at_the_end.sum() == 57  # 25.4 %
    assert naive.gone.sum() == naive.found.sum() - at_the_end.sum()


@TUNED_TO
def test_the_any_time_test_finds_less_than_half_of_that(series: list[Series], naive: Rule, tuned_to: float) -> None:
    rule = any_time(series, tuned_to)

    assert rule.found.sum() < 0.5 * naive.found.sum()
    assert not np.any(rule.found & ~naive.found)
    assert rule.found.sum() <= significant_at_the_end(series).sum()


@TUNED_TO
def test_what_the_any_time_test_finds_is_seldom_gone_at_the_end(
    series: list[Series], naive: Rule, tuned_to: float
) -> None:
    rule = any_time(series, tuned_to)

    assert naive.gone.sum() > 0.4 * naive.found.sum()
    assert rule.gone.sum() < 0.25 * rule.found.sum()
    assert rule.gone.sum() < 0.25 * naive.gone.sum()


@TUNED_TO
def test_the_any_time_test_misses_one_strong_effect_at_most(series: list[Series], tuned_to: float) -> None:
    """Significant at the end even if all series are corrected for, after Bonferroni: 28 of 224."""
    strong = significant_at_the_end(series, ALPHA / len(series))

    assert strong.sum() == 28
    assert any_time(series, tuned_to).found[strong].sum() >= 27


def signed(s: Series, signs: IntArray) -> FloatArray:
    """Return z at each look if every step of the summed difference had one of these signs.

    One factor per series makes its last standard error fit its steps; the earlier ones follow.

    Args:
        s: A series.
        signs: −1 or 1, shape (n_draws, n_looks).
    """
    error = s.pairs * s.error
    factor = math.sqrt(float((s.steps**2).sum())) / error[-1]
    return np.asarray(np.cumsum(signs * s.steps, axis=1) / (factor * error))


def test_steps_vary_more_than_the_reported_standard_errors_say(series: list[Series]) -> None:
    """Users come back and effects differ from day to day; the any-time test is for sums over new users.

    With the reported standard errors it would err in 16 to 20 % of the series with random signs.
    """
    ratio = [float((s.steps**2).sum()) / (s.pairs * s.error)[-1] ** 2 for s in series]

    assert np.median(ratio) > 1.2


@TUNED_TO
def test_without_an_effect_the_any_time_test_errs_within_its_level_and_looking_does_not(
    series: list[Series], tuned_to: float
) -> None:
    """Steps with random signs: real in size and timing, and no effect in them."""
    rng, n_draws = np.random.default_rng(1), 100
    last, some, decisions = np.empty((3, len(series)))
    for i, s in enumerate(series):
        z = signed(s, rng.choice(np.array([-1, 1]), (n_draws, len(s.steps))))
        last[i] = (np.abs(z[:, -1]) > CRITICAL).mean()
        some[i] = (np.abs(z) > CRITICAL).any(axis=1).mean()
        decisions[i] = decided(z, s.users, tuned_to).any(axis=1).mean()

    luck = Z * math.sqrt(ALPHA * (1.0 - ALPHA) / (n_draws * len(series)))
    assert last.mean() <= ALPHA + luck
    assert some.mean() > 3 * ALPHA
    assert decisions.mean() <= ALPHA + luck
