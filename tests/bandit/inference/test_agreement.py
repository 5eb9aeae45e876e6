"""Agreement of a judge with human labels: published values, other implementations, and error rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.arrays import FloatArray, IntArray
from bandit.errors import InvalidInput
from bandit.inference.agreement import (
    FEWEST_IN_ORDER,
    MOST_VALUES,
    POOLED_LABELS,
    agreement,
    bias_drift,
    differential_bias,
    exact_share,
    position_bias,
    verbosity_bias,
)

SEEDS = st.integers(0, 10_000)


def from_table(counts: Sequence[Sequence[int]]) -> tuple[FloatArray, FloatArray]:
    """Return human and judge labels with this table: a row per value of the human."""
    table = np.array(counts)
    row, column = np.indices(table.shape).reshape(2, -1).astype(np.float64)
    return np.repeat(row, table.ravel()), np.repeat(column, table.ravel())


def binary_judge(
    rng: np.random.Generator, n: int, rate: float, kind: float, strict: float
) -> tuple[FloatArray, FloatArray]:
    """Return human labels and those of a judge who calls `kind` of the zeros a one, and `strict` of the ones a zero."""
    human = (rng.random(n) < rate).astype(np.float64)
    return human, np.where(rng.random(n) < np.where(human == 1.0, strict, kind), 1.0 - human, human)


def ordinal(seed: int, n: int = 60) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    human = rng.integers(1, 6, n).astype(np.float64)
    return human, np.clip(human + rng.integers(-1, 3, n), 1.0, 5.0)


def by_cells(counts: Sequence[Sequence[int]], weights: FloatArray) -> tuple[float, float]:
    """Kappa and its error, cell by cell, from agreement weights.

    Formula 8 of Fleiss, Cohen, Everitt (1969).
    """
    n = np.sum(counts)
    p = np.array(counts) / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    chance = float((weights * np.outer(rows, columns)).sum())
    kappa = (float((weights * p).sum()) - chance) / (1.0 - chance)
    of_row, of_column = weights @ columns, rows @ weights
    inner = weights - (of_row[:, np.newaxis] + of_column) * (1.0 - kappa)
    variance = float((p * inner**2).sum()) - (kappa - chance * (1.0 - kappa)) ** 2
    return kappa, math.sqrt(variance / n) / (1.0 - chance)


# Cohen (1968), Weighted kappa, table 1: 200 cases, two judges. He prints .492. Its standard error .0510 and the kappa
# .4545 with squared distances follow from the table.
COHEN = [[88, 10, 2], [14, 40, 6], [18, 10, 12]]
# Fleiss (1981), Statistical methods for rates and proportions, chapter 13: 100 cases, .676 = (.89 − .66) / .34 with
# the error .087 (.0877).
FLEISS = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]


@pytest.mark.parametrize(("table", "kappa", "error"), [(COHEN, 0.492, 0.0510), (FLEISS, 0.676, 0.0877)])
def test_kappa_and_its_error_are_those_published(table: list[list[int]], kappa: float, error: float) -> None:
    found = agreement(*from_table(table)).kappa

    assert found.value == pytest.approx(kappa, abs=0.0005)
    assert found.standard_error == pytest.approx(error, abs=0.00005)


def test_quadratic_kappa_is_that_of_cohens_table_and_the_correlation_where_margins_are_equal() -> None:
    equal_margins = from_table([[40, 10, 10], [10, 60, 10], [10, 10, 40]])

    assert agreement(*from_table(COHEN)).quadratic_kappa.value == pytest.approx(0.454545, abs=1e-6)
    assert agreement(*equal_margins).quadratic_kappa.value == pytest.approx(np.corrcoef(*equal_margins)[0, 1])


@given(counts=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=3, max_size=3))
def test_both_kappas_and_errors_equal_the_formula_by_cells(counts: list[list[int]]) -> None:
    table = np.array(counts)
    if (table.sum(axis=0) > 0).sum() < 2 or (table.sum(axis=1) > 0).sum() < 2 or np.trace(table) == table.sum():
        return

    found = agreement(*from_table(counts))

    distance = np.subtract.outer(np.arange(3.0), np.arange(3.0))
    for kappa, weights in ((found.kappa, np.eye(3)), (found.quadratic_kappa, 1.0 - (distance / 2.0) ** 2)):
        value, error = by_cells(counts, weights)
        assert kappa.value == pytest.approx(value, abs=1e-12)
        assert kappa.standard_error == pytest.approx(error, abs=1e-9)


def test_the_error_of_kappa_is_how_much_it_varies() -> None:
    rng = np.random.default_rng(1)
    found = [agreement(*binary_judge(rng, 150, 0.4, 0.2, 0.1)).kappa for _ in range(2000)]

    spread = np.std(np.array([kappa.value for kappa in found], dtype=np.float64))

    errors = np.array([kappa.standard_error for kappa in found], dtype=np.float64)
    assert errors.mean() == pytest.approx(spread, rel=0.07)  # z = 3.9 is 6 %


def test_one_value_throughout_has_no_kappa_and_says_so() -> None:
    found = agreement([1, 1, 1], [1, 1, 1])

    for kappa in (found.kappa, found.quadratic_kappa):
        assert (kappa.value, kappa.standard_error) == (None, None)
        assert "one and the same value" in kappa.note


@pytest.mark.parametrize(("human", "judge", "who"), [([1, 0, 1], [1, 1, 1], "judge"), ([2, 2, 2], [1, 3, 2], "human")])
def test_one_rater_with_one_value_has_kappa_zero_without_an_error(human: list[int], judge: list[int], who: str) -> None:
    found = agreement(human, judge)

    for kappa in (found.kappa, found.quadratic_kappa):
        assert (kappa.value, kappa.standard_error) == (0.0, None)
        assert f"the {who} gave one value" in kappa.note


def test_no_disagreement_is_kappa_one_without_an_error() -> None:
    found = agreement([0.1, 0.3, 0.2], [0.1, 0.3, 0.2])

    assert (found.kappa.value, found.quadratic_kappa.value) == (1.0, 1.0)
    assert found.kappa.standard_error is None
    assert found.quadratic_kappa.standard_error is None
    assert (found.bias.mean, found.bias.interval) == (0.0, None)
    assert "the same for all labels" in found.bias.note


@given(n=st.integers(1, 60), data=st.data(), alpha=st.sampled_from([0.2, 0.05, 0.01]))
def test_exact_intervals_equal_scipys(n: int, data: st.DataObject, alpha: float) -> None:
    k = data.draw(st.integers(0, n))

    share = exact_share(np.arange(n) < k, alpha)

    expected = stats.binomtest(k, n).proportion_ci(1.0 - alpha, method="exact")
    assert (share.events, share.n, share.share) == (k, n, k / n)
    assert share.interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_table_the_rates_and_the_accuracy_are_counted() -> None:
    human, judge = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]

    found = agreement(human, judge)

    assert found.confusion is not None
    assert (found.confusion.values, found.confusion.counts) == ((0.0, 1.0), ((4, 2), (1, 3)))
    assert found.accuracy.share == 0.7
    assert found.sensitivity == exact_share(np.array([True, True, True, False]), 0.05)
    assert found.specificity == exact_share(np.array([True] * 4 + [False] * 2), 0.05)


def test_values_other_than_0_and_1_have_no_sensitivity_and_many_have_no_table() -> None:
    fine = np.linspace(0.0, 1.0, MOST_VALUES + 1)

    assert agreement([1, 2, 3], [1, 2, 2]).sensitivity is None
    assert agreement([0, 1, 1], [0, 0.5, 1]).specificity is None
    assert agreement(fine, fine).confusion is None
    assert agreement(fine[1:], fine[1:]).confusion is not None


def test_no_zeros_or_no_ones_leave_that_rate_out() -> None:
    assert agreement([1, 1], [1, 0]).specificity is None
    assert agreement([0, 0], [1, 0]).sensitivity is None


@given(seed=SEEDS, alpha=st.sampled_from([0.2, 0.05]))
def test_the_bias_and_its_interval_are_students_for_all_and_by_variant(seed: int, alpha: float) -> None:
    human, judge = ordinal(seed)
    variant = np.arange(60) % 3 * 2

    found = agreement(human, judge, variant, alpha)

    assert sorted(found.bias_by_variant) == [0, 2, 4]
    parts = [(found.bias, np.full(60, True))] + [(bias, variant == k) for k, bias in found.bias_by_variant.items()]
    for bias, part in parts:
        expected = stats.ttest_1samp((judge - human)[part], 0.0)
        assert bias.n == part.sum()
        assert bias.interval == pytest.approx(tuple(expected.confidence_interval(1.0 - alpha)))
        assert bias.mean / (bias.standard_error or 0.0) == pytest.approx(expected.statistic)


def test_one_label_has_a_bias_and_no_interval() -> None:
    bias = agreement([0], [1]).bias

    assert (bias.n, bias.mean, bias.standard_error, bias.interval) == (1, 1.0, None, None)
    assert bias.note


@given(seed=SEEDS)
def test_the_order_of_items_does_not_matter(seed: int) -> None:
    human, judge = ordinal(seed)
    variant = np.arange(60) % 2
    order = np.random.default_rng(seed).permutation(60)

    found, shuffled = agreement(human, judge, variant), agreement(human[order], judge[order], variant[order])

    assert (found.confusion, found.accuracy) == (shuffled.confusion, shuffled.accuracy)
    assert found.kappa.value == pytest.approx(shuffled.kappa.value, abs=1e-12)
    assert found.quadratic_kappa.standard_error == pytest.approx(shuffled.quadratic_kappa.standard_error)
    assert found.bias_by_variant[1].interval == pytest.approx(shuffled.bias_by_variant[1].interval)


@given(seed=SEEDS, scale=st.sampled_from([1e-60, 0.01, 3.0, 1e60]), shift=st.sampled_from([0.0, 2.0]))
def test_other_names_leave_kappa_and_another_scale_leaves_the_quadratic_one(
    seed: int, scale: float, shift: float
) -> None:
    human, judge = ordinal(seed)
    renamed = np.array([0.0, 7.0, -3.0, 2.0, 11.0, 5.0])

    found = agreement(human, judge)
    named = agreement(renamed[human.astype(int)], renamed[judge.astype(int)])
    scaled = agreement(scale * (human + shift), scale * (judge + shift))
    swapped = agreement(judge, human)

    for other in (named, scaled, swapped):
        assert other.kappa.value == pytest.approx(found.kappa.value, abs=1e-12)
        assert other.kappa.standard_error == pytest.approx(found.kappa.standard_error)
    for other in (scaled, swapped):
        assert other.quadratic_kappa.value == pytest.approx(found.quadratic_kappa.value, abs=1e-9)
        assert other.quadratic_kappa.standard_error == pytest.approx(found.quadratic_kappa.standard_error)
    assert swapped.bias.mean == pytest.approx(-found.bias.mean)


def test_the_difference_of_biases_is_welchs_with_the_joined_variances() -> None:
    human, judge = ordinal(3, 90)
    variant = np.repeat([0, 2, 5], [40, 30, 20])

    found = differential_bias(human, judge, variant, control=2, alpha=0.1)

    assert [each.variant for each in found] == [0, 5]
    for each in found:
        sides = [(judge - human)[variant == k] for k in (each.variant, 2)]
        both = np.var(np.concatenate(sides), ddof=1)
        spread = [
            math.sqrt(((len(x) - 1) * np.var(x, ddof=1) + POOLED_LABELS * both) / (len(x) - 1 + POOLED_LABELS))
            for x in sides
        ]
        expected = stats.ttest_ind_from_stats(
            sides[0].mean(), spread[0], len(sides[0]), sides[1].mean(), spread[1], len(sides[1]), equal_var=False
        )
        assert each.test is not None
        assert (each.test.t, each.test.p_value) == pytest.approx((expected.statistic, expected.pvalue))
        assert each.differs == (expected.pvalue < 0.1)


@pytest.mark.parametrize(
    ("sizes", "wrong", "least", "most"),
    [
        ((50, 50), 0.3, 0.03, 0.07),
        ((200, 200), 0.05, 0.03, 0.07),
        ((30, 300), 0.3, 0.03, 0.07),
        ((30, 300), 0.02, 0.0, 0.07),  # without the joined labels it is 0.16
        ((30, 300), 0.05, 0.0, 0.10),  # and 0.17
        ((20, 20), 0.1, 0.0, 0.07),
    ],
)
def test_equal_biases_are_told_apart_about_as_often_as_declared(
    sizes: tuple[int, int], wrong: float, least: float, most: float
) -> None:
    rng = np.random.default_rng(4)
    variant = np.repeat([1, 0], sizes)
    runs = 2000

    u = rng.random((runs, sum(sizes)))
    errors = (u < 0.8 * wrong).astype(np.float64) - (u > 1.0 - 0.2 * wrong)
    flags = [differential_bias(np.zeros(len(d)), d, variant)[0].differs or False for d in errors]

    assert least <= np.mean(flags) <= most


def test_a_judge_right_on_all_of_control_and_wrong_on_the_variant_is_found() -> None:
    human, judge = np.zeros(100), np.repeat([1.0, 0.0], 50)

    (found,) = differential_bias(human, judge, np.repeat([1, 0], 50))

    assert found.differs is True
    assert found.test is not None
    assert found.test.interval == pytest.approx((1.0, 1.0), abs=0.1)
    assert found.test.reasons == ("0 labels of control on which judge and human differ, 5 are needed",)


def test_nothing_to_test_is_said_and_not_flagged() -> None:
    (alike,) = differential_bias([0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1])
    (single,) = differential_bias([0, 1, 0], [0, 0, 1], [0, 0, 1])
    (without_control,) = differential_bias([0, 1, 0], [0, 0, 1], [1, 1, 1])

    assert (alike.test, alike.differs) == (None, None)
    assert "nothing to test" in alike.note
    assert (single.differs, single.note) == (None, "fewer than 2 labels of variant 1")
    assert (without_control.differs, without_control.note) == (None, "fewer than 2 labels of control")


def test_the_drift_statistic_is_the_largest_standardised_sum_and_its_law_that_of_kolmogorov() -> None:
    rng = np.random.default_rng(5)
    human, judge = rng.normal(size=(2, 80))

    found = bias_drift(human, judge, np.arange(80))

    error = judge - human
    sums = [abs(sum(error[: k + 1] - error.mean())) for k in range(80)]
    statistic = max(sums) / (error.std() * math.sqrt(80))
    cut = int(np.argmax(sums)) + 1
    assert found.statistic == pytest.approx(statistic)
    assert found.p_value == pytest.approx(float(stats.kstwobign.sf(statistic + 0.5826 / math.sqrt(80))))
    assert found.last_before == cut - 1
    assert (found.before, found.after) == pytest.approx((error[:cut].mean(), error[cut:].mean()))
    assert found.trustworthy


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    return rng.normal(size=shape)


def skewed(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    return rng.exponential(size=shape)


def one_in_five(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    return (rng.random(shape) < 0.2).astype(np.float64)


@pytest.mark.parametrize("n", [FEWEST_IN_ORDER, 50, 300])
@pytest.mark.parametrize("draw", [normal, skewed, one_in_five])
def test_a_steady_bias_is_seldom_called_drift(
    n: int, draw: Callable[[np.random.Generator, tuple[int, int]], FloatArray]
) -> None:
    errors = draw(np.random.default_rng(6), (2000, n))
    zeros, time = np.zeros(n), np.arange(n)

    p_values = np.array([bias_drift(zeros, error, time).p_value for error in errors], dtype=np.float64)

    assert 0.02 <= np.mean(p_values < 0.05) <= 0.07
    assert np.mean(p_values < 0.01) <= 0.02


def test_a_changed_bias_is_found_where_it_changed() -> None:
    rng = np.random.default_rng(7)
    human, late = binary_judge(rng, 300, 0.5, 0.5, 0.02)
    judge = np.where(np.arange(300) < 180, human, late)  # never wrong before
    order = rng.permutation(300)

    found = bias_drift(human[order], judge[order], np.arange(300.0)[order])

    assert found.p_value is not None
    assert found.p_value < 1e-6
    assert found.last_before == pytest.approx(180, abs=10)
    assert found.before == pytest.approx(0.0, abs=0.02)


@given(seed=SEEDS)
def test_the_order_of_labels_of_the_same_time_does_not_matter(seed: int) -> None:
    human, judge = ordinal(seed)
    order = np.random.default_rng(seed).permutation(60)
    time = np.arange(60) // 7

    found, shuffled = bias_drift(human, judge, time), bias_drift(human[order], judge[order], time[order])

    assert found.statistic == pytest.approx(shuffled.statistic)
    assert found.p_value == pytest.approx(shuffled.p_value)


@pytest.mark.parametrize(
    ("judge", "time", "note"),
    [
        ([0.3, 0.1, 0.2], [1, 2, 3], "the same for all labels"),
        ([1, 0, 1], [1, 1, 1], "all labels have the same time"),
        ([1], [1], "all labels have the same time"),
    ],
)
def test_no_drift_can_be_seen_where_nothing_varies(judge: list[float], time: list[int], note: str) -> None:
    human = [x + 0.7 for x in judge] if note.startswith("the") else [0.0] * len(judge)

    found = bias_drift(human, judge, time)

    assert (found.statistic, found.p_value, found.trustworthy) == (None, None, False)
    assert note in found.note


def test_few_labels_have_a_drift_p_value_that_is_not_trusted() -> None:
    found = bias_drift(np.zeros(19), np.arange(19) % 2, np.arange(19))

    assert found.p_value is not None
    assert not found.trustworthy
    assert found.note == "19 labels, 20 are needed"


@given(seed=SEEDS, n=st.integers(4, 60))
def test_verbosity_bias_is_scipys_rank_correlation(seed: int, n: int) -> None:
    human, judge = ordinal(seed, n)
    length = np.random.default_rng(seed + 1).integers(1, 20, n)
    if len(np.unique(judge - human)) == 1 or len(np.unique(length)) == 1:
        return

    found = verbosity_bias(human, judge, length)

    expected = stats.spearmanr(judge - human, length)
    assert found.rho == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)


def test_errors_that_differ_by_rounding_alone_are_ties() -> None:
    human = np.array([0.1, 0.2, 0.3, 0.6, 0.0, 0.0])
    judge = human + np.array([0.2, 0.2, 0.2, 0.2, 0.0, 0.4])

    found = verbosity_bias(human, judge, [1, 2, 3, 4, 5, 6])

    assert found.rho == pytest.approx(stats.spearmanr([1, 1, 1, 1, 0, 2], [1, 2, 3, 4, 5, 6]).statistic)


def test_a_correlation_of_one_has_p_value_0() -> None:
    found = verbosity_bias(np.zeros(5), np.arange(5), np.arange(5) ** 2)

    assert (found.rho, found.p_value) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("judge", "length", "note"),
    [
        ([0, 1], [5, 6], "2 labels, 3 are needed"),
        ([1, 1, 1], [5, 6, 7], "the same for all labels"),
        ([0, 1, 0], [5, 5, 5], "all answers have the same length"),
    ],
)
def test_verbosity_bias_is_not_made_up(judge: list[int], length: list[int], note: str) -> None:
    found = verbosity_bias(np.zeros(len(judge)), judge, length)

    assert (found.rho, found.p_value) == (None, None)
    assert note in found.note


def test_flips_and_wins_of_the_first_place_are_counted_with_ties_as_half_flips() -> None:
    # A first: A, A, B, tie, B, A; B first: A, B, A, B, tie, tie. Flips: all but the first pair.
    verdict, swapped = [0, 0, 1, 0.5, 1, 0], [0, 1, 0, 1, 0.5, 0.5]

    found = position_bias(verdict, swapped)

    assert (found.flips.events, found.flips.n) == (5, 6)
    assert found.first is not None
    assert (found.first.events, found.first.n) == (3, 5)
    low, high = stats.binomtest(3, 5).proportion_ci(0.95, method="exact")
    assert found.first.interval == pytest.approx((low, high))


def test_a_judge_that_never_flips_has_no_share_of_first_wins() -> None:
    found = position_bias([0, 1], [0, 1])

    assert found.flips.events == 0
    assert found.first is None


BAD: list[tuple[object, str]] = [
    ([], "received 0 items"),
    ([1.0, math.nan], "received nan as item 1"),
    ([1.0, -math.inf], "received -inf as item 1"),
    ([1.0, 1e200], "received 1e+200 as item 1"),
    ([1.0, 1.0, 0.0], "as many as"),
    ([[1.0, 0.0]], "one column of numbers"),
    (["a", "b"], "one column of numbers"),
]
CALLS: list[tuple[Callable[..., object], tuple[str, ...]]] = [
    (agreement, ("human", "judge", "variant")),
    (differential_bias, ("human", "judge", "variant")),
    (bias_drift, ("human", "judge", "time")),
    (verbosity_bias, ("human", "judge", "length")),
    (position_bias, ("verdict", "swapped")),
]


@pytest.mark.parametrize(("values", "message"), BAD)
@pytest.mark.parametrize(("call", "fields"), CALLS)
def test_bad_columns_are_refused_by_name(
    call: Callable[..., object], fields: tuple[str, ...], values: object, message: str
) -> None:
    for field in fields:
        columns: dict[str, object] = {name: [1.0, 0.0] for name in fields} | {field: values}

        with pytest.raises(InvalidInput) as caught:
            call(**columns)

        problems = caught.value.problems
        assert any(message in problem.message for problem in problems)
        assert field in {problem.field for problem in problems} or "as many as" in message


@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan])
def test_a_level_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(InvalidInput, match="alpha"):
        agreement([1, 0], [1, 0], alpha=alpha)


def test_variants_are_whole_numbers() -> None:
    variant: IntArray = np.array([0, 1])

    assert sorted(agreement([1, 0], [1, 0], variant.astype(np.float64)).bias_by_variant) == [0, 1]
    with pytest.raises(InvalidInput, match="variant"):
        agreement([1, 0], [1, 0], [0.5, 1])


def test_a_million_labels_are_no_problem() -> None:
    human, judge = binary_judge(np.random.default_rng(8), 1_000_000, 0.3, 0.1, 0.1)

    found = agreement(human, judge)

    assert found.accuracy.share == pytest.approx(0.9, abs=0.002)
