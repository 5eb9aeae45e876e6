"""The chance of being the best of the arms that may be chosen, against sums over which arms may and sampling."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit import best_arm as module
from bandit.arrays import FloatArray
from bandit.best_arm import probability_best
from bandit.posteriors import BetaPosterior, Posterior, StudentPosterior
from bandit.quadrature import Contenders, Maximum, Resolution, largest
from bandit.student_law import StudentBlock
from tests.bandit.test_best_arm import (
    BETA_CASES,
    STUDENT_CASES,
    beta,
    draws,
    posteriors,
    random_betas,
    random_students,
    row,
    shuffled,
    student,
)

INF = math.inf


def over_subsets(posterior: Posterior, feasible: FloatArray) -> FloatArray:
    """The definition: Σ over the sets of arms that may be chosen of P(these arms may) · P(best of these arms)."""
    n_arms = feasible.shape[-1]
    total = np.zeros(feasible.shape)
    for may in itertools.product((False, True), repeat=n_arms):
        chance = np.prod(np.where(may, feasible, 1.0 - feasible), axis=-1, keepdims=True)
        if np.any(chance > 0.0):
            arms = np.flatnonzero(may)
            some = type(posterior)(*(getattr(posterior, field.name)[..., arms] for field in fields(posterior)))
            total[..., arms] += chance * probability_best(some)
    return total


def random_chances(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Chances of every kind, with one arm of each row that is sure to be feasible."""
    kinds = [np.zeros(shape), np.ones(shape), np.full(shape, 1e-12), np.full(shape, 1 - 1e-12), rng.random(shape)]
    chances = np.choose(rng.integers(0, 6, shape), [*kinds, 10.0 ** rng.uniform(-12, 0, shape)])
    np.put_along_axis(chances, rng.integers(0, shape[-1], (*shape[:-1], 1)), 1.0, axis=-1)
    return chances


def distant_betas(rng: np.random.Generator, shape: tuple[int, ...]) -> BetaPosterior:
    """Narrow arms with nothing between them: what each says about the other cancels in up to 1e8 observations."""
    n = 10 ** rng.uniform(4, 7.5, shape)
    p = rng.choice([1e-6, 1e-3, 0.1, 0.3, 0.5, 0.9, 0.999], shape)
    return BetaPosterior(np.maximum(n * p, 0.3), np.maximum(n * (1 - p), 0.3))


def students_with_points(rng: np.random.Generator, shape: tuple[int, ...]) -> StudentPosterior:
    """More than half of the arms are point masses, many of them tied."""
    location = np.where(rng.random(shape) < 0.6, rng.integers(0, 3, shape), rng.normal(1, 1, shape))
    scale = np.where(rng.random(shape) < 0.55, 0.0, 10 ** rng.uniform(-3, 1, shape))
    return StudentPosterior(location, scale, np.where(rng.random(shape) < 0.3, INF, rng.uniform(2, 50, shape)))


def posterior_of_kind(kind: str, rng: np.random.Generator, n_arms: int) -> Posterior:
    match kind:
        case "beta":
            return random_betas(rng, (40, n_arms), lowest=0.01)
        case "distant beta":
            return distant_betas(rng, (40, n_arms))
        case "student":
            return random_students(rng, (10, n_arms))
        case _:
            return students_with_points(rng, (40, n_arms))


@pytest.mark.parametrize("kind", ["beta", "distant beta", "student", "points"])
@pytest.mark.parametrize("n_arms", [2, 3, 4, 5, 6])
def test_the_answer_is_the_sum_over_the_sets_of_feasible_arms(kind: str, n_arms: int) -> None:
    rng = np.random.default_rng([n_arms, len(kind)])
    posterior = posterior_of_kind(kind, rng, n_arms)
    feasible = random_chances(rng, posterior.mean.shape)

    answer = probability_best(posterior, feasible)

    np.testing.assert_allclose(answer, over_subsets(posterior, feasible), rtol=0, atol=1e-9)
    np.testing.assert_allclose(answer.sum(axis=-1), 1.0, rtol=0, atol=1e-14)
    assert np.all(answer >= 0.0)
    assert np.all(answer[feasible == 0.0] == 0.0)


@pytest.mark.parametrize("posterior", [BETA_CASES["skewed both ways"], STUDENT_CASES["mixed tails"]])
def test_sampling_agrees(posterior: Posterior) -> None:
    rng = np.random.default_rng(20_240_607)
    n_draws = 400_000
    feasible = np.resize([0.3, 0.8, 1.0, 0.05], len(posterior.mean))
    may = rng.random((n_draws, len(feasible))) < feasible
    winners = np.where(may, draws(posterior, n_draws, rng), -INF).argmax(axis=1)
    wins = np.bincount(winners, minlength=len(feasible)) / n_draws

    p = probability_best(posterior, feasible)

    # z = 3.9: a false alarm in about 1 of 10,000 arms.
    assert np.all(np.abs(wins - p) <= 3.9 * np.sqrt(p * (1.0 - p) / n_draws) + 1e-9)


@pytest.mark.parametrize("chance", [1e-300, 1e-12, 0.25, 1 - 1e-12])
def test_one_treatment_wins_with_its_chance_times_the_chance_to_beat_control(chance: float) -> None:
    # P(θ_B > θ_A) of Beta(2, 1) against Beta(1, 1) is 2/3.
    answer = probability_best(beta((1, 1), (2, 1)), np.array([1.0, chance]))

    assert answer[1] == pytest.approx(chance * 2 / 3, rel=1e-9)


@pytest.mark.parametrize("n_arms", [1, 2, 10])
def test_chances_of_one_change_not_one_bit(n_arms: int) -> None:
    rng = np.random.default_rng(n_arms)
    for posterior in (random_betas(rng, (30, n_arms), 0.01), students_with_points(rng, (30, n_arms))):
        answer = probability_best(posterior)

        np.testing.assert_array_equal(probability_best(posterior, np.ones(n_arms)), answer)
        np.testing.assert_array_equal(probability_best(posterior, np.ones((30, n_arms))), answer)


def test_an_arm_that_may_not_be_chosen_leaves_the_others_as_if_it_were_not_there() -> None:
    for posterior in (beta((5, 9), (90, 10), (6, 8)), student((0, 1, 5), (9, 1, 5), (0.5, 2, INF))):
        answer = probability_best(posterior, np.array([1.0, 0.0, 1.0]))

        assert answer[1] == 0.0
        np.testing.assert_allclose(answer[[0, 2]], probability_best(shuffled(posterior, [0, 2])), rtol=0, atol=1e-12)


def test_an_arm_far_ahead_that_may_be_infeasible_leaves_the_race_behind_it_open() -> None:
    answer = probability_best(beta((300, 700), (9e5, 1e5), (310, 690)), np.array([1.0, 0.75, 1.0]))

    behind = probability_best(beta((300, 700), (310, 690)))
    np.testing.assert_allclose(answer, [0.25 * behind[0], 0.75, 0.25 * behind[1]], rtol=0, atol=1e-9)


def test_tied_point_masses_share_evenly_with_those_that_may_be_chosen() -> None:
    answer = probability_best(student((2, 0, 5), (2, 0, 5), (2, 0, 5), (1, 0, 5)), np.array([1.0, 0.5, 0.5, 0.9]))

    # The first shares with none, one or both of the others: 1/4 + 1/2 · 1/2 + 1/4 · 1/3.
    np.testing.assert_allclose(answer, [7 / 12, 5 / 24, 5 / 24, 0.0], rtol=0, atol=1e-15)


def test_point_masses_above_each_other_are_tried_from_the_top() -> None:
    # The two points above 5 are tried first; the one at −9 is below all that arm 3 can be.
    arms = student((7, 0, 5), (-9, 0, 5), (6, 0, 5), (0, 1, INF))

    answer = probability_best(arms, np.array([0.25, 0.5, 0.5, 1.0]))

    np.testing.assert_allclose(answer, [0.25, 0.0, 0.375, 0.375], rtol=0, atol=1e-8)


@settings(deadline=None)
@given(posteriors, st.data())
def test_the_answer_is_a_distribution_whatever_the_order_of_the_arms(posterior: Posterior, data: st.DataObject) -> None:
    n_arms = len(posterior.mean)
    chance = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
    feasible = np.array([1.0, *data.draw(st.lists(chance, min_size=n_arms - 1, max_size=n_arms - 1))])
    order = data.draw(st.permutations(range(n_arms)))

    answer = probability_best(posterior, feasible)

    assert np.all((answer >= 0.0) & (answer <= feasible + 1e-9))
    assert abs(answer.sum() - 1.0) <= 1e-14
    assert np.all(answer[feasible == 0.0] == 0.0)
    relabelled = probability_best(shuffled(posterior, order), feasible[order])
    np.testing.assert_allclose(relabelled, answer[order], rtol=0, atol=1e-9)


@settings(deadline=None)
@given(posteriors, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_chance_never_lowers_what_an_arm_gets(posterior: Posterior, one: float, other: float) -> None:
    feasible = np.ones((2, len(posterior.mean)))
    feasible[:, 1] = sorted([one, other])

    smaller, larger = (probability_best(posterior, q)[1] for q in feasible)

    assert larger >= smaller - 1e-9


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,)])
def test_leading_axes_are_answered_row_by_row(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ARMS", 8)
    rng = np.random.default_rng(11)
    feasible = random_chances(rng, (*shape, 4))
    for posterior in (random_betas(rng, (*shape, 4), lowest=0.01), students_with_points(rng, (*shape, 4))):
        answer = probability_best(posterior, feasible)
        repeated = probability_best(posterior, np.array([0.5, 1.0, 0.0, 0.1]))

        assert answer.shape == repeated.shape == (*shape, 4)
        for index in np.ndindex(shape):
            one = row(posterior, index)
            np.testing.assert_allclose(answer[index], probability_best(one, feasible[index]), rtol=0, atol=1e-9)
            expected = probability_best(one, np.array([0.5, 1.0, 0.0, 0.1]))
            np.testing.assert_allclose(repeated[index], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_arms", [2, 4, 20])
def test_probabilities_sum_to_one_before_they_are_normalised(n_arms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    totals = []

    def recorded(arms: Contenders, floor: FloatArray, resolution: Resolution, with_mean: bool) -> Maximum:
        found = largest(arms, floor, resolution, with_mean)
        totals.append(found.probability.sum(axis=-1))
        return found

    monkeypatch.setattr(module, "largest", recorded)
    rng = np.random.default_rng(n_arms)
    probability_best(random_betas(rng, (100, n_arms), lowest=0.01), random_chances(rng, (100, n_arms)))
    probability_best(random_students(rng, (50, n_arms)), random_chances(rng, (50, n_arms)))

    np.testing.assert_allclose(np.concatenate(totals), 1.0, rtol=0, atol=2e-9)


def test_what_a_heavy_tail_leaves_beyond_the_panels_is_scaled_too() -> None:
    block = StudentBlock.of(np.zeros((1, 2)), np.ones((1, 2)), np.array([[2.0, 3.0]]))
    rows, arms, chance, end = np.array([0]), np.array([[0, 1]]), np.array([[1.0, 0.25]]), np.array([40.0])

    tail, _ = block.contest(rows, arms, chance).beyond(end)

    np.testing.assert_allclose(tail, block.contest(rows, arms).beyond(end)[0] * [[1.0], [0.25]], rtol=1e-15)


@pytest.mark.parametrize("feasible", [[0.5, 0.9], [1.0, -0.1], [1.0, 1.5], [1.0, math.nan]])
def test_chances_that_make_no_distribution_are_refused(feasible: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one 1 in each row"):
        probability_best(beta((1, 1), (2, 1)), np.array(feasible))
