from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from bandit.arrays import FloatArray
from bandit.errors import InvalidInput
from bandit.experiment import Experiment
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.exact import log_wealths_above_ratio, log_wealths_below_ratio
from bandit.inference.mean_limit import Mean
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit
from bandit.measures import BETTING_FRACTIONS, measures_of
from bandit.planning import Certification, Expectations, certifications
from bandit.planning.certificates import users_for_bounded_mean, users_for_mean, users_for_rate, users_for_ratio
from bandit.planning.smallest import MOST_USERS
from tests.bandit.making import make_experiment

Z = 3.9
"""Standard errors that luck exceeds once in about 10,000 tests."""

LEVEL = 0.02

HARMFUL = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}
LATENCY = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}
P95_OF_CONTROL = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max_increase": 0.5, "at": 1200}
SPEED = {"metric": "seconds", "kind": "numeric", "max": 2.0}
COST = {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2, "cap": 1.0}
HANDOVER = {"metric": "handover", "kind": "binary", "max_increase": 0.5}


def with_guardrails(*guardrails: dict[str, Any], arms: int = 2) -> Experiment:
    return make_experiment(arms, guardrails=list(guardrails))


def certified(guardrail: dict[str, Any], split: tuple[float, ...] = (0.5, 0.5), **given: float) -> Certification:
    """Return what certifies one guardrail; numbers by the names of `Expectations`."""
    metric = guardrail["metric"]
    expectations = Expectations(**{name: {metric: value} for name, value in given.items()})
    return certifications(with_guardrails(guardrail), split, expectations)[0]


def log_mixture(n: int, events: float, limit: float, above: bool) -> float:
    """Return ln of the mean likelihood ratio against the limit, by quadrature over rates on the right side of it."""
    law = stats.beta(2, 1 / limit) if above else stats.beta(1, 1 / limit)
    low, high = (limit, 1.0) if above else (0.0, limit)
    peak = min(max(events / n, low), high)

    def ratio(theta: float) -> float:
        gain = events * math.log(theta / limit) + (n - events) * math.log((1 - theta) / (1 - limit))
        return float(law.pdf(theta) * math.exp(gain))

    width = 8 * math.sqrt(max(peak * (1 - peak), 1 / n) / n)
    places = [x for x in (peak - width, peak, peak + width) if low < x < high]
    mixed, _ = integrate.quad(ratio, low, high, epsabs=0, epsrel=1e-10, points=places or None, limit=200)
    return math.log(mixed / (law.sf(limit) if above else law.cdf(limit)))


@pytest.mark.parametrize(
    ("expected", "limit", "above"),
    [
        (0.005, 0.01, False),
        (0.04, 0.05, False),
        (0.0, 0.05, False),
        (0.3, 0.4, False),
        (0.97, 0.9, True),
        (0.5, 0.4, True),
    ],
)
@pytest.mark.parametrize("level", [0.02, 0.004])
def test_the_users_of_a_rate_are_the_smallest_on_the_expected_path(
    expected: float, limit: float, above: bool, level: float
) -> None:
    users = users_for_rate(expected, limit, level, above=above)

    assert users is not None
    needed = -math.log(level)
    assert log_mixture(users, users * expected, limit, above) >= needed
    assert log_mixture(users - 1, (users - 1) * expected, limit, above) < needed


def first_reached(log_e: FloatArray, level: float) -> FloatArray:
    """Return the first place along the last axis where ln E reaches ln 1/level, infinity where none does."""
    reached = log_e >= -math.log(level)
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1) + 1.0, np.inf)


def assert_most_are_done(first: FloatArray, users: float) -> None:
    """The expected path is a little beyond the median, since the first crossing counts: five to six in ten are done."""
    done = float(np.mean(first <= users))
    luck = Z * math.sqrt(0.24 / first.size)
    assert 0.5 - luck <= done <= 0.7 + luck


@pytest.mark.parametrize(("expected", "limit", "above"), [(0.02, 0.05, False), (0.96, 0.9, True)])
def test_arms_at_the_expected_rate_are_certified_about_then(expected: float, limit: float, above: bool) -> None:
    users = users_for_rate(expected, limit, LEVEL, above=above)
    assert users is not None
    rng = np.random.default_rng(21)
    step = math.ceil(users / 30)  # 30 looks until then, watched four times as long
    n = np.broadcast_to(np.arange(1.0, 121.0) * step, (2000, 120)).astype(np.float64)

    events = np.cumsum(rng.binomial(step, expected, n.shape), axis=1).astype(np.float64)
    log_e = (log_e_above_limit if above else log_e_below_limit)(n, events, limit)

    assert_most_are_done(first_reached(log_e, LEVEL), users / step)


@pytest.mark.parametrize(
    ("ratio", "limit", "base", "share", "above"),
    [(1.0, 1.5, 0.2, 0.5, False), (1.0, 0.6, 0.2, 0.25, True), (1.0, 1.2, 0.05, 0.5, False)],
)
def test_arms_at_the_expected_ratio_are_certified_about_then(
    ratio: float, limit: float, base: float, share: float, above: bool
) -> None:
    users = users_for_ratio(ratio, limit, base, share, LEVEL, above=above)
    assert users is not None
    rng = np.random.default_rng(22)
    runs, epochs, size = 1000, 120, math.ceil(users / share / 30)  # 30 epochs until then, watched four times as long
    p = np.broadcast_to([1 - share, share], (runs, epochs, 2))
    of_arm = rng.binomial(size, share, (runs, epochs))
    n = np.stack([size - of_arm, of_arm], axis=-1)
    events = rng.binomial(n, [base, base * ratio]).astype(float)
    observed = Observed(p, n * 1.0, events, events, events, 0.0, (0.0, 1.0), exact=True)

    log_e = log_mean((log_wealths_above_ratio if above else log_wealths_below_ratio)(observed, 0, limit))[..., 1]

    assert_most_are_done(first_reached(log_e, LEVEL), 30)


@pytest.mark.parametrize(("ratio", "limit", "share"), [(1.0, 1.2, 0.5), (0.9, 1.2, 0.25)])
def test_costs_at_the_expected_ratio_are_certified_about_then(ratio: float, limit: float, share: float) -> None:
    """Gamma costs a tenth of their cap, as varied as their mean: their real variance counts, not that of coins."""
    base = 0.1
    users = users_for_ratio(ratio, limit, base, share, LEVEL, sd=base)
    assert users is not None
    rng = np.random.default_rng(26)
    runs, epochs, size = 400, 120, math.ceil(users / share / 30)
    p = np.broadcast_to([1 - share, share], (runs, epochs, 2))
    of_arm = rng.binomial(size, share, (runs, epochs))
    n = np.stack([size - of_arm, of_arm], axis=-1) * 1.0
    z, z2 = np.zeros_like(n), np.zeros_like(n)
    for arm, mean in enumerate((base, base * ratio)):
        y = np.minimum(rng.gamma((mean / base) ** 2, base**2 / mean, (runs, epochs, size)), 1.0)
        y *= np.arange(size) < n[..., arm, np.newaxis]
        z[..., arm], z2[..., arm] = y.sum(axis=-1), (y * y).sum(axis=-1)
    observed = Observed(p, n, z, z2, np.zeros_like(n), 0.0, (0.0, 1.0), exact=True, fractional=True)

    log_e = log_mean(log_wealths_below_ratio(observed, 0, limit))[..., 1]

    assert_most_are_done(first_reached(log_e, LEVEL), 31)  # the first epoch is not bet on
    assert users < 0.4 * (users_for_ratio(ratio, limit, base, share, LEVEL) or 0)


def test_arms_at_the_expected_mean_are_certified_about_then() -> None:
    """Betting on outcomes with a cap: Beta-shaped costs with mean 0.3, a limit of 0.5 and a cap of 1."""
    expected, limit, cap, runs = 0.3, 0.5, 1.0, 1000
    law = stats.beta(1.5, 3.5)
    users = users_for_bounded_mean(expected, float(law.std()), limit, cap, LEVEL)
    assert users is not None
    y = law.rvs((runs, 6 * users), random_state=np.random.default_rng(23))
    stakes = [-fraction / (cap / limit - 1) for fraction in BETTING_FRACTIONS]

    wealth = [np.log1p(stake * (y / limit - 1)).cumsum(axis=1) for stake in stakes]

    log_e = np.logaddexp.reduce(wealth) - math.log(len(stakes))
    assert_most_are_done(first_reached(log_e, LEVEL), users)


def test_a_mean_without_a_cap_is_certified_about_then() -> None:
    """The confidence sequence of the product, on normal outcomes of mean 1.8 against a limit of 2."""
    users = users_for_mean(0.2, 1.0, LEVEL, 5_000)
    assert users is not None
    rng = np.random.default_rng(24)
    runs, looks = 2_000, 120
    n = np.linspace(users / 30, 4 * users, looks)
    steps = rng.normal(1.8 * n[0], math.sqrt(n[0]), (runs, looks))

    z = steps.cumsum(axis=1)
    unread = np.zeros_like(z)
    mean = Mean(n + unread, z / n, unread + 1.0, np.ones_like(z, dtype=bool))
    log_e = mean.log_e_below(2.0, 2 * LEVEL, 5_000)

    assert_most_are_done(first_reached(log_e, LEVEL), 30)


def test_the_users_of_a_mean_solve_their_own_equation() -> None:
    def log_e(users: int) -> float:
        """One arm's users come with as many of control's."""
        return float(one_sided_log_e_value(0.1 * math.sqrt(users / 4.0), 2.0 * users, tuning(0.04, 10_000)))

    users = users_for_mean(0.1, 4.0, LEVEL, 10_000, 2.0)

    assert users is not None
    assert log_e(users) >= math.log(50) > log_e(users - 1)


def test_a_sequence_tuned_to_half_of_the_users_needs_fewest() -> None:
    early, best, late = (users_for_mean(0.1, 4.0, LEVEL, planned) for planned in (20, 2_000, 200_000))

    assert best == pytest.approx(1.28 * 2 * math.log(50) * 4.0 / 0.01, rel=0.01)  # 1.28 times a test that knew the mean
    assert best is not None
    assert early is not None
    assert late is not None
    assert best < early < late


@given(st.floats(1.0, 3.0), st.floats(0.05, 0.9), st.floats(0.1, 0.9))
def test_nothing_at_or_beyond_its_limit_is_ever_certified(times: float, limit: float, share: float) -> None:
    assert users_for_rate(min(times * limit, 1.0), limit, LEVEL) is None
    assert users_for_rate(limit / times, limit, LEVEL, above=True) is None
    assert users_for_bounded_mean(times * limit, 0.1, limit, 5.0, LEVEL) is None
    assert users_for_mean(limit - times * limit, 1.0, LEVEL, 1_000) is None
    assert users_for_ratio(times * limit, limit, 0.1, share, LEVEL) is None
    assert users_for_ratio(limit / times, limit, 0.1, share, LEVEL, above=True) is None


@pytest.mark.parametrize("expected", [0.0, 0.002, 0.005, 0.008, 0.0099])
def test_the_nearer_to_the_limit_the_more_users(expected: float) -> None:
    users, nearer = (users_for_rate(x, 0.01, LEVEL) for x in (expected, expected + 0.00005))

    assert users is not None
    assert nearer is not None
    assert users < nearer <= MOST_USERS


def test_a_guardrail_on_a_rate_is_certified_against_its_limit() -> None:
    found = certified(HARMFUL, level=0.002)

    assert (found.kind, found.side, found.limit, found.expected) == ("rate", "below", 0.01, 0.002)
    assert found.users == users_for_rate(0.002, 0.01, 0.02)  # 0.8 × 0.05 / 2
    assert (found.assumed, found.approximate, found.reason) == ((), False, None)


def test_a_quantile_is_a_share_of_calls() -> None:
    found = certified(LATENCY, level=0.03)

    assert found.limit == pytest.approx(0.05)
    assert found.users == users_for_rate(0.03, 0.05, 0.02)


def test_a_relative_quantile_is_a_ratio_of_shares_of_calls() -> None:
    found = certified(P95_OF_CONTROL, (0.75, 0.25), level=0.1, base=0.04)

    assert (found.kind, found.side, found.limit, found.base) == ("rate ratio", "below", 1.5, 0.04)
    assert found.expected == pytest.approx(1.1)
    assert found.users == users_for_ratio(1.1, 1.5, 0.04, 0.25, 0.02)
    assert found.assumed == ()


@pytest.mark.parametrize(
    ("quantile", "expected", "share"), [(0.95, 0.0, 0.05), (0.99, 0.0, 0.01), (0.5, 0.0, 0.5), (0.5, 0.25, 0.4)]
)
def test_as_many_calls_of_control_are_taken_to_be_above_the_reference_as_above_the_quantile(
    quantile: float, expected: float, share: float
) -> None:
    """Fewer where the arm's share, 1 + `expected` times that, would be more than a half."""
    found = certified(P95_OF_CONTROL | {"quantile": quantile}, level=expected)

    assert found.base == share
    assert found.users == users_for_ratio(1.0 + expected, 1.5, share, 0.5, 0.02)
    assert found.assumed == (f"control's share of calls above 1200 is {share:g} (--base)",)


def test_users_of_several_calls_are_certified_no_later_than_planned() -> None:
    """Three calls a user, alike within a user: the mean of these varies less than a single 0 or 1."""
    base, limit = 0.05, 1.5
    users = users_for_ratio(1.0, limit, base, 0.5, LEVEL)
    assert users is not None
    rng = np.random.default_rng(27)
    runs, epochs, size = 300, 120, math.ceil(users / 15)  # of both arms: 30 epochs until then
    p = np.full((runs, epochs, 2), 0.5)
    of_arm = rng.binomial(size, 0.5, (runs, epochs))
    n = np.stack([size - of_arm, of_arm], axis=-1)
    slow = rng.beta(0.5, 0.5 * (1 - base) / base, (runs, epochs, 2, size))  # a user's own share of calls above
    outcomes = rng.binomial(3, slow) / 3 * (np.arange(size) < n[..., np.newaxis])
    z, z2 = outcomes.sum(axis=-1), (outcomes**2).sum(axis=-1)
    observed = Observed(p, n * 1.0, z, z2, z2, 0.0, (0.0, 1.0), exact=True)

    log_e = log_mean(log_wealths_below_ratio(observed, 0, limit))[..., 1]

    done = float(np.mean(first_reached(log_e, LEVEL) <= 30))
    assert done >= 0.5 - Z * math.sqrt(0.25 / runs)


def test_a_least_rate_is_certified_from_above() -> None:
    found = certified({"metric": "answered", "kind": "binary", "min": 0.9}, level=0.97)

    assert (found.side, found.limit) == ("above", 0.9)
    assert found.users == users_for_rate(0.97, 0.9, 0.02, above=True)


def test_more_variants_need_more_evidence() -> None:
    two, four = (certifications(with_guardrails(HARMFUL, arms=arms), (1 / arms,) * arms)[0] for arms in (2, 4))

    assert two.users is not None
    assert four.users is not None
    assert two.users < four.users


def test_a_tolerance_moves_the_limit_that_is_certified() -> None:
    strict = certified(HARMFUL, level=0.01)
    tolerant = certified(HARMFUL | {"tolerance": 0.5}, level=0.01)

    assert strict.users is None
    assert strict.reason is not None
    assert "can never be certified" in strict.reason
    assert tolerant.limit == pytest.approx(0.015)
    assert tolerant.users == users_for_rate(0.01, 0.015, 0.02)
    assert certified({"metric": "a", "kind": "binary", "min": 0.9, "tolerance": 0.1}).limit == pytest.approx(0.81)
    assert certified(HANDOVER | {"tolerance": 0.2}).limit == pytest.approx(1.5 * 1.2)


@pytest.mark.parametrize(
    "guardrail", [HARMFUL | {"max": 0.6, "tolerance": 1.0}, SPEED | {"cap": 2.5, "tolerance": 0.5}]
)
def test_a_tolerance_that_no_level_can_exceed_certifies_at_once(guardrail: dict[str, Any]) -> None:
    assert certified(guardrail).users == 1


def test_a_tolerance_loosens_the_bets_on_a_mean_as_in_the_ledger() -> None:
    """Stakes were made for the limit as declared: 1 + λ(y/m − 1) over 1 + λτ is what the report adds up."""
    asked = with_guardrails(SPEED | {"cap": 10.0, "tolerance": 0.25})
    measure = measures_of(asked)[1]
    law = stats.beta(2.0, 8.0)  # × 10: mean 2, sd 1.2
    rng = np.random.default_rng(25)
    users = users_for_bounded_mean(2.0, 10 * float(law.std()), 2.0, 10.0, LEVEL, 0.25)
    assert users is not None
    y = 10 * law.rvs((500, 6 * users), random_state=rng)
    stakes = np.array(measure.stakes[len(BETTING_FRACTIONS) :])

    wealth = [(np.log1p(s * (y / 2.0 - 1)) - math.log1p(s * 0.25)).cumsum(axis=1) for s in stakes]

    log_e = np.logaddexp.reduce(wealth) - math.log(len(stakes))
    assert_most_are_done(first_reached(log_e, LEVEL), users)


def test_what_is_relative_to_control_needs_users_by_its_base_and_share() -> None:
    found = certified(HANDOVER, (0.75, 0.25), level=0.1, base=0.05)

    assert (found.kind, found.limit) == ("rate ratio", 1.5)
    assert found.expected == pytest.approx(1.1)
    assert found.users == users_for_ratio(1.1, 1.5, 0.05, 0.25, 0.02)
    assert found.approximate


def test_a_mean_relative_to_control_is_measured_in_caps() -> None:
    found = certified(COST, level=0.0, base=0.02, sd=0.01)

    users = users_for_ratio(1.0, 1.2, 0.02, 0.5, 0.02, sd=0.01)
    assert users is not None
    assert found.users == users + 25  # half of the first epoch, min_batch = 50: no guesses yet, so no bets
    assert found.sd == 0.01


def test_a_decrease_relative_to_control_is_certified_from_above() -> None:
    found = certified({"metric": "kept", "kind": "binary", "max_decrease": 0.1}, level=0.0, base=0.5)

    assert found.side == "above"
    assert found.limit == pytest.approx(0.9)
    assert found.users == users_for_ratio(1.0, 0.9, 0.5, 0.5, 0.02, above=True)


def test_a_ratio_of_means_without_a_cap_has_the_variance_of_both_arms() -> None:
    uncapped = {"metric": "seconds", "kind": "numeric", "max_increase": 0.25}

    found = certified(uncapped, (2 / 3, 1 / 3), level=0.0, base=2.0, sd=4.0)

    # per user of the arm there are two of control: variance 16 (1 + 1.25²/2)
    assert found.users == users_for_mean(0.5, 16 * (1 + 1.25**2 / 2), 0.02, 10_000, 3.0)
    assert (found.base, found.sd) == (2.0, 4.0)
    plain = certified(uncapped)
    assert (plain.base, plain.sd) == (None, None)
    assert plain.users == certified(uncapped, level=0.0, base=7.0, sd=7.0).users


def test_a_mean_with_a_cap_is_certified_by_bets_and_without_by_the_confidence_sequence() -> None:
    capped = certified(SPEED | {"cap": 10.0}, level=1.5, sd=1.0)
    plain = certified(SPEED, level=1.9, sd=1.0)
    quick = certified(SPEED, level=1.5, sd=1.0)

    assert capped.users == users_for_bounded_mean(1.5, 1.0, 2.0, 10.0, 0.02)
    assert plain.users == users_for_mean(0.1, 1.0, 0.02, 5_000)  # half of the 10,000 users planned
    assert quick.users == 200  # fewer are not read
    assert capped.approximate
    assert plain.approximate


def test_every_number_that_was_not_given_is_named_with_what_was_taken() -> None:
    asked = with_guardrails(
        HARMFUL, LATENCY, SPEED, COST, HANDOVER, {"metric": "answered", "kind": "binary", "min": 0.9}
    )

    found = certifications(asked, (0.5, 0.5))

    assert [row.expected for row in found] == pytest.approx([0.005, 0.025, 1.6, 1.0, 1.0, 0.95])
    assert [len(row.assumed) for row in found] == [1, 1, 2, 3, 2, 1]
    assert [found[2].sd, found[3].base, found[4].base] == pytest.approx([1.6, 0.1, 0.1])
    assert all(words.endswith(("(--expect)", "(--base)", "(--sd-of)")) for row in found for words in row.assumed)
    assert all(row.users is not None for row in found)


def test_the_base_that_is_assumed_leaves_room_for_the_expected_ratio() -> None:
    found = certified({"metric": "x", "kind": "binary", "max_increase": 20.0}, level=9.0)

    assert found.base == pytest.approx(0.05)
    assert found.assumed == ("control's rate 0.05 (--base)",)


def test_so_near_to_a_relative_limit_that_no_bet_wins_is_said_to_be_so() -> None:
    """The mildest bet is on 0.03 standard units from the limit: from half-way on it loses."""
    found = certified({"metric": "x", "kind": "binary", "max_increase": 0.2}, level=0.19, base=0.1)

    assert found.users is None
    assert found.reason is not None
    assert "so near the limit" in found.reason


@pytest.mark.parametrize(
    ("guardrail", "given", "field", "words"),
    [
        (HARMFUL, {"level": 1.5}, "expect", "from 0 to 1"),
        (HARMFUL, {"level": math.nan}, "expect", "from 0 to 1"),
        (HARMFUL, {"base": 0.1}, "base", "relative to control"),
        (HARMFUL, {"sd": 0.1}, "sd-of", "does not depend"),
        (SPEED, {"level": -1.0}, "expect", "from 0 to 1e15"),
        (SPEED, {"sd": 0.0}, "sd-of", "above 0"),
        (COST, {"base": 2.0}, "base", "to 1"),
        (COST, {"sd": 0.0}, "sd-of", "above 0"),
        (HANDOVER, {"level": -1.5}, "expect", "from -1 on"),
        (HANDOVER, {"base": 1.0}, "base", "below 1"),
        (HANDOVER, {"base": 0.9, "level": 0.5}, "expect", "at most 1"),
        (P95_OF_CONTROL, {"level": -1.5}, "expect", "from -1 on"),
        (P95_OF_CONTROL, {"base": 1.0}, "base", "control's share of calls above 1200, above 0 and below 1"),
        (P95_OF_CONTROL, {"base": 0.9, "level": 0.5}, "expect", "at most 1"),
        (P95_OF_CONTROL, {"sd": 0.1}, "sd-of", "does not depend"),
        (COST, {"base": 0.9, "level": 0.5}, "expect", "at most 1"),
    ],
)
def test_an_expectation_that_cannot_be_is_refused_by_name(
    guardrail: dict[str, Any], given: dict[str, float], field: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        certified(guardrail, (0.5, 0.5), **given)

    assert [problem.field for problem in refusal.value.problems] == [field]
    assert words in refusal.value.problems[0].message
    assert repr(guardrail["metric"]) in refusal.value.problems[0].message


def test_every_fault_of_the_expectations_is_named_at_once() -> None:
    asked = with_guardrails(HARMFUL, SPEED)

    with pytest.raises(InvalidInput) as refusal:
        certifications(asked, (0.5, 0.5), Expectations({"harmfull": 0.1, "seconds": -1.0}, base={"harmful": 0.1}))

    assert [problem.field for problem in refusal.value.problems] == ["expect", "base", "expect"]
    assert "did you mean 'harmful'" in str(refusal.value)


def test_a_metric_with_two_limits_is_named_by_place() -> None:
    asked = with_guardrails(HARMFUL, HARMFUL | {"max": 0.05, "per_user": "mean"})

    with pytest.raises(InvalidInput, match=r"several limits; allowed: 'guardrails\[0\]', 'guardrails\[1\]'"):
        certifications(asked, (0.5, 0.5), Expectations({"harmful": 0.001}))

    found = certifications(asked, (0.5, 0.5), Expectations({"guardrails[1]": 0.02}))
    assert [row.expected for row in found] == [0.005, 0.02]


def test_one_guardrail_named_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"guardrails\[0\] twice"):
        certifications(with_guardrails(HARMFUL), (0.5, 0.5), Expectations({"harmful": 0.1, "guardrails[0]": 0.1}))


def test_an_expectation_without_guardrails_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has no guardrails"):
        certifications(make_experiment(), (0.5, 0.5), Expectations({"harmful": 0.1}))
