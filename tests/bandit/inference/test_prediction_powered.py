"""Prediction-powered estimates: closed forms, invariances, and coverage whatever the judge is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.arrays import FloatArray
from bandit.errors import InvalidInput
from bandit.inference.prediction_powered import (
    FEWEST_EVENTS,
    FEWEST_LABELS,
    PRIOR_LABELS,
    JudgedItems,
    PredictionPowered,
    PredictionPoweredDifference,
    Refusal,
    labels_needed,
    prediction_powered_difference,
    prediction_powered_mean,
)

SEEDS = st.integers(0, 10_000)
RUNS = 2000

World = Callable[[np.random.Generator, tuple[int, int]], tuple[FloatArray, FloatArray]]
"""Generator, shape -> human outcomes and judge scores."""


def binary(rate: float, ones: float, zeros: float) -> World:
    """Return a world of 0 and 1 whose judge is right on these shares of the human's ones and zeros."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        human = rng.random(shape) < rate
        judge = np.where(human, rng.random(shape) < ones, rng.random(shape) >= zeros)
        return human.astype(np.float64), judge.astype(np.float64)

    return draw


def normal(correlation: float, slope: float = 1.0) -> World:
    """Return a world of normal outcomes; the best λ is 1 / slope."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        human, noise = rng.normal(size=(2, *shape))
        score = correlation * human + math.sqrt(1.0 - correlation**2) * noise
        return human, slope * correlation * score

    return draw


def ordinal(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return ratings 1 to 5 of mean 3, by a judge who is a bit too kind."""
    quality, noise = rng.normal(size=(2, *shape))
    cuts = np.array([-1.2, -0.4, 0.4, 1.2])
    return 1.0 + np.searchsorted(cuts, quality), 1.0 + np.searchsorted(cuts, quality + 0.5 * noise + 0.3)


def probability(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return outcomes 0 and 1 of mean 1/2 by a judge who gives probabilities."""
    score = sc.expit(3.0 * rng.normal(size=shape))
    return (rng.random(shape) < score).astype(np.float64), score


def samples(world: World, n: int, seed: int, others: int = 1000, runs: int = RUNS) -> Iterator[JudgedItems]:
    """Return runs with n labels and other items without."""
    human, judge = world(np.random.default_rng(seed), (runs, n + others))
    for h, f in zip(human, judge, strict=True):
        yield JudgedItems(h[:n], f[:n], f[n:])


def mean_of(items: JudgedItems, alpha: float = 0.05) -> PredictionPowered:
    found = prediction_powered_mean(items, alpha)
    assert isinstance(found, PredictionPowered)
    return found


def difference_of(arm: JudgedItems, control: JudgedItems) -> PredictionPoweredDifference:
    found = prediction_powered_difference(arm, control)
    assert isinstance(found, PredictionPoweredDifference)
    return found


def coverage(
    found: Iterable[PredictionPowered | PredictionPoweredDifference], truth: float
) -> tuple[float, float, float]:
    """Return how many intervals cover: corrected, labels alone, judge alone."""
    covers = [
        [each.interval[0] <= truth <= each.interval[1] for each in (one.corrected, one.labels_only, one.judge_only)]
        for one in found
    ]
    corrected, labels, judge = np.mean(covers, axis=0).tolist()
    return corrected, labels, judge


def make_items(seed: int, n: int = 40, others: int = 300, world: World = ordinal) -> JudgedItems:
    human, judge = world(np.random.default_rng(seed), (1, n + others))
    return JudgedItems(human[0, :n], judge[0, :n], judge[0, n:])


def with_users(seed: int, n: int = 60, others: int = 300) -> JudgedItems:
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 150, n + others)
    return replace(make_items(seed, n, others), user=users[:n], unlabelled_user=users[n:])


def weighted(seed: int) -> JudgedItems:
    rng = np.random.default_rng(seed)
    return replace(make_items(seed), label_probability=rng.uniform(0.05, 0.4, 40))


# Closed forms


@given(seed=SEEDS, alpha=st.sampled_from([0.2, 0.05]))
def test_labels_alone_and_judge_alone_have_students_intervals(seed: int, alpha: float) -> None:
    items = make_items(seed)

    found = mean_of(items, alpha)

    scores = np.concatenate([items.judge, items.unlabelled])
    for estimate, values in ((found.labels_only, items.human), (found.judge_only, scores)):
        expected = stats.ttest_1samp(values, 0.0)
        assert estimate.value == pytest.approx(values.mean())
        assert estimate.interval == pytest.approx(tuple(expected.confidence_interval(1.0 - alpha)))
        assert estimate.df == pytest.approx(expected.df)
    assert found.deviation == pytest.approx(items.human.std(ddof=1))
    assert found.correlation == pytest.approx(np.corrcoef(items.human, items.judge)[0, 1])


@given(seed=SEEDS)
def test_the_estimate_is_that_of_the_papers_with_the_slope_of_labels_on_scores(seed: int) -> None:
    items = make_items(seed)
    n, others = 40, 300

    found = mean_of(items)

    slope = float(np.polyfit(items.judge, items.human, 1)[0])
    assert found.judge_weight == pytest.approx(min(slope, 1.0))
    power = found.judge_weight * others / (n + others)  # their λ is of the unlabelled alone
    expected = power * items.unlabelled.mean() + (items.human - power * items.judge).mean()
    assert found.corrected.value == pytest.approx(expected)


@given(seed=SEEDS, world=st.sampled_from([normal(0.8, 1.3), binary(0.6, 0.9, 0.8), probability]))
def test_the_error_is_that_of_its_definition_label_by_label(seed: int, world: World) -> None:
    items = make_items(seed, world=world)
    n, n_users = 40, 340
    h, f = items.human, items.judge

    found = mean_of(items)

    lam = found.judge_weight
    hc, fc = h - h.mean(), f - f.mean()
    error = hc - lam * fc
    free = 0.0 < lam < 1.0
    left_out = [
        hc[i] - np.delete(hc, i) @ np.delete(fc, i) / (np.delete(fc, i) @ np.delete(fc, i)) * fc[i] for i in range(n)
    ]
    own = np.square(left_out if free else error).sum() / (1.0 - 1.0 / n) / n**2
    seen = np.abs(error).max() > 1e-9  # a judge may show no error
    kurtosis = (error**4).mean() / (error**2).mean() ** 2 if seen else math.inf
    joined = PRIOR_LABELS * max(1.0 - 3.0 / kurtosis, 0.0)
    labels_part = ((n - 1) * own + joined * h.var(ddof=1) / n) / (n - 1 + joined)
    scores = np.concatenate([f, items.unlabelled])
    judge_part = lam**2 * scores.var(ddof=1) / n_users + 2.0 * lam * ((f - scores.mean()) @ error) / (n * n_users)
    assert found.corrected.standard_error == pytest.approx(math.sqrt(labels_part + judge_part))
    share = min(labels_part / (labels_part + judge_part), 1.0)
    assert found.corrected.df == pytest.approx((n - 1 - free) / share**2)
    assert found.gain == pytest.approx(h.var(ddof=1) / n / (labels_part + judge_part))
    assert found.effective_labels == pytest.approx(n * found.gain)


@given(seed=SEEDS)
def test_labels_by_known_probabilities_are_hajeks_mean_with_linearised_variance(seed: int) -> None:
    items = weighted(seed)

    found = mean_of(items)

    assert items.label_probability is not None
    share = 1.0 / items.label_probability
    share /= share.sum()
    value = float(share @ items.human)
    error = math.sqrt(float((share**2 * (items.human - value) ** 2 / (1.0 - share)).sum()))
    df = float((share**2).sum()) ** 2 / float((share**4).sum()) - 1.0
    assert found.labels_only.value == pytest.approx(value)
    assert found.labels_only.standard_error == pytest.approx(error)
    assert found.labels_only.df == pytest.approx(df)
    scores = np.concatenate([items.judge, items.unlabelled])
    corrected = found.judge_weight * scores.mean() + share @ (items.human - found.judge_weight * items.judge)
    assert found.corrected.value == pytest.approx(float(corrected))


@given(seed=SEEDS)
def test_no_judge_weight_between_0_and_1_has_a_smaller_variance_over_users(seed: int) -> None:
    """The variance of λ score + (human − λ judge) over labelled users, Σ judge × score for Σ score²."""
    items = weighted(seed)

    found = mean_of(items)

    assert items.label_probability is not None
    w = 1.0 / items.label_probability
    w *= 340 / w.sum()
    h, f = (x - (w @ x) / w.sum() for x in (items.human, items.judge))

    def variance(lam: float) -> float:
        return float((w**2 * (h - lam * f) ** 2 + 2.0 * lam * w * f * (h - lam * f) + lam**2 * w * f**2).sum())

    best = variance(found.judge_weight)
    assert all(best <= variance(lam) + 1e-9 for lam in np.linspace(0.0, 1.0, 21))


@given(seed=SEEDS)
def test_the_difference_is_welchs_of_the_labels_and_adds_variances(seed: int) -> None:
    arm, control = make_items(seed, n=30), make_items(seed + 1, n=50)

    found = difference_of(arm, control)

    expected = stats.ttest_ind(arm.human, control.human, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.labels_only.interval == pytest.approx((interval.low, interval.high))
    assert found.labels_only.df == pytest.approx(expected.df)
    a, c = mean_of(arm), mean_of(control)
    assert (found.arm, found.control) == (a, c)
    assert found.corrected.value == pytest.approx(a.corrected.value - c.corrected.value)
    variance = a.corrected.standard_error**2 + c.corrected.standard_error**2
    assert found.corrected.standard_error == pytest.approx(math.sqrt(variance))
    assert found.judge_only.value == pytest.approx(a.judge_only.value - c.judge_only.value)
    assert found.gain == pytest.approx((found.labels_only.standard_error**2) / variance)


def test_labels_of_everybody_leave_the_judge_nothing_to_say() -> None:
    items = replace(make_items(1), unlabelled=np.empty(0))

    found = mean_of(items)

    assert found.judge_weight == 0.0
    assert found.corrected == found.labels_only
    assert found.gain == 1.0


# Users


@given(seed=SEEDS)
def test_one_item_per_user_is_no_users_at_all(seed: int) -> None:
    items = weighted(seed)
    names = np.random.default_rng(seed).permutation(340)

    found = mean_of(replace(items, user=names[:40], unlabelled_user=names[40:]))

    plain = mean_of(items)
    for estimate, expected in ((found.corrected, plain.corrected), (found.labels_only, plain.labels_only)):
        assert estimate.interval == pytest.approx(expected.interval)
        assert estimate.df == pytest.approx(expected.df)


@given(seed=SEEDS)
def test_labels_of_all_items_give_the_mean_over_users_of_their_means(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user = np.concatenate([np.arange(30), rng.integers(0, 30, 90)])
    human, judge = ordinal(rng, (1, 120))
    items = JudgedItems(human[0], judge[0], np.empty(0), user=user, unlabelled_user=np.empty(0, dtype=np.int64))

    found = mean_of(items)

    means = np.array([human[0, user == k].mean() for k in range(30)])
    assert found.n_labels == found.n_users == 30
    assert found.labels_only.value == pytest.approx(means.mean())
    assert found.labels_only.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(30), rel=0.05)
    scores = np.array([judge[0, user == k].mean() for k in range(30)])
    assert found.judge_only.value == pytest.approx(scores.mean())
    assert found.judge_only.standard_error == pytest.approx(scores.std(ddof=1) / math.sqrt(30))


def test_users_may_have_names() -> None:
    items = with_users(2)
    assert items.user is not None
    assert items.unlabelled_user is not None

    found = mean_of(replace(items, user=items.user.astype(str), unlabelled_user=items.unlabelled_user.astype(str)))

    assert found.corrected.interval == pytest.approx(mean_of(items).corrected.interval)


# Invariances


@given(seed=SEEDS, make=st.sampled_from([make_items, weighted, with_users]))
def test_the_order_of_items_does_not_matter(seed: int, make: Callable[[int], JudgedItems]) -> None:
    items = make(seed)
    rng = np.random.default_rng(seed)
    some, rest = rng.permutation(len(items.human)), rng.permutation(len(items.unlabelled))

    def ordered(column: Any, order: Any) -> Any:  # noqa: ANN401  # one of several array types, or none
        return None if column is None else column[order]

    shuffled = JudgedItems(
        items.human[some],
        items.judge[some],
        items.unlabelled[rest],
        ordered(items.label_probability, some),
        ordered(items.user, some),
        ordered(items.unlabelled_user, rest),
    )

    a, b = mean_of(items), mean_of(shuffled)

    assert a.corrected.interval == pytest.approx(b.corrected.interval)
    assert a.corrected.df == pytest.approx(b.corrected.df)
    assert a.judge_weight == pytest.approx(b.judge_weight)


@given(
    seed=SEEDS,
    make=st.sampled_from([make_items, weighted, with_users]),
    scale=st.sampled_from([1e-40, 0.2, 1.0, 1e40]),
    shift=st.sampled_from([0.0, -3.0]),
    judge_shift=st.sampled_from([0.0, 5.0]),
)
def test_another_unit_changes_the_numbers_and_a_shift_of_the_judge_nothing(
    seed: int, make: Callable[[int], JudgedItems], scale: float, shift: float, judge_shift: float
) -> None:
    items = make(seed)
    moved = replace(
        items,
        human=scale * (items.human + shift),
        judge=scale * (items.judge + judge_shift),
        unlabelled=scale * (items.unlabelled + judge_shift),
    )

    a, b = mean_of(items), mean_of(moved)

    assert b.corrected.value == pytest.approx(scale * (a.corrected.value + shift), rel=1e-6)
    assert b.corrected.standard_error == pytest.approx(scale * a.corrected.standard_error, rel=1e-6)
    assert b.corrected.df == pytest.approx(a.corrected.df, rel=1e-6)
    assert b.judge_weight == pytest.approx(a.judge_weight, rel=1e-6)


@given(seed=SEEDS, factor=st.sampled_from([0.1, 0.5, 2.0]))
def test_label_probabilities_count_up_to_a_factor_and_equal_ones_are_none(seed: int, factor: float) -> None:
    items = weighted(seed)
    assert items.label_probability is not None

    scaled = mean_of(replace(items, label_probability=factor * items.label_probability))
    alike = mean_of(replace(items, label_probability=np.full(40, factor / 2.0)))

    assert scaled.corrected.interval == pytest.approx(mean_of(items).corrected.interval)
    assert alike.corrected.interval == pytest.approx(mean_of(replace(items, label_probability=None)).corrected.interval)


@given(seed=SEEDS)
def test_swapping_arm_and_control_turns_the_sign(seed: int) -> None:
    arm, control = make_items(seed), weighted(seed + 1)

    there, back = difference_of(arm, control), difference_of(control, arm)

    assert there.corrected.interval == pytest.approx(tuple(-end for end in reversed(back.corrected.interval)))


# λ


@pytest.mark.parametrize(("slope", "weight"), [(-1.0, 0.0), (0.5, 1.0)])
def test_the_judge_weight_stays_between_0_and_1(slope: float, weight: float) -> None:
    found = mean_of(make_items(3, n=200, world=normal(0.9, slope)))

    assert found.judge_weight == weight


@pytest.mark.parametrize("judge", [np.full(340, 1.0), np.full(340, 0.1)])
def test_a_judge_who_always_says_the_same_counts_for_nothing(judge: FloatArray) -> None:
    found = mean_of(replace(make_items(4), judge=judge[:40], unlabelled=judge[40:]))

    assert found.judge_weight == 0.0
    assert found.corrected == found.labels_only


def test_a_judge_without_an_error_so_far_is_not_taken_for_one_without_errors() -> None:
    human = np.tile([1.0, 0.0], 15)

    found = mean_of(JudgedItems(human, human, np.repeat([1.0, 0.0], 5000)))

    assert found.judge_weight == pytest.approx(1.0)
    half = found.corrected.interval[1] - found.corrected.value
    # One error in 30 is quite possible; 0.1 in 30 is as far as no error in 30 goes (rule of three).
    assert 1.0 / 30.0 < half < 0.1
    assert half > 5.0 * (found.judge_only.interval[1] - found.judge_only.value)


# Coverage. 2,000 runs of a right interval lie in [.93, .97] but once in 10,000 times (z = 3.9 is .019).


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize(
    ("world", "truth"),
    [
        pytest.param(normal(0.9), 0.0, id="good"),
        pytest.param(probability, 0.5, id="good, probabilities"),
        pytest.param(ordinal, 3.0, id="ordinal, too kind"),
        pytest.param(binary(0.5, 0.5, 0.5), 0.5, id="useless"),
        pytest.param(binary(0.4, 0.97, 0.6), 0.4, id="too kind"),
        pytest.param(normal(0.5), 0.0, id="fair"),
    ],
)
def test_intervals_cover_whatever_the_judge_is_worth(world: World, truth: float, n: int) -> None:
    corrected, _, _ = coverage(map(mean_of, samples(world, n, seed=11)), truth)

    assert 0.93 <= corrected <= 0.97


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize(
    ("world", "truth"), [(binary(0.6, 0.99, 0.9), 0.6), (binary(0.6, 0.97, 0.97), 0.6), (binary(0.6, 0.9, 0.9), 0.6)]
)
def test_rare_errors_of_the_judge_cost_width_not_coverage(world: World, truth: float, n: int) -> None:
    """Few labels hardly show such errors, so 20 labels cover more than asked for."""
    found = list(map(mean_of, samples(world, n, seed=12, others=3000, runs=1000)))

    corrected, _, _ = coverage(found, truth)

    assert corrected >= 0.93
    assert np.median([one.gain for one in found]) > 1.8


@pytest.mark.parametrize("n", [20, 50, 200])
def test_a_judge_biased_for_one_arm_misleads_by_itself_and_not_corrected(n: int) -> None:
    """The judge calls 40 % of the arm's zeros a one, and 10 % of control's: both are as good."""
    pairs = zip(samples(binary(0.4, 0.97, 0.6), n, seed=13), samples(binary(0.4, 0.9, 0.9), n, seed=14), strict=True)

    found = [difference_of(arm, control) for arm, control in pairs]

    corrected, labels, judge = coverage(found, 0.0)
    assert 0.93 <= corrected <= 0.97
    assert 0.93 <= labels <= 0.97
    assert judge <= 0.01
    assert np.median([one.gain for one in found]) > 1.4


def labelled_by_score(seed: int, world: World, n: int, *, runs: int = RUNS) -> Iterator[JudgedItems]:
    """Return runs in which items with a low score are labelled five times as often."""
    rng = np.random.default_rng(seed)
    human, judge = world(rng, (runs, 1000))
    for h, f in zip(human, judge, strict=True):
        odds = np.where(f <= np.quantile(f, 0.4), 5.0, 1.0)
        p = n * odds / odds.sum()
        drawn = rng.random(1000) < p
        yield JudgedItems(h[drawn], f[drawn], f[~drawn], p[drawn])


@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize(("world", "truth"), [(normal(0.5), 0.0), (probability, 0.5), (ordinal, 3.0)])
def test_labels_of_the_hard_items_cover_with_their_probabilities_and_only_so(
    world: World, truth: float, n: int
) -> None:
    items = list(labelled_by_score(15, world, n))

    corrected, labels, _ = coverage(map(mean_of, items), truth)
    _, forgotten, _ = coverage((mean_of(replace(each, label_probability=None)) for each in items), truth)

    assert 0.93 <= corrected <= 0.97
    assert 0.93 <= labels <= 0.97
    assert forgotten < 0.7


def labelled_where_wrong(seed: int, n: int, *, runs: int = RUNS) -> Iterator[JudgedItems]:
    """Return runs in which items that a second judge finds doubtful, mostly errors, are labelled 5 times as often."""
    rng = np.random.default_rng(seed)
    human, judge = binary(0.6, 0.97, 0.75)(rng, (runs, 1000))
    for h, f in zip(human, judge, strict=True):
        odds = np.where(rng.random(1000) < np.where(h == f, 0.05, 0.9), 5.0, 1.0)
        p = n * odds / odds.sum()
        drawn = rng.random(1000) < p
        yield JudgedItems(h[drawn], f[drawn], f[~drawn], p[drawn])


def test_labels_where_the_judge_errs_make_the_interval_shorter_and_need_their_probabilities() -> None:
    items = list(labelled_where_wrong(16, 150))
    found = list(map(mean_of, items))
    even = list(map(mean_of, samples(binary(0.6, 0.97, 0.75), 150, seed=17, others=850)))

    corrected, _, _ = coverage(found, 0.6)
    forgotten, _, _ = coverage((mean_of(replace(each, label_probability=None)) for each in items), 0.6)

    assert 0.93 <= corrected <= 0.97
    assert forgotten < 0.8
    widths = [np.mean([one.corrected.standard_error for one in those]) for those in (found, even)]
    assert widths[0] < 0.9 * widths[1]


def of_users(seed: int, n_users: int, share: float, *, runs: int = 1000) -> Iterator[JudgedItems]:
    """Return runs of users with 1 to 8 items each, more of them where users are happier; P(1) is 0.25 + 0.05 items."""
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        items = rng.integers(1, 9, n_users)
        user = np.repeat(np.arange(n_users), items)
        happy = (0.5 * rng.beta(1.5, 1.5, n_users) + 0.05 * items)[user]
        human = (rng.random(len(user)) < happy).astype(np.float64)
        judge = np.where(rng.random(len(user)) < np.where(human == 1.0, 0.9, 0.75), human, 1.0 - human)
        drawn = rng.random(len(user)) < share
        yield JudgedItems(human[drawn], judge[drawn], judge[~drawn], user=user[drawn], unlabelled_user=user[~drawn])


@pytest.mark.parametrize(("n_users", "share"), [(300, 0.05), (200, 0.3)])
def test_items_of_the_same_user_are_one_user(n_users: int, share: float) -> None:
    items = list(of_users(18, n_users, share))
    truth = 0.25 + 0.05 * 4.5

    corrected, labels, _ = coverage(map(mean_of, items), truth)
    ignored, _, _ = coverage((mean_of(replace(each, user=None, unlabelled_user=None)) for each in items), truth)

    assert 0.925 <= corrected <= 0.975  # of 1,000 runs
    assert 0.925 <= labels <= 0.975
    assert ignored < 0.85


# What is refused, and what is doubted


def test_fewer_labelled_users_than_needed_are_refused_in_words() -> None:
    few = make_items(5, n=FEWEST_LABELS - 1)
    same = replace(make_items(5), user=np.arange(40) % 19, unlabelled_user=np.arange(300))

    assert prediction_powered_mean(few) == Refusal("19 labelled users, 20 are needed")
    assert prediction_powered_mean(same) == Refusal("19 labelled users, 20 are needed")
    assert isinstance(prediction_powered_mean(make_items(5, n=FEWEST_LABELS)), PredictionPowered)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e50])
def test_labels_that_are_all_the_same_are_refused_in_words(value: float) -> None:
    found = prediction_powered_mean(replace(make_items(6), human=np.full(40, value)))

    assert isinstance(found, Refusal)
    assert "do not vary over users" in found.reason


def test_a_difference_says_which_arm_is_refused() -> None:
    good, few = make_items(7), make_items(7, n=5)

    assert prediction_powered_difference(few, good) == Refusal("arm: 5 labelled users, 20 are needed")
    assert prediction_powered_difference(good, few) == Refusal("control: 5 labelled users, 20 are needed")


def test_rare_events_and_lopsided_weights_are_doubted() -> None:
    rare = replace(make_items(8, world=probability), human=(np.arange(40) < FEWEST_EVENTS - 1).astype(np.float64))
    enough = replace(rare, human=(np.arange(40) < FEWEST_EVENTS).astype(np.float64))
    lopsided = replace(make_items(8), label_probability=np.where(np.arange(40) < 4, 0.01, 1.0))

    assert mean_of(rare).reasons == ("4 labels are 1, 5 are needed",)
    assert mean_of(enough).trustworthy
    assert mean_of(lopsided).reasons == ("the labels' weights leave 4 labels of equal weight, 20 are needed",)
    assert difference_of(rare, lopsided).reasons == (
        "arm: 4 labels are 1, 5 are needed",
        "control: the labels' weights leave 4 labels of equal weight, 20 are needed",
    )
    assert not difference_of(rare, lopsided).trustworthy


def test_labels_that_vary_within_users_alone_are_refused() -> None:
    user = np.repeat(np.arange(30), 2)
    items = JudgedItems(np.tile([0.1, 0.7], 30), np.tile([0.0, 1.0], 30), np.zeros(30), None, user, np.arange(30, 60))

    assert isinstance(prediction_powered_mean(items), Refusal)


def test_one_label_with_nearly_all_the_weight_is_refused_and_with_much_of_it_doubted() -> None:
    def weighing(p: float) -> JudgedItems:
        return replace(make_items(9), label_probability=np.where(np.arange(40) == 0, p, 1.0))

    assert prediction_powered_mean(weighing(1e-300)) == Refusal("one label has nearly all the weight")
    assert np.isfinite(mean_of(weighing(0.02)).corrected.interval).all()
    assert not mean_of(weighing(0.02)).trustworthy


BAD: list[tuple[str, object, str]] = [
    ("human", np.array([]), "received 0 items"),
    ("human", np.full(40, math.nan), "received nan as item 0"),
    ("judge", np.full(40, math.inf), "received inf as item 0"),
    ("judge", np.zeros(39), "received 39 items, allowed: 40, as many as human"),
    ("unlabelled", np.array([1.0, math.nan]), "received nan as item 1"),
    ("label_probability", np.zeros(40), "received 0, allowed: above 0, up to 1"),
    ("label_probability", np.full(40, 1.5), "received 1.5, allowed: above 0, up to 1"),
    ("label_probability", np.full(39, 0.5), "received 39 items"),
    ("user", np.arange(39), "received 39 items, allowed: 40, as many as human"),
    ("user", np.full(40, 0.5), "whole numbers or texts"),
    ("user", None, "is missing"),
    ("unlabelled_user", np.arange(299), "received 299 items, allowed: 300, as many as unlabelled"),
    ("unlabelled_user", None, "is missing"),
]


@pytest.mark.parametrize(("field", "values", "message"), BAD)
def test_bad_columns_are_refused_by_name(field: str, values: object, message: str) -> None:
    columns: dict[str, Any] = {
        "human": np.arange(40.0),
        "judge": np.arange(40.0),
        "unlabelled": np.arange(300.0),
        "label_probability": np.full(40, 0.5),
        "user": np.arange(40),
        "unlabelled_user": np.arange(300),
    }

    with pytest.raises(InvalidInput) as caught:
        JudgedItems(**columns | {field: values})

    problems = [problem for problem in caught.value.problems if message in problem.message]
    assert problems
    assert field in {problem.field for problem in problems} or len(np.atleast_1d(np.asarray(values))) == 0


def test_a_level_outside_0_to_1_is_refused() -> None:
    for call in (lambda: prediction_powered_mean(make_items(1), 0.0), lambda: labels_needed(0.1, 1.0, 0.5, 100, 1.0)):
        with pytest.raises(InvalidInput, match="alpha"):
            call()


# How many labels


@pytest.mark.parametrize(
    ("world", "deviation", "correlation", "half_width"),
    [
        (normal(0.9), 1.0, 0.9, 0.15),
        (normal(0.9), 1.0, 0.9, 0.055),
        (normal(0.5), 1.0, 0.5, 0.15),
        (binary(0.6, 0.9, 0.9), 0.49, 0.79, 0.04),
        (binary(0.6, 0.97, 0.97), 0.49, 0.94, 0.05),
        (binary(0.5, 0.5, 0.5), 0.5, 0.0, 0.1),
    ],
)
def test_the_labels_needed_give_the_half_width_wanted(
    world: World, deviation: float, correlation: float, half_width: float
) -> None:
    n = labels_needed(half_width, deviation, correlation, 2000)

    assert n is not None
    found = list(map(mean_of, samples(world, n, seed=19, others=2000 - n, runs=200)))
    mean = np.mean([one.corrected.interval[1] - one.corrected.value for one in found])
    assert 0.85 * half_width <= mean <= 1.01 * half_width


def test_without_a_judge_the_labels_needed_are_those_of_students_interval() -> None:
    n = labels_needed(0.05, 0.5, -0.3, 5000)

    assert n is not None
    assert stats.t.ppf(0.975, n - 1) * 0.5 / math.sqrt(n) <= 0.05 < stats.t.ppf(0.975, n - 2) * 0.5 / math.sqrt(n - 1)


@given(
    half=st.floats(0.01, 1.0),
    correlation=st.floats(-1.0, 1.0),
    n_users=st.integers(1, 100_000),
    better=st.floats(0.0, 1.0),
)
def test_a_wider_interval_or_a_better_judge_never_needs_more_labels(
    half: float, correlation: float, n_users: int, better: float
) -> None:
    n = labels_needed(half, 0.5, correlation, n_users)
    wider = labels_needed(1.3 * half, 0.5, correlation, n_users)

    assert n is None or FEWEST_LABELS <= n <= n_users
    assert n is None or (wider is not None and wider <= n)
    if n is not None and correlation >= 0.5:
        good = labels_needed(half, 0.5, correlation + better * (1.0 - correlation), n_users)
        assert good is not None
        assert good <= n


def test_too_few_users_need_more_users_not_more_labels() -> None:
    assert labels_needed(0.01, 0.5, 1.0, 5000) is None
    assert labels_needed(0.5, 0.5, 0.9, FEWEST_LABELS - 1) is None
    assert labels_needed(0.5, 0.5, 0.9, FEWEST_LABELS) == FEWEST_LABELS


@pytest.mark.parametrize(
    ("field", "numbers"),
    [
        ("half_width", (0.0, 1.0, 0.5, 100)),
        ("half_width", (math.nan, 1.0, 0.5, 100)),
        ("deviation", (0.1, math.inf, 0.5, 100)),
        ("correlation", (0.1, 1.0, 1.5, 100)),
        ("n_users", (0.1, 1.0, 0.5, 0)),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(field: str, numbers: tuple[float, float, float, int]) -> None:
    with pytest.raises(InvalidInput, match=field):
        labels_needed(*numbers)
