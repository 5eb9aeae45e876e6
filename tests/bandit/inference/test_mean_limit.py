"""Bets on a mean against a limit by loops over users, their exact expectations, and certificates without a cap."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.arrays import FloatArray
from bandit.inference.confidence_sequence import half_width, one_sided_log_e_value, tuning
from bandit.inference.mean_limit import Mean, log_wealths_above, log_wealths_below
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed
from bandit.ledger import exact_row
from bandit.measures import BETTING_FRACTIONS, Measure
from tests.bandit.inference.making import make_observed
from tests.bandit.inference.traffic import ever, upper

FREE = Measure("cost", "numeric", "mean", limit=2.0)
CAPPED = Measure("cost", "numeric", "mean", cap=7.0, limit=2.0)


def rows(measure: Measure, epochs: list[FloatArray]) -> FloatArray:
    """Ledger rows of one arm, shape (n_epochs, 1, width)."""
    return np.array([[exact_row(measure, 1.5, ys.tolist())] for ys in epochs])


def costs(seed: int, epochs: int = 4) -> list[FloatArray]:
    rng = np.random.default_rng(seed)
    return [np.minimum(rng.lognormal(0.3, 1.0, size), 7.0) for size in rng.integers(0, 12, epochs)]


@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.0, 0.1, 1.5]))
def test_wealths_equal_those_of_bets_made_user_by_user(seed: int, tolerance: float) -> None:
    epochs = costs(seed)

    above = log_wealths_above(rows(CAPPED, epochs))
    below = log_wealths_below(CAPPED, rows(CAPPED, epochs), tolerance)

    for place, fraction in enumerate(BETTING_FRACTIONS):
        up = down = 1.0
        for y in np.concatenate(epochs):
            up *= 1.0 + fraction * (y / 2.0 - 1.0)
            stake = -fraction / (7.0 / 2.0 - 1.0)
            down *= (1.0 + stake * (y / 2.0 - 1.0)) / (1.0 + stake * tolerance)
        assert np.exp(above[place, -1, 0]) == pytest.approx(up)
        assert np.exp(below[place, -1, 0]) == pytest.approx(down)


def test_every_look_is_that_of_its_prefix_and_order_inside_an_epoch_does_not_matter() -> None:
    epochs = costs(3)

    whole = log_wealths_above(rows(FREE, epochs))
    turned = log_wealths_above(rows(FREE, [ys[::-1] for ys in epochs]))

    for look in range(4):
        np.testing.assert_allclose(whole[:, look], log_wealths_above(rows(FREE, epochs[: look + 1]))[:, -1])
    assert (whole == turned).all()


def exact_mean(law: tuple[float, float], means: tuple[float, float], tolerance: float, *, above: bool) -> float:
    """E over all paths of four users with two possible costs; the mean is the second one after a dear user."""
    total = 0.0
    for path in product((0, 1), repeat=4):
        probability = 1.0
        for last, dear in zip((0, *path), path, strict=False):
            share = (means[last] - law[0]) / (law[1] - law[0])
            probability *= share if dear else 1.0 - share
        sums = rows(CAPPED, [np.array([law[dear]]) for dear in path])
        logs = log_wealths_above(sums) if above else log_wealths_below(CAPPED, sums, tolerance)
        total += probability * float(np.exp(log_mean(logs))[-1, 0])
    return total


LAWS = [(0.0, 7.0), (0.5, 4.5), (1.9, 7.0)]


@pytest.mark.parametrize("law", LAWS)
def test_the_exact_mean_against_a_kept_limit_is_one_at_it_and_less_below(law: tuple[float, float]) -> None:
    assert exact_mean(law, (2.0, 2.0), 0.0, above=True) == pytest.approx(1.0, abs=1e-12)
    assert exact_mean(law, (1.95, 2.0), 0.0, above=True) < 1.0
    assert exact_mean(law, (2.5, 2.5), 0.0, above=True) > 1.0


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("tolerance", [0.0, 0.2, 1.0])
def test_the_exact_mean_against_a_broken_limit_is_one_at_it_and_less_above(
    law: tuple[float, float], tolerance: float
) -> None:
    limit = 2.0 * (1.0 + tolerance)

    assert exact_mean(law, (limit, limit), tolerance, above=False) == pytest.approx(1.0, abs=1e-12)
    assert exact_mean(law, (limit, 1.1 * limit), tolerance, above=False) < 1.0
    assert exact_mean(law, (0.98 * limit, 0.98 * limit), tolerance, above=False) > 1.0


def test_means_beyond_the_limit_are_found_and_others_certified() -> None:
    rng = np.random.default_rng(1)
    dear = [np.minimum(rng.lognormal(0.8, 0.8, 400), 7.0)]
    cheap = [np.minimum(rng.lognormal(-0.4, 0.5, 400), 7.0)]

    assert log_mean(log_wealths_above(rows(CAPPED, dear)))[-1, 0] > math.log(1000.0)
    assert log_mean(log_wealths_below(CAPPED, rows(CAPPED, cheap), 0.0))[-1, 0] > math.log(1000.0)
    assert log_mean(log_wealths_above(rows(CAPPED, cheap)))[-1, 0] < 0.0


def test_costs_without_a_cap_whose_mean_is_the_limit_are_breached_no_more_often_than_allowed() -> None:
    rng = np.random.default_rng(61)
    y = 2.0 * rng.lognormal(-0.5, 1.0, (600, 1200))

    wealth = np.cumsum(np.log1p(np.array(BETTING_FRACTIONS)[:, None, None] * (y / 2.0 - 1.0)), axis=-1)

    assert ever(log_mean(wealth), 0.05).mean() <= upper(0.05, len(y))


def test_the_mean_of_an_arm_has_the_interval_and_the_e_value_of_the_normal_mixture() -> None:
    y = np.random.default_rng(2).normal(5.0, 1.0, 500)
    observed = make_observed([[y[:300]], [y[300:]]], np.ones((2, 1)), origin=4.0, bounds=None)

    mean = Mean.of(observed)
    low, high = mean.interval(0.05, 400.0)

    error = y.std() / math.sqrt(500)
    half = float(half_width(500.0, tuning(0.05, 400.0), 0.05)) * error
    assert (mean.mean[0], mean.variance[0]) == pytest.approx((y.mean(), y.var()))
    assert (low[0], high[0]) == pytest.approx((y.mean() - half, y.mean() + half))
    expected = one_sided_log_e_value((5.2 - y.mean()) / error, 500.0, tuning(0.1, 400.0))
    assert mean.log_e_below(5.2, 0.1, 400.0)[0] == pytest.approx(float(expected))
    assert mean.log_e_below(5.2, 0.1, 400.0, 4.0)[0] > mean.log_e_below(5.2, 0.1, 400.0)[0]


@pytest.mark.parametrize("ys", [np.empty(0), np.ones(1), np.full(1000, 3.0), np.append(np.ones(999), 1e6)])
def test_a_mean_is_not_read_without_users_nor_where_nothing_varied_nor_where_one_user_is_all_that_varied(
    ys: FloatArray,
) -> None:
    mean = Mean.of(make_observed([[ys]], np.ones((1, 1)), origin=1.0, bounds=None))

    assert not mean.readable[0]
    assert mean.log_e_below(100.0, 0.05, 1000.0)[0] == 0.0
    assert np.isnan(mean.interval(0.05, 1000.0)[0][0])


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_costs_without_a_cap_at_their_limit_are_hardly_ever_certified(sigma: float) -> None:
    """At a small level, where skewness deceives a normal approximation most; 25 users per squared skewness give .05."""
    rng, level = np.random.default_rng(62), 0.0021
    wrong = np.zeros(400, dtype=bool)
    blocks = 2.0 * rng.lognormal(-(sigma**2) / 2.0, sigma, (10, 400, 500))
    for look in range(1, 11):
        epochs = np.moveaxis(blocks[:look], 0, -2).reshape(400, 1, look * 500)
        mean = Mean.of(of_many(epochs))
        wrong |= mean.log_e_below(2.0, 2.0 * level, 2500.0)[:, 0] >= -math.log(level)

    assert wrong.mean() <= upper(level, len(wrong))


def of_many(y: FloatArray) -> Observed:
    """One epoch of one arm, y of shape (replications, 1, users)."""
    n, z = np.full((len(y), 1, 1), float(y.shape[-1])), y - 2.0
    z1, z2, z3 = ((z**power).sum(axis=-1)[..., np.newaxis] for power in (1, 2, 3))
    return Observed(np.ones_like(n), n, z1, z2, z3, 2.0, None, True)
