"""The chance of being best and the expected loss against closed forms, scipy's adaptive quadrature and sampling."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from bandit import best_arm as module
from bandit.arrays import FloatArray
from bandit.best_arm import BestArm, best_arm, expected_loss, probability_best
from bandit.beta_law import BetaBlock
from bandit.posteriors import BetaPosterior, Posterior, StudentPosterior
from bandit.quadrature import Contenders, Maximum, Resolution, largest
from bandit.student_law import StudentBlock

INF = math.inf


def beta(*arms: tuple[float, float]) -> BetaPosterior:
    a, b = np.array(arms, dtype=np.float64).T
    return BetaPosterior(a, b)


def student(*arms: tuple[float, float, float]) -> StudentPosterior:
    location, scale, df = np.array(arms, dtype=np.float64).T
    return StudentPosterior(location, scale, df)


def shuffled(posterior: Posterior, order: list[int]) -> Posterior:
    return type(posterior)(*(getattr(posterior, field.name)[..., order] for field in fields(posterior)))


def row(posterior: Posterior, index: tuple[int, ...]) -> Posterior:
    return type(posterior)(*(getattr(posterior, field.name)[index] for field in fields(posterior)))


def beta_beats(a1: int, b1: float, a2: int, b2: float) -> float:
    """P(θ1 > θ2) = Σ_{i<a1} B(a2+i, b1+b2) / ((b1+i) B(1+i, b1) B(a2, b2)), Evan Miller's sum of positive terms.

    From ratios of terms in extended precision: lnΓ(1e7) in double precision would leave 1e-8 only.
    """
    m = np.arange(a2, dtype=np.longdouble)
    i = np.arange(a1 - 1, dtype=np.longdouble)
    first = np.sum(np.log1p(-b1 / (b1 + b2 + m)))
    ratios = np.log((a2 + i) / (a2 + i + b1 + b2) * (b1 + i) / (1 + i))
    return float(np.exp(first) + np.exp(first + np.cumsum(ratios)).sum())


@dataclass(frozen=True)
class Law:
    """One arm for the oracle: on the logit scale for Beta, so that masses next to 0 and 1 keep their digits."""

    pdf: Callable[[float], float]
    cdf: Callable[[float], float]
    sf: Callable[[float], float]
    cuts: FloatArray


def beta_law(a: float, b: float) -> Law:
    def pdf(x: float) -> float:
        p, q = float(special.expit(x)), float(special.expit(-x))
        return float(stats.beta.pdf(p, a, b) if x < 0 else stats.beta.pdf(q, b, a)) * p * q

    def cdf(x: float) -> float:
        return float(special.betainc(a, b, special.expit(x)) if x < 0 else special.betaincc(b, a, special.expit(-x)))

    def sf(x: float) -> float:
        return float(special.betainc(b, a, special.expit(-x)) if x > 0 else special.betaincc(a, b, special.expit(x)))

    steps = np.array([0.7, 1.5, 3, 5, 8, 12, 20, 40, 80]) * math.sqrt(1 / a + 1 / b)
    cuts = math.log(a / b) + np.concatenate([-steps, [0.0], steps])
    return Law(pdf, cdf, sf, np.concatenate([cuts, np.arange(-36.0, 37.0, 6.0)]).clip(-690, 690))


def student_law(location: float, scale: float, df: float) -> Law:
    gaussian = math.isinf(df)
    constant = math.sqrt(2 * math.pi) if gaussian else math.sqrt(df) * float(special.beta(df / 2, 0.5))

    def pdf(x: float) -> float:
        z = (x - location) / scale
        shape = math.exp(-z * z / 2) if gaussian else (1 + z * z / df) ** (-(df + 1) / 2)
        return shape / constant / scale

    def cdf(x: float) -> float:
        z = (x - location) / scale
        return float(special.ndtr(z) if gaussian else special.stdtr(df, z))

    steps = scale * np.concatenate([[0.7, 1.5, 3, 5, 8], 12.0 * 3.0 ** np.arange(0 if gaussian else 22)])
    return Law(pdf, cdf, lambda x: cdf(2 * location - x), location + np.concatenate([-steps, [0.0], steps]))


def laws(posterior: Posterior) -> list[Law]:
    if isinstance(posterior, BetaPosterior):
        return [beta_law(*arm) for arm in zip(posterior.a, posterior.b, strict=True)]
    return [student_law(*arm) for arm in zip(posterior.location, posterior.scale, posterior.df, strict=True)]


def draws(posterior: Posterior, n_draws: int, rng: np.random.Generator) -> FloatArray:
    if isinstance(posterior, BetaPosterior):
        return rng.beta(posterior.a, posterior.b, (n_draws, len(posterior.a)))
    finite = np.where(np.isinf(posterior.df), 1.0, posterior.df)
    size = (n_draws, len(finite))
    t = np.where(np.isinf(posterior.df), rng.standard_normal(size), rng.standard_t(finite, size))
    return posterior.location + posterior.scale * t


def slow_best_arm(posterior: Posterior) -> BestArm:
    """The definitions by adaptive quadrature: P_k = ∫ f_k ∏_{j≠k} F_j and loss_k = ∫ F_k (1 − ∏_{j≠k} F_j) dθ."""
    arms = laws(posterior)
    cuts = np.unique(np.concatenate([arm.cuts for arm in arms]))
    slope = (
        (lambda x: special.expit(x) * special.expit(-x)) if isinstance(posterior, BetaPosterior) else (lambda _: 1.0)
    )

    def over(function: Callable[[float], float]) -> float:
        with warnings.catch_warnings():
            # quad says so when the last digits asked for are lost in rounding.
            warnings.simplefilter("ignore", integrate.IntegrationWarning)
            parts = [integrate.quad(function, s, t, epsabs=1e-12, epsrel=1e-9) for s, t in itertools.pairwise(cuts)]
        return math.fsum(value for value, _ in parts)

    def win(k: int, x: float) -> float:
        return arms[k].pdf(x) * math.prod(arm.cdf(x) for j, arm in enumerate(arms) if j != k)

    def miss(k: int, x: float) -> float:
        beaten = 0.0
        for j, arm in enumerate(arms):
            beaten += arm.sf(x) * (1.0 - beaten) if j != k else 0.0
        return float(arms[k].cdf(x) * beaten * slope(x))

    every = range(len(arms))
    return BestArm(np.array([over(partial(win, k)) for k in every]), np.array([over(partial(miss, k)) for k in every]))


BETA_CASES = {
    "few counts": beta((1, 1), (1, 2), (3, 1)),
    "half counts": beta((0.5, 0.5), (0.5, 7.5), (12.5, 0.5), (3, 4)),
    "hardly any prior": beta((0.05, 0.05), (0.1, 0.4), (2, 3)),
    "narrow beside flat": beta((1, 1), (3e6, 7e6), (30, 70), (2e4, 5e4)),
    "ten million": beta((3e6, 7e6), (3e6 + 1000, 7e6 - 1000), (40, 1e7), (30, 70)),
    "rare events": beta((1.5, 1e6), (3, 1e6), (0.5, 2e5)),
    "near certainty": beta((1e6, 1.5), (1e6, 3), (2e5, 0.5), (5, 0.5)),
    "skewed both ways": beta((1, 5000), (2, 1), (4, 1), (300, 200), (1, 9)),
}
STUDENT_CASES = {
    "three heavy tails": student((0, 1, 2), (0.5, 2, 2.5), (1, 0.5, 3)),
    "mixed tails": student((0, 1, INF), (0.5, 1, 2), (-1, 3, 7), (0.7, 0.4, 40)),
    "scales far apart": student((0, 1e-4, 3), (0, 1, INF), (-1, 1e3, 5)),
    "narrow among wide": student((0, 1, 5), (1, 1e-5, 2), (1, 1e-6, INF), (0.5, 1, 2), (0.2, 1, 30), (0, 2, 9)),
    "far from zero": student((1e6, 1, 4), (1e6 + 1, 2, 4), (1e6 - 1, 3, 8)),
}


@pytest.mark.parametrize("posterior", BETA_CASES.values(), ids=BETA_CASES.keys())
def test_beta_agrees_with_adaptive_quadrature(posterior: BetaPosterior) -> None:
    expected = slow_best_arm(posterior)

    answer = best_arm(posterior)

    np.testing.assert_allclose(answer.probability, expected.probability, rtol=0, atol=2e-9)
    np.testing.assert_allclose(answer.expected_loss, expected.expected_loss, rtol=0, atol=2e-9)


@pytest.mark.parametrize("posterior", STUDENT_CASES.values(), ids=STUDENT_CASES.keys())
def test_student_agrees_with_adaptive_quadrature(posterior: StudentPosterior) -> None:
    expected = slow_best_arm(posterior)

    answer = best_arm(posterior)

    np.testing.assert_allclose(answer.probability, expected.probability, rtol=0, atol=2e-9)
    unit = posterior.scale.max()
    np.testing.assert_allclose(answer.expected_loss / unit, expected.expected_loss / unit, rtol=0, atol=2e-9)


@pytest.mark.parametrize(
    ("a1", "b1", "a2", "b2"),
    [(1, 1, 1, 5000), (1, 0.5, 2, 1), (3, 9, 4, 8), (40, 1e7, 30, 9e6), (1000, 3000, 1000, 3.1e3), (20, 0.5, 9, 0.5),
     (5000, 5000, 5100, 5000), (2000, 7e6, 1900, 6.5e6), (30_000, 70_000, 29_500, 70_500), (7, 0.05, 5, 0.04)],
)  # fmt: skip
def test_two_beta_arms_agree_with_the_closed_form(a1: int, b1: float, a2: int, b2: float) -> None:
    expected = beta_beats(a1, b1, a2, b2)

    answer = probability_best(beta((a1, b1), (a2, b2)))

    np.testing.assert_allclose(answer, [expected, 1.0 - expected], rtol=0, atol=2e-9)


@pytest.mark.parametrize(
    ("m1", "s1", "m2", "s2"), [(0, 2, 1.3, 0.7), (5, 1e-3, 5.0005, 1), (0, 1, 7, 1), (1, 1, 1, 1e5)]
)
def test_two_gaussian_arms_agree_with_the_closed_form(m1: float, s1: float, m2: float, s2: float) -> None:
    s, d = math.hypot(s1, s2), m1 - m2
    chance = stats.norm.cdf(d / s)
    loss = s * stats.norm.pdf(d / s) + d * (chance - np.array([1.0, 0.0]))

    answer = best_arm(student((m1, s1, INF), (m2, s2, INF)))

    np.testing.assert_allclose(answer.probability, [chance, 1.0 - chance], rtol=0, atol=1e-11)
    np.testing.assert_allclose(answer.expected_loss, loss, rtol=0, atol=1e-11 * s)


def test_a_student_arm_beats_a_fixed_value_with_its_tail_probability() -> None:
    answer = best_arm(student((0, 1, 2), (3, 0, 2)))

    tail = stats.t(2).sf(3)
    excess = stats.t(2).pdf(3) * (2 + 9) - 3 * tail
    np.testing.assert_allclose(answer.probability, [tail, 1 - tail], rtol=0, atol=1e-12)
    np.testing.assert_allclose(answer.expected_loss, [3 + excess, excess], rtol=0, atol=1e-11)


@pytest.mark.parametrize("posterior", [BETA_CASES["skewed both ways"], STUDENT_CASES["mixed tails"]])
def test_sampling_agrees(posterior: Posterior) -> None:
    rng = np.random.default_rng(20_240_501)
    n_draws = 400_000
    winners = draws(posterior, n_draws, rng).argmax(axis=1)
    wins = np.bincount(winners, minlength=len(posterior.mean)) / n_draws

    p = probability_best(posterior)

    # z = 3.9: a false alarm in about 1 of 10,000 arms.
    assert np.all(np.abs(wins - p) <= 3.9 * np.sqrt(p * (1.0 - p) / n_draws) + 1e-9)


def test_the_loss_of_ten_beta_arms_agrees_with_sampling() -> None:
    rng = np.random.default_rng(7)
    posterior = BetaPosterior(rng.uniform(5, 50, 10), rng.uniform(5, 50, 10))
    means = draws(posterior, 200_000, rng)
    losses = means.max(axis=1, keepdims=True) - means

    loss = expected_loss(posterior)

    assert np.all(np.abs(losses.mean(axis=0) - loss) <= 3.9 * losses.std(axis=0) / math.sqrt(len(means)))


def random_betas(rng: np.random.Generator, shape: tuple[int, ...], lowest: float) -> BetaPosterior:
    """Counts of every size; half of the rows are near ties, where the answer is hard."""
    n = 10 ** rng.uniform(0, 7, shape)
    level = special.expit(rng.normal(0, 4, (*shape[:-1], 1)))
    p = np.clip(level + rng.normal(0, 1.5, shape) * np.sqrt(level * (1 - level) / n), 1e-6, 1 - 1e-6)
    wild = lowest * 10 ** rng.uniform(0, 7 - math.log10(lowest), (2, *shape))
    tie = rng.random((*shape[:-1], 1)) < 0.5
    return BetaPosterior(np.where(tie, n * p + 0.5, wild[0]), np.where(tie, n * (1 - p) + 0.5, wild[1]))


def random_students(rng: np.random.Generator, shape: tuple[int, ...]) -> StudentPosterior:
    scale = 10 ** (rng.uniform(-4, 4, shape) * (rng.random((*shape[:-1], 1)) < 0.5))
    df = np.where(rng.random(shape) < 0.3, np.inf, 10 ** rng.uniform(math.log10(2), 5, shape))
    return StudentPosterior(rng.normal(0, 2, shape) * scale, scale, df)


def finest(monkeypatch: pytest.MonkeyPatch, posterior: Posterior) -> BestArm:
    """The same quadrature with far more panels and nodes for every row."""
    for block in (BetaBlock, StudentBlock):
        monkeypatch.setattr(block, "resolutions", (Resolution(24, 24),) * 4)
    return best_arm(posterior)


@pytest.mark.parametrize("n_arms", [2, 3, 10, 50])
def test_more_panels_change_nothing_over_a_wide_grid_of_betas(n_arms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = random_betas(np.random.default_rng(n_arms), (1500 // n_arms**2 + 6, n_arms), lowest=0.01)

    answer = best_arm(posterior)

    expected = finest(monkeypatch, posterior)
    np.testing.assert_allclose(answer.probability, expected.probability, rtol=0, atol=5e-9)
    np.testing.assert_allclose(answer.expected_loss, expected.expected_loss, rtol=0, atol=5e-9)


@pytest.mark.parametrize("n_arms", [2, 3, 10])
def test_more_panels_change_nothing_over_a_wide_grid_of_students(n_arms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = random_students(np.random.default_rng(n_arms), (400 // n_arms**2 + 2, n_arms))
    unit = posterior.scale.max(axis=-1, keepdims=True)

    answer = best_arm(posterior)

    expected = finest(monkeypatch, posterior)
    np.testing.assert_allclose(answer.probability, expected.probability, rtol=0, atol=1e-10)
    np.testing.assert_allclose(answer.expected_loss / unit, expected.expected_loss / unit, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_arms", [2, 4, 50])
def test_probabilities_sum_to_one_before_they_are_normalised(n_arms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    totals = []

    def recorded(arms: Contenders, floor: FloatArray, resolution: Resolution, with_mean: bool) -> Maximum:
        found = largest(arms, floor, resolution, with_mean)
        totals.append(found.probability.sum(axis=-1))
        return found

    monkeypatch.setattr(module, "largest", recorded)
    rng = np.random.default_rng(n_arms)
    p = probability_best(random_betas(rng, (200, n_arms), lowest=0.01))
    q = probability_best(random_students(rng, (100, n_arms)))

    np.testing.assert_allclose(np.concatenate(totals), 1.0, rtol=0, atol=2e-9)
    np.testing.assert_allclose(np.concatenate([p, q]).sum(axis=-1), 1.0, rtol=0, atol=1e-14)


def test_rows_whose_sum_is_off_are_integrated_more_finely(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = random_betas(np.random.default_rng(4), (50, 3), lowest=0.5)
    expected = probability_best(posterior)
    finer = (Resolution(12, 20), Resolution(24, 20))
    monkeypatch.setattr(BetaBlock, "resolutions", (Resolution(1, 3),) * 3 + finer)

    answer = probability_best(posterior)

    np.testing.assert_allclose(answer, expected, rtol=0, atol=2e-9)


def test_ten_million_observations_are_not_too_many() -> None:
    # Two near ties of 1e7: the Gaussian law is then right to about 1e-7.
    a, b = np.array([3e6, 3e6 + 1000, 3e6 - 500]), np.array([7e6, 7e6 - 1000, 7e6 + 500])
    sd = np.sqrt(a * b / (a + b) ** 2 / (a + b + 1))

    answer = probability_best(BetaPosterior(a, b))

    gaussian = probability_best(StudentPosterior(a / (a + b), sd, np.full(3, INF)))
    np.testing.assert_allclose(answer, gaussian, rtol=0, atol=2e-5)
    mirrored = probability_best(BetaPosterior(b[:2], a[:2]))
    np.testing.assert_allclose(probability_best(BetaPosterior(a[:2], b[:2])), mirrored[::-1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("one", [(1, 1), (0.01, 0.01), (3e6, 7e6), (1e7, 0.5), (0.5, 1e7), (12, 5)])
@pytest.mark.parametrize("n_arms", [2, 7, 50])
def test_identical_arms_share_evenly(one: tuple[float, float], n_arms: int) -> None:
    answer = best_arm(beta(*[one] * n_arms))

    np.testing.assert_allclose(answer.probability, 1.0 / n_arms, rtol=0, atol=1e-12)
    assert np.ptp(answer.expected_loss) <= 1e-12


counts = st.floats(-2, 7).map(lambda exponent: 10.0**exponent)
beta_arms = st.lists(st.tuples(counts, counts), min_size=2, max_size=6)
student_arms = st.lists(
    st.tuples(
        st.floats(-10, 10),
        st.one_of(st.just(0.0), st.floats(-3, 3).map(lambda exponent: 10.0**exponent)),
        st.one_of(st.just(INF), st.floats(2, 100)),
    ),
    min_size=2,
    max_size=6,
)
posteriors = st.one_of(beta_arms.map(lambda arms: beta(*arms)), student_arms.map(lambda arms: student(*arms)))


@settings(deadline=None)
@given(posteriors, st.data())
def test_relabelling_the_arms_relabels_the_answer(posterior: Posterior, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(posterior.mean))))

    answer = best_arm(posterior)

    relabelled = best_arm(shuffled(posterior, order))
    unit = max(1.0, float(np.max(getattr(posterior, "scale", 1.0))))
    np.testing.assert_allclose(relabelled.probability, answer.probability[order], rtol=0, atol=1e-12)
    np.testing.assert_allclose(relabelled.expected_loss, answer.expected_loss[order], rtol=0, atol=1e-11 * unit)


@settings(deadline=None)
@given(posteriors)
def test_the_answer_is_a_distribution_with_losses_that_are_not_negative(posterior: Posterior) -> None:
    answer = best_arm(posterior)

    assert np.all(answer.probability >= 0.0)
    assert abs(answer.probability.sum() - 1.0) <= 1e-14
    assert np.all(answer.expected_loss >= 0.0)
    # Up to rounding: means may tie to the last digit.
    least = answer.expected_loss[posterior.mean.argmax()]
    np.testing.assert_allclose(least, answer.expected_loss.min(), rtol=0, atol=1e-12)


@settings(deadline=None)
@given(beta_arms, st.data())
def test_one_more_success_never_lowers_the_chance_of_an_arm(
    arms: list[tuple[float, float]], data: st.DataObject
) -> None:
    before = beta(*arms)
    k = data.draw(st.integers(0, len(arms) - 1))
    after = BetaPosterior(before.a + np.eye(len(arms))[k], before.b)

    assert probability_best(after)[k] >= probability_best(before)[k] - 2e-9


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-10, 10), st.floats(0.1, 10), st.sampled_from([2.0, 4.5, 30.0, INF])),
        min_size=2,
        max_size=5,
    ),
    st.floats(-1e3, 1e3),
    st.floats(-9, 9),
)
def test_units_and_origin_of_the_metric_do_not_matter(
    arms: list[tuple[float, float, float]], shift: float, exponent: float
) -> None:
    posterior, factor = student(*arms), 10.0**exponent
    moved = StudentPosterior(factor * (posterior.location + shift), factor * posterior.scale, posterior.df)

    answer, other = best_arm(posterior), best_arm(moved)

    np.testing.assert_allclose(other.probability, answer.probability, rtol=0, atol=1e-9)
    np.testing.assert_allclose(other.expected_loss / factor, answer.expected_loss, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0,), (2, 0)])
def test_leading_axes_are_answered_row_by_row(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(11)
    for posterior in (random_betas(rng, (*shape, 4), lowest=0.01), random_students(rng, (*shape, 4))):
        answer = best_arm(posterior)

        assert answer.probability.shape == answer.expected_loss.shape == (*shape, 4)
        np.testing.assert_array_equal(probability_best(posterior), answer.probability)
        np.testing.assert_array_equal(expected_loss(posterior), answer.expected_loss)
        for index in np.ndindex(shape):
            one = best_arm(row(posterior, index))
            unit = max(1.0, float(np.max(getattr(posterior, "scale", 1.0))))
            np.testing.assert_allclose(answer.probability[index], one.probability, rtol=0, atol=1e-11)
            np.testing.assert_allclose(answer.expected_loss[index], one.expected_loss, rtol=0, atol=1e-11 * unit)


def test_blocks_of_rows_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = random_betas(np.random.default_rng(3), (60, 5), lowest=0.5)
    expected = best_arm(posterior)
    monkeypatch.setattr(module, "_BLOCK_ARMS", 35)

    answer = best_arm(posterior)

    np.testing.assert_allclose(answer.probability, expected.probability, rtol=0, atol=1e-12)
    np.testing.assert_allclose(answer.expected_loss, expected.expected_loss, rtol=0, atol=1e-12)


def test_one_arm_alone_is_best_at_no_loss() -> None:
    for posterior in (beta((3, 4)), student((2, 1, 5)), student((2, 0, 5))):
        answer = best_arm(posterior)

        assert answer.probability.tolist() == [1.0]
        assert answer.expected_loss.tolist() == [0.0]


def test_the_highest_point_mass_wins_and_ties_are_shared() -> None:
    answer = best_arm(student((1, 0, INF), (2, 0, 3), (2, 0, 9), (-5, 0, INF)))

    assert answer.probability.tolist() == [0.0, 0.5, 0.5, 0.0]
    assert answer.expected_loss.tolist() == [1.0, 0.0, 0.0, 7.0]


def test_point_masses_beside_spread_arms_get_what_is_left() -> None:
    answer = best_arm(student((1, 0, INF), (1, 0, 5), (0, 0, 5), (0, 1, INF), (0.5, 2, INF)))

    left = stats.norm.cdf(1) * stats.norm.cdf(0.25)
    np.testing.assert_allclose(answer.probability[:3], [left / 2, left / 2, 0.0], rtol=0, atol=1e-12)
    spread = integrate.quad(lambda x: stats.norm.pdf(x) * stats.norm.cdf((x - 0.5) / 2), 1, 12, epsabs=1e-13)[0]
    np.testing.assert_allclose(answer.probability[3], spread, rtol=0, atol=1e-11)


def test_a_very_narrow_arm_is_nearly_a_point_mass() -> None:
    narrow = best_arm(student((1, 1e-12, INF), (0, 1, 2), (0.5, 2, INF)))

    point = best_arm(student((1, 0, INF), (0, 1, 2), (0.5, 2, INF)))
    np.testing.assert_allclose(narrow.probability, point.probability, rtol=0, atol=1e-11)
    np.testing.assert_allclose(narrow.expected_loss, point.expected_loss, rtol=0, atol=1e-11)


@pytest.mark.parametrize("scale", [1e-12, 1e-300])
def test_an_arm_narrower_than_the_digits_of_its_location_is_a_point_mass(scale: float) -> None:
    answer = best_arm(student((1e6, scale, INF), (1e6, 1, INF)))

    point = best_arm(student((1e6, 0, INF), (1e6, 1, INF)))
    assert answer.probability.tolist() == point.probability.tolist() == pytest.approx([0.5, 0.5])
    assert answer.expected_loss.tolist() == point.expected_loss.tolist()


def test_many_degrees_of_freedom_are_gaussian() -> None:
    arms = [(0.0, 1.0), (0.5, 2.0), (-1.0, 3.0)]

    answer = probability_best(student(*((m, s, 1e8) for m, s in arms)))

    np.testing.assert_allclose(answer, probability_best(student(*((m, s, INF) for m, s in arms))), rtol=0, atol=1e-8)
