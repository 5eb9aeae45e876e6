"""Shared-weight AIPW sums against a user-by-user calculation, their laws, and what the estimates are worth."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from bandit.arrays import FloatArray
from bandit.inference.observed import Observed
from bandit.inference.scores import Scores, plug_ins, running_scores, total_scores
from tests.bandit.inference.making import (
    Outcomes,
    joined,
    make_observed,
    make_outcomes,
    make_p,
    mapped,
    of_counts,
    stacked,
)
from tests.bandit.inference.traffic import binary, drifting, run_adaptive

SEEDS = st.integers(0, 10_000)
ORIGIN = 4.0


def plug_ins_by_user(outcomes: Outcomes, epoch: int, arm: int) -> tuple[float, float]:
    """Mean leaning by one user on that of all arms, at first of the epoch itself; variance about it by five."""
    mine = [float(y) for arms in outcomes[:epoch] for y in arms[arm]]
    everyone = [float(y) for arms in outcomes[:epoch] for ys in arms for y in ys]
    those = everyone or [float(y) for ys in outcomes[epoch] for y in ys]
    pooled = sum(those) / len(those) if those else ORIGIN
    spread = sum((y - pooled) ** 2 for y in everyone) / len(everyone) if everyone else 0.0
    mean = (sum(mine) + pooled) / (len(mine) + 1)
    return mean, (sum((y - mean) ** 2 for y in mine) + 5 * spread) / (len(mine) + 5)


def contrast_by_user(
    outcomes: Outcomes, p: FloatArray, control: int, arm: int, ratio: float, *, weighted: bool
) -> tuple[float, float, float]:
    """Estimate, empirical and plug-in squared standard error of mean(arm) − ratio × mean(control)."""
    scores: list[tuple[float, float]] = []
    promised = 0.0
    for epoch, arms in enumerate(outcomes):
        pi = p[epoch, arm] / (p[epoch, arm] + p[epoch, control])
        h = np.sqrt(pi * (1 - pi)) if weighted else 1.0
        (m, v), (m_c, v_c) = (plug_ins_by_user(outcomes, epoch, each) for each in (arm, control))
        scores += [(h, m + (y - m) / pi - ratio * m_c) for y in arms[arm]]
        scores += [(h, m - ratio * (m_c + (y - m_c) / (1 - pi))) for y in arms[control]]
        promised += h * h * (v / pi + ratio**2 * v_c / (1 - pi)) * (len(arms[arm]) + len(arms[control]))
    weight = sum(h for h, _ in scores)
    estimate = sum(h * score for h, score in scores) / weight
    empirical = sum(h * h * (score - estimate) ** 2 for h, score in scores)
    return estimate, empirical / weight**2, promised / weight**2


@given(seed=SEEDS, ratio=st.sampled_from([1.0, 1.2, 0.8]), weighted=st.booleans())
def test_estimates_and_errors_equal_those_summed_user_by_user(seed: int, ratio: float, weighted: bool) -> None:
    outcomes, p = make_outcomes(seed, kind="numeric"), make_p(seed)
    outcomes[0][0], outcomes[1][2] = np.array([5.0, 6.5]), np.array([7.0])

    scores = total_scores(make_observed(outcomes, p, origin=ORIGIN, bounds=None), control=1, weighted=weighted)

    for arm in (0, 2):
        estimate, empirical, promised = contrast_by_user(outcomes, p, 1, arm, ratio, weighted=weighted)
        assert scores.difference(ratio)[arm] == pytest.approx(estimate)
        assert scores.standard_error(ratio)[arm] ** 2 == pytest.approx(max(empirical, promised))
        assert scores.ratio(1.96)[0][arm] == pytest.approx(
            (scores.a[arm] / scores.h[arm] + ORIGIN) / (scores.b[arm] / scores.h[arm] + ORIGIN)
        )


@given(seed=SEEDS)
def test_plug_ins_are_those_of_the_users_of_earlier_epochs(seed: int) -> None:
    outcomes, p = make_outcomes(seed, kind="numeric"), make_p(seed)

    mean, variance = plug_ins(make_observed(outcomes, p, origin=ORIGIN, bounds=None))

    for epoch in range(5):
        for arm in range(3):
            expected = plug_ins_by_user(outcomes, epoch, arm)
            assert (mean[epoch, arm] + ORIGIN, variance[epoch, arm]) == pytest.approx(expected)


def columns(scores: Scores) -> list[FloatArray]:
    return [getattr(scores, field.name) for field in fields(scores) if field.name != "origin"]


def numeric(seed: int = 1) -> Observed:
    return make_observed(make_outcomes(seed, kind="numeric"), make_p(seed), origin=ORIGIN, bounds=None)


def test_running_sums_after_an_epoch_are_the_total_of_its_prefix() -> None:
    observed = numeric()

    running = running_scores(observed, 0)

    for epoch in range(5):
        prefix = total_scores(observed.upto(epoch + 1), 0)
        for one, other in zip(columns(running.at(epoch)), columns(prefix), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_sums_since_an_epoch_and_those_before_it_are_all_sums() -> None:
    running = running_scores(numeric(), 0)

    for before, since, whole in zip(
        *(columns(s) for s in (running.at(1), running.since(2), running.at(-1))), strict=True
    ):
        np.testing.assert_allclose(before + since, whole)
    assert (running.since(0).a == running.at(-1).a).all()


@given(seed=SEEDS)
def test_what_a_later_epoch_brings_changes_no_earlier_look(seed: int) -> None:
    observed = make_observed(make_outcomes(seed), make_p(seed))
    later = replace(observed, z=observed.z.copy(), z2=observed.z2.copy())
    later.z[-1], later.z2[-1] = 0.0, 0.0

    for one, other in zip(*(columns(running_scores(o, 0)) for o in (observed, later)), strict=True):
        assert (one[:-1] == other[:-1]).all()


def test_relabelled_arms_have_relabelled_estimates() -> None:
    observed, order = numeric(), [2, 0, 1]

    scores = total_scores(observed, 0)
    relabelled = total_scores(mapped(observed, lambda x: x[..., order]), 1)

    np.testing.assert_allclose(relabelled.difference(), scores.difference()[order])
    np.testing.assert_allclose(relabelled.standard_error(), scores.standard_error()[order])


def test_replications_on_leading_axes_are_as_one_at_a_time() -> None:
    each = [numeric(seed) for seed in range(4)]
    both = mapped(stacked(each), lambda x: x.reshape(2, 2, 5, 3))

    together = running_scores(both, 0)

    for index, one in enumerate(each):
        alone = running_scores(one, 0)
        for a, b in zip(columns(together), columns(alone), strict=True):
            np.testing.assert_allclose(a[index // 2, index % 2], b, rtol=1e-12, atol=1e-12)


@given(seed=SEEDS, shift=st.floats(-50, 50))
def test_the_origin_and_a_constant_added_to_all_outcomes_change_no_difference(seed: int, shift: float) -> None:
    outcomes, p = make_outcomes(seed, kind="numeric"), make_p(seed)
    outcomes[0][0], outcomes[0][1] = np.array([4.0]), np.array([5.0, 5.5])
    shifted = [[y + shift for y in arms] for arms in outcomes]

    one = total_scores(make_observed(outcomes, p, origin=5.0, bounds=None), 0)
    moved = total_scores(make_observed(outcomes, p, origin=5.0 + shift, bounds=None), 0)
    added = total_scores(make_observed(shifted, p, origin=5.0, bounds=None), 0)

    for other in (moved, added):
        np.testing.assert_allclose(other.difference(), one.difference(), atol=1e-9)
        np.testing.assert_allclose(other.standard_error(), one.standard_error(), atol=1e-7)


@pytest.mark.parametrize("scale", [1e-60, 3.0, 1e60])
def test_estimates_have_the_unit_of_the_outcomes(scale: float) -> None:
    outcomes, p = make_outcomes(3, kind="numeric"), make_p(3)
    scaled = [[y * scale for y in arms] for arms in outcomes]

    one = total_scores(make_observed(outcomes, p, origin=5.0, bounds=None), 0)
    other = total_scores(make_observed(scaled, p, origin=5.0 * scale, bounds=None), 0)

    np.testing.assert_allclose(other.difference(), scale * one.difference())
    np.testing.assert_allclose(other.standard_error(), scale * one.standard_error())


def test_empty_epochs_and_epochs_in_which_only_one_of_the_pair_could_be_drawn_change_nothing() -> None:
    observed = make_observed(make_outcomes(5), make_p(5))
    one_sided = np.array([[0.0, 0.6, 0.4], [0.5, 0.5, 0.0]])
    users = np.array([[0.0, 7.0, 3.0], [0.0, 0.0, 0.0]])
    extra = of_counts(users, users / 2.0, one_sided)
    longer = joined(observed, extra)

    for one, other in zip(*(columns(total_scores(o, 0)) for o in (observed, longer)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_users_of_other_arms_enter_by_the_pooled_plug_in_alone() -> None:
    n, p = np.array([[20.0, 30.0, 0.0], [25.0, 25.0, 0.0]]), np.array([[0.3, 0.5, 0.2], [0.2, 0.4, 0.4]])
    crowded = n + np.array([0.0, 0.0, 40.0])

    alone, beside = (total_scores(of_counts(users, 0.5 * users, p), 0) for users in (n, crowded))

    assert alone.t[1] == beside.t[1] == 100.0
    assert alone.difference()[1] == pytest.approx(beside.difference()[1], abs=1e-12)


def test_there_is_no_estimate_without_users_of_the_pair() -> None:
    scores = total_scores(of_counts(np.zeros((2, 2)), np.zeros((2, 2)), np.full((2, 2), 0.5)), 0)

    assert np.isnan(scores.difference()).all()
    assert np.isnan(scores.standard_error()).all()
    assert scores.t.sum() == 0.0


@pytest.mark.parametrize("users", [1.0, 1e9])
def test_one_user_or_a_billion_give_finite_numbers(users: float) -> None:
    n = np.array([[0.0, users], [users, 0.0], [users, users]])

    scores = running_scores(of_counts(n, 0.25 * n, np.full((3, 2), 0.5)), 0)

    assert np.isfinite(scores.difference()[:, 1]).all()
    assert (scores.standard_error()[1:, 1] > 0.0).all()


def test_the_error_of_a_billion_users_is_that_of_the_difference_of_two_rates() -> None:
    n = np.full((50, 2), 1e9)

    error = float(total_scores(of_counts(n, 0.25 * n, np.full((50, 2), 0.5)), 0).standard_error()[1])

    assert error == pytest.approx(np.sqrt(2 * 0.25 * 0.75 / 50e9), rel=0.01)


@given(seed=SEEDS, width=st.floats(0.2, 3.0))
def test_ends_of_the_ratio_are_where_the_contrast_is_width_errors_from_zero(seed: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    outcomes = [[rng.normal(5.0, 1.0, 30) for _ in range(2)] for _ in range(3)]
    scores = total_scores(make_observed(outcomes, make_p(seed, 3, 2), origin=4.0, bounds=None), 0)

    estimate, low, high = (float(x[1]) for x in scores.ratio(width))

    def beyond(r: float) -> float:
        return float(abs(scores.difference(r)[1]) - width * scores.standard_error(r)[1])

    expected_low = optimize.brentq(beyond, estimate - 20.0, estimate, xtol=1e-13)
    expected_high = optimize.brentq(beyond, estimate, estimate + 20.0, xtol=1e-13)
    assert (low, high) == pytest.approx((expected_low, expected_high), rel=1e-6)


def test_ends_of_the_ratio_never_lie_inside_what_the_plug_in_variances_promise() -> None:
    """Outcomes that stopped varying have next to no empirical error, and keep that of the users before."""
    rng = np.random.default_rng(1)
    outcomes = [[rng.normal(mean, 1.0, 20) for mean in (5.0, 6.0)], [np.full(2000, 5.0), np.full(2000, 6.0)]]
    scores = total_scores(make_observed(outcomes, np.full((2, 2), 0.5), origin=4.0, bounds=None), 0)

    _, low, high = (float(x[1]) for x in scores.ratio(1.5))

    for end in (low, high):
        promised = np.sqrt(scores.va[1] + end**2 * scores.vb[1]) / scores.h[1]
        assert abs(scores.difference(end)[1]) == pytest.approx(1.5 * float(promised))
    assert scores.standard_error(1.2)[1] == pytest.approx(float(np.sqrt(scores.va + 1.44 * scores.vb)[1] / scores.h[1]))


def test_the_ratio_is_unbounded_where_the_mean_of_control_may_be_zero() -> None:
    outcomes = [[np.array([-1.0, 1.0, 0.5]), np.array([2.0, 3.0, 2.5])]]

    _, low, high = total_scores(make_observed(outcomes, np.array([[0.5, 0.5]]), bounds=None), 0).ratio(3.0)

    assert (low[1], high[1]) == (-np.inf, np.inf)


def test_the_unweighted_estimate_is_unbiased_though_traffic_follows_the_data() -> None:
    observed = run_adaptive(binary(drifting(0.5, 0.5, 40, (1.0, 1.1))), seed=11, n_epochs=40, replications=4000)

    estimate = total_scores(observed, 0, weighted=False).difference()[:, 1]
    naive = observed.z.sum(axis=-2) / observed.n.sum(axis=-2)
    naive_bias = float((naive[:, 1] - naive[:, 0]).mean() - 0.05)

    error = float(estimate.std() / np.sqrt(len(estimate)))
    assert estimate.mean() == pytest.approx(0.05, abs=3.9 * error)
    assert naive_bias > 3.9 * error


def test_intervals_of_the_ratio_hold_the_true_ratio_as_often_as_they_should() -> None:
    rates = drifting(0.3, 0.5, 60, (1.0, 1.1))  # the ratio stays while both rates move
    observed = run_adaptive(binary(rates), seed=12, n_epochs=60, replications=3000)

    _, low, high = total_scores(observed, 0).ratio(1.959964)

    covered = float(((low[:, 1] <= 1.1) & (high[:, 1] >= 1.1)).mean())
    assert 0.93 <= covered <= 0.97
