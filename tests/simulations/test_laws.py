from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate

from simulations.laws import Bounds, Discrete, Law, Lognormal, Normal, Rate

LAWS: list[Law] = [Rate(0.3), Normal(2.0, 1.5), Normal(2.0, 0.0), Lognormal(2.0, 1.5), Lognormal(2.0, 0.0)]


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("x", [-1.0, 0.0, 0.4, 1.7, 5.0])
def test_excess_is_the_integral_of_the_chance_to_lie_above(law: Law, x: float) -> None:
    integral, _ = scipy.integrate.quad(law.above, x, 300.0, limit=500, points=[0.0, 1.0, 2.0, 5.0, 20.0])

    assert integral == pytest.approx(law.excess(x), abs=1e-5)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_draws_have_the_declared_mean_and_chance_to_lie_above(law: Law) -> None:
    drawn = law.draw(np.random.default_rng(1), 100_000)

    assert abs(drawn.mean() - law.mean) <= 3.9 * drawn.std() / math.sqrt(len(drawn)) + 1e-12
    above = law.above(1.7)
    assert abs((drawn > 1.7).mean() - above) <= 3.9 * math.sqrt(above * (1 - above) / len(drawn))


def test_a_lognormal_law_is_declared_by_the_outcome_not_by_its_logarithm() -> None:
    drawn = Lognormal(900.0, 300.0).draw(np.random.default_rng(2), 200_000)

    assert drawn.mean() == pytest.approx(900.0, rel=0.01)
    assert drawn.std() == pytest.approx(300.0, rel=0.02)


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("bounds", [Bounds(), Bounds(0.0), Bounds(1.0, 3.0), Bounds(high=1.5), Bounds(-1.0, 0.5)])
def test_the_mean_of_cut_outcomes_is_that_of_cut_draws(law: Law, bounds: Bounds) -> None:
    drawn = np.clip(law.draw(np.random.default_rng(3), 100_000), bounds.low, min(bounds.high, 2.5))

    assert abs(drawn.mean() - bounds.mean(law, cap=2.5)) <= 3.9 * drawn.std() / math.sqrt(len(drawn)) + 1e-9


def test_the_chance_to_lie_above_a_limit_knows_the_bounds() -> None:
    bounds, law = Bounds(1.0, 3.0), Normal(2.0, 1.0)

    assert [bounds.above(law, limit) for limit in (0.5, 2.0, 3.0)] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    "law", [Rate(0.3), Normal(2.0, 3.0), Lognormal(900.0, 300.0), Discrete.of([1, 2, 3, 5], [1, 2, 3, 4])]
)
def test_quantiles_of_uniform_luck_have_the_law(law: Law) -> None:
    """Mean and P(y > x) of 200,000 evenly spaced quantiles."""
    values = law.quantile((np.arange(200_000) + 0.5) / 200_000)
    assert values.mean() == pytest.approx(law.mean, rel=2e-3)
    assert (np.diff(values) >= 0.0).all()
    for x in (0.5, 2.0, 3.0, 900.0):
        assert (values > x).mean() == pytest.approx(law.above(x), abs=1e-5)
