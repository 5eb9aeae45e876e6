"""Repeated significance tests: what looking costs, and that the confidence sequence does not pay it.

Both errors are computed without simulation, by the recursion of Armitage, McPherson and Rowe (1969), Repeated
significance tests on accumulating data, JRSS A 132: the law of a sum of normal observations that has not yet
crossed a symmetric boundary is carried from look to look by quadrature. A simulation checks the recursion.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special as sc
from numpy.polynomial import legendre
from scipy import stats

from bandit.arrays import FloatArray
from bandit.inference.confidence_sequence import half_width, log_e_value, tuning
from tests.simulations.making import Z

ALPHA = 0.05
LOOKS = np.arange(1.0, 1001.0)

# Table 2, normal data of known variance, nominal level .05: chance of a significant result within so many looks.
TABLE_2 = {
    1: 0.050, 2: 0.083, 3: 0.107, 4: 0.126, 5: 0.142, 10: 0.193,
    20: 0.248, 50: 0.320, 100: 0.374, 200: 0.424, 1000: 0.530,
}  # fmt: skip


def error_within(critical: FloatArray) -> FloatArray:
    """Return the chance that |z| has exceeded its critical value by each look, one observation per look.

    Args:
        critical: Critical values of |z|, positive, shape (n_looks,).

    Returns:
        Same shape.
    """
    edges = critical * np.sqrt(np.arange(1, len(critical) + 1))
    inside = np.empty(len(edges))
    unit, weight = legendre.leggauss(10)
    sums, mass = np.zeros(1), np.ones(1)  # nodes, and weight × density of sums not yet outside
    for look, edge in enumerate(edges):
        inside[look] = mass @ (sc.ndtr(edge - sums) - sc.ndtr(-edge - sums))
        reach = min(edge, 8.0 * math.sqrt(look + 1))  # what lies further out has a chance of 1e-15
        # The density is as smooth as the normal one: panels of at most 3 standard deviations and 10 nodes.
        n_panels = max(2, math.ceil(reach / 1.5))
        corners = np.linspace(-reach, reach, n_panels + 1)
        half = reach / n_panels
        nodes = (corners[:-1, None] + half * (1.0 + unit)).ravel()
        density = np.exp(-0.5 * (nodes[:, None] - sums) ** 2) @ mass / math.sqrt(2.0 * math.pi)
        sums, mass = nodes, np.tile(half * weight, n_panels) * density
    return 1.0 - inside


def simulated(critical: FloatArray, n_runs: int, seed: int) -> FloatArray:
    """Return the share of simulated runs with |z| above its critical value by each look."""
    rng, crossed = np.random.default_rng(seed), np.zeros(len(critical))
    for _ in range(n_runs // 1000):
        z = rng.standard_normal((1000, len(critical))).cumsum(axis=1) / np.sqrt(np.arange(1, len(critical) + 1))
        crossed += np.logical_or.accumulate(np.abs(z) > critical, axis=1).sum(axis=0)
    return crossed / n_runs


@pytest.fixture(scope="module")
def naive() -> FloatArray:
    return error_within(np.full(1000, stats.norm.isf(ALPHA / 2)))


def test_two_and_three_looks_agree_with_the_multivariate_normal_law(naive: FloatArray) -> None:
    c = stats.norm.isf(ALPHA / 2)
    for looks in (1, 2, 3):
        n = np.arange(1, looks + 1)
        law = stats.multivariate_normal(cov=np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n)), seed=1)
        within = law.cdf(np.full(looks, c), lower_limit=np.full(looks, -c))

        assert naive[looks - 1] == pytest.approx(1.0 - within, abs=2e-5)


def test_repeated_tests_err_as_armitage_mcpherson_and_rowe_printed(naive: FloatArray) -> None:
    for looks, printed in TABLE_2.items():
        assert naive[looks - 1] == pytest.approx(printed, abs=0.0006), looks  # three digits, rounded


def test_simulated_repeated_tests_err_as_computed(naive: FloatArray) -> None:
    n_runs = 20_000

    seen = simulated(np.full(1000, stats.norm.isf(ALPHA / 2)), n_runs, seed=1)

    at = np.array(list(TABLE_2)) - 1
    assert np.all(np.abs(seen - naive)[at] < Z * np.sqrt(naive * (1.0 - naive) / n_runs)[at])


@pytest.mark.parametrize("tuned_to", [2, 20, 100, 500])
def test_the_confidence_sequence_keeps_its_level_over_all_looks(tuned_to: float) -> None:
    critical = half_width(LOOKS, tuning(ALPHA, tuned_to), ALPHA)

    error = error_within(critical)

    assert error[-1] <= ALPHA
    assert error[-1] > 0.4 * ALPHA  # and spends a good part of it: the bound is not met by looking away


def test_the_confidence_sequence_errs_in_simulations_as_computed() -> None:
    rho2, n_runs = tuning(ALPHA, 20), 10_000
    expected = error_within(half_width(LOOKS, rho2, ALPHA))[-1]
    rng, found = np.random.default_rng(2), 0

    for _ in range(n_runs // 1000):
        z = rng.standard_normal((1000, 1000)).cumsum(axis=1) / np.sqrt(LOOKS)
        found += int(np.any(log_e_value(z, LOOKS, rho2) >= math.log(1.0 / ALPHA), axis=1).sum())

    assert abs(found / n_runs - expected) < Z * math.sqrt(expected * (1.0 - expected) / n_runs)
