"""Label and bounded bets together: their mixture, its laws, and exact expectations on the edge of the null."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.arrays import FloatArray, IntArray
from bandit.inference import bounded, label, ratio_limit
from bandit.inference.exact import log_e_higher, log_e_lower, log_wealths_above_ratio, log_wealths_below_ratio
from bandit.inference.mixture import log_mean
from tests.bandit.inference.making import make_observed, make_outcomes, make_p, mapped, of_counts, stacked
from tests.bandit.inference.paths import every_path, stopped
from tests.bandit.inference.traffic import EQUAL_ARMS, equal_arms, ever, upper

SEEDS = st.integers(0, 10_000)
SIDES = (bounded.log_wealths_above, bounded.log_wealths_below)


def followed(arms: IntArray, y: FloatArray) -> FloatArray:
    """Traffic that chases success: the arm of the last event gets most users."""
    if y.shape[1] == 0:
        return np.full(len(y), 0.4)
    return np.where((y[:, -1] > 0.5) == (arms[:, -1] == 1), 0.85, 0.15)


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_the_exact_mean_of_the_e_value_is_at_most_one_however_it_is_stopped(ratio: float, part: float) -> None:
    def above(arms: IntArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        base = 0.1 + 0.5 * (arms.sum(axis=1) + y.sum(axis=1)) / (2.0 * max(y.shape[1], 1))
        return base, part * ratio * base

    def below(arms: IntArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        base, arm = above(arms, y)
        return part * base, arm / part

    for means, wealths in ((above, log_wealths_above_ratio), (below, log_wealths_below_ratio)):
        paths = every_path(5, followed, means, 0.4)
        log_e = log_mean(wealths(replace(paths.observed, fractional=True), 0, ratio))[..., 1]

        assert paths.mean(np.exp(log_e[:, -1])) <= 1.0 + 1e-12
        assert paths.mean(stopped(log_e, 1.03)) <= 1.0 + 1e-12
        assert paths.mean(np.where(np.exp(log_e[:, -1]) > 1.0, 1.0, 0.0)) > 0.05  # it does bet


def test_the_e_value_is_the_mean_of_the_wealths_of_all_bets() -> None:
    observed = replace(make_observed(make_outcomes(7), make_p(7)), fractional=True)

    higher, lower = log_e_higher(observed, 0), log_e_lower(observed, 0)
    limits = observed, 0, 1.2
    above, below = log_wealths_above_ratio(*limits), log_wealths_below_ratio(*limits)

    for found, bets in (
        (higher, [label.log_wealths_higher(observed, 0), bounded.log_wealths_above(observed, 0)]),
        (lower, [label.log_wealths_lower(observed, 0), bounded.log_wealths_below(observed, 0)]),
        (log_mean(above), [ratio_limit.log_wealths_above_ratio(*limits), bounded.log_wealths_above(*limits)]),
        (log_mean(below), [ratio_limit.log_wealths_below_ratio(*limits), bounded.log_wealths_below(*limits)]),
    ):
        np.testing.assert_allclose(np.exp(found), np.exp(np.concatenate(bets)).mean(axis=0))


def test_a_rate_is_left_to_bets_on_the_label() -> None:
    observed = make_observed(make_outcomes(7, kind="binary"), make_p(7))

    assert (log_e_higher(observed, 0) == label.log_e_higher(observed, 0)).all()
    assert (log_e_lower(observed, 0) == label.log_e_lower(observed, 0)).all()
    assert len(log_wealths_above_ratio(observed, 0, 1.2)) == len(ratio_limit.BETS)
    assert len(log_wealths_below_ratio(observed, 0, 1.2)) == len(ratio_limit.BETS)


def test_turned_outcomes_exchange_the_sides() -> None:
    outcomes, p = make_outcomes(3), make_p(3)

    one = replace(make_observed(outcomes, p), fractional=True)
    turned = replace(make_observed([[1.0 - y for y in arms] for arms in outcomes], p), fractional=True)

    np.testing.assert_allclose(log_e_higher(turned, 0)[:, 1:], log_e_lower(one, 0)[:, 1:], atol=1e-9)


def test_the_origin_and_the_bounds_of_outcomes_do_not_matter() -> None:
    outcomes, p = make_outcomes(6), make_p(6)
    stars = [[1.0 + 4.0 * y for y in arms] for arms in outcomes]

    one = replace(make_observed(outcomes, p), fractional=True)
    other = replace(make_observed(stars, p, origin=3.5, bounds=(1.0, 5.0)), fractional=True)

    np.testing.assert_allclose(log_e_higher(other, 0), log_e_higher(one, 0), atol=1e-9)


@given(seed=SEEDS)
def test_what_a_later_epoch_brings_changes_no_earlier_look(seed: int) -> None:
    observed = make_observed(make_outcomes(seed), make_p(seed))
    later = replace(observed, z=observed.z.copy(), z2=observed.z2.copy())
    later.z[-1] = later.z2[-1] = observed.n[-1]

    for wealths in SIDES:
        assert (wealths(later, 0)[:, :-1] == wealths(observed, 0)[:, :-1]).all()


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.5, 1.0])
def test_a_billion_users_and_one_sided_epochs_give_finite_numbers(rate: float) -> None:
    n = np.array([[1e9, 1e9], [1e9, 0.0], [0.0, 1e9], [1e9, 1e9]])
    observed = of_counts(n, rate * n, np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [1.0 - 1e-9, 1e-9]]))

    for wealths in SIDES:
        assert np.isfinite(wealths(observed, 0, 1.2)).all()


def test_relabelled_arms_and_replications_are_as_one_at_a_time() -> None:
    observed, order = make_observed(make_outcomes(4), make_p(4)), [2, 0, 1]

    alone = bounded.log_wealths_above(observed, 0, 1.1)
    relabelled = bounded.log_wealths_above(mapped(observed, lambda x: x[..., order]), 1, 1.1)
    doubled = bounded.log_wealths_above(stacked([observed, observed]), 0, 1.1)

    np.testing.assert_allclose(relabelled, alone[..., order], atol=1e-12)
    np.testing.assert_allclose(doubled[:, 1], alone, atol=1e-12)


@pytest.mark.parametrize("world", EQUAL_ARMS)
def test_equal_arms_are_told_apart_at_any_look_no_more_often_than_allowed(
    world: tuple[float, float, float, int],
) -> None:
    observed = replace(equal_arms(*world), fractional=True)

    for log_e in (log_e_higher(observed, 0), log_e_lower(observed, 0)):
        assert ever(log_e[..., 1], 0.05).mean() <= upper(0.05, len(log_e))
