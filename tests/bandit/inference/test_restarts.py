"""Restarted mixtures against their definition, written out user by user, and their exact mean at the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.arrays import FloatArray, IntArray
from bandit.inference.breaches import log_e_of_bets
from bandit.inference.rate_limit import log_e_above_limit
from bandit.inference.restarts import FEWEST, GROWTH, LogE, log_e_restarted, next_start, starts

LIMIT = 0.2


def log_e_rate(sums: FloatArray) -> FloatArray:
    return log_e_above_limit(sums[..., 0], sums[..., 1], LIMIT)


def restarted(log_e: LogE, rows: FloatArray, at: IntArray) -> float:
    """ln E of one arm from rows per epoch, shape (n_epochs, width)."""
    since = np.cumsum(rows[::-1], axis=0)[::-1][at]
    return float(log_e_restarted(log_e, since, np.array(len(at))))


def by_loop(log_e: LogE, rows: FloatArray, at: IntArray) -> float:
    """The same, one start after the other."""
    n = len(at)
    e = sum(math.exp(float(log_e(rows[start:].sum(axis=0)))) / (j * (j + 1)) for j, start in enumerate(at, start=1))
    return math.log(e + 1.0 / (n + 1))


def starts_by_definition(assigned: FloatArray, first: int) -> list[int]:
    """Walk through the epochs and start whenever the arm has grown enough since the last start."""
    found: list[int] = []
    users, due = 0.0, 0.0
    for epoch in range(first, len(assigned)):
        if users >= due:
            found.append(epoch)
            due = users + max(500.0, 0.1 * users)
        users += assigned[epoch]
    return found


def test_an_arm_starts_again_after_500_users_or_a_tenth_of_what_it_has() -> None:
    assert (FEWEST, GROWTH) == (500.0, 0.1)
    assert next_start(np.array([0.0, 4_000.0, 5_000.0, 80_000.0])).tolist() == [500.0, 4_500.0, 5_500.0, 88_000.0]


@given(
    users=st.lists(st.integers(0, 900) | st.sampled_from([0, 499, 500, 501]), min_size=1, max_size=60),
    first=st.integers(0, 5),
)
def test_starts_are_the_first_epochs_after_growth_enough(users: list[int], first: int) -> None:
    assigned = np.array(users, dtype=np.float64)

    assert starts(assigned, first).tolist() == starts_by_definition(assigned, first)


def test_the_first_start_is_that_of_the_generation_whatever_was_before() -> None:
    assigned = np.array([800.0, 800.0, 300.0, 300.0, 100.0])

    assert starts(assigned, 0).tolist() == [0, 1, 2, 4]
    assert starts(assigned, 2).tolist() == [2, 4]
    assert starts(assigned, 5).tolist() == []


def test_starts_depend_on_earlier_users_alone() -> None:
    rng = np.random.default_rng(1)
    assigned = rng.integers(0, 400, 80).astype(np.float64)
    whole = starts(assigned, 3)

    for upto in range(4, 80):
        assert starts(assigned[:upto], 3).tolist() == whole[whole < upto].tolist()


def test_the_number_of_starts_grows_with_the_logarithm_of_the_users() -> None:
    few, many = (len(starts(np.full(n, 50.0), 0)) for n in (2_000, 200_000))  # 100,000 and 10,000,000 users

    assert few == pytest.approx(10 + math.log(20.0) / math.log(1.1), abs=2)
    assert many - few == pytest.approx(math.log(100.0) / math.log(1.1), abs=2)


@pytest.mark.parametrize("seed", range(20))
def test_the_mixture_is_the_sum_written_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 300, 30)
    rows = np.stack([n, rng.binomial(n, rng.choice([0.1, 0.2, 0.3]))], axis=-1).astype(np.float64)
    bets = rng.normal(0.0, 2.0, (30, 5))
    at = starts(rows[:, 0], int(rng.integers(0, 3)))

    assert restarted(log_e_rate, rows, at) == pytest.approx(by_loop(log_e_rate, rows, at), abs=1e-12)
    assert restarted(log_e_of_bets, bets, at) == pytest.approx(by_loop(log_e_of_bets, bets, at), abs=1e-12)


def test_arms_with_other_numbers_of_starts_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(1)
    n = rng.integers(0, 300, (30, 3)) * np.array([1, 3, 0])
    rows = np.stack([n, rng.binomial(n, 0.25)], axis=-1).astype(np.float64)
    own = [starts(rows[:, arm, 0], arm) for arm in range(3)]
    most = max(map(len, own))
    since = np.full((most, 3, 2), 3.0)  # what is beyond an arm's own starts means nothing
    for arm, at in enumerate(own):
        since[: len(at), arm] = np.cumsum(rows[::-1, arm], axis=0)[::-1][at]

    together = log_e_restarted(log_e_rate, since, np.array([len(at) for at in own]))

    alone = [by_loop(log_e_rate, rows[:, arm], at) for arm, at in enumerate(own)]
    assert together.tolist() == pytest.approx(alone, abs=1e-12)
    assert len({len(at) for at in own}) == 3


def test_before_the_first_user_and_before_the_first_start_e_is_one() -> None:
    nobody = np.zeros((4, 2))

    assert restarted(log_e_rate, nobody, np.array([0, 2])) == pytest.approx(0.0, abs=1e-15)
    assert restarted(log_e_rate, nobody, np.array([], dtype=np.int64)) == 0.0


def test_a_start_without_users_yet_changes_nothing() -> None:
    rows = np.array([[500.0, 130.0], [0.0, 0.0]])

    assert restarted(log_e_rate, rows, np.array([0, 1])) == pytest.approx(
        restarted(log_e_rate, rows[:1], np.array([0])), abs=1e-12
    )


def mean_at(rate: float, sizes: list[int], *, growth: int) -> float:
    """Exact mean of E over all numbers of events in some epochs; a start after every `growth` users."""
    at = [0]
    before = np.cumsum([0, *sizes])
    for epoch in range(1, len(sizes)):
        if before[epoch] >= before[at[-1]] + growth:
            at.append(epoch)
    counts = np.stack(np.meshgrid(*[np.arange(size + 1.0) for size in sizes], indexing="ij"), axis=-1)
    chance = np.prod([stats.binom.pmf(counts[..., k], size, rate) for k, size in enumerate(sizes)], axis=0)
    rows = np.stack(np.broadcast_arrays(np.array(sizes, dtype=np.float64), counts), axis=-1)
    since = np.stack([rows[..., start:, :].sum(axis=-2) for start in at])
    e = np.exp(log_e_restarted(log_e_rate, since, np.full(counts.shape[:-1], len(at))))
    return float((chance * e).sum())


@pytest.mark.parametrize("sizes", [[3], [4, 5], [3, 3, 3, 3], [6, 2, 5, 4]])
@pytest.mark.parametrize("growth", [1, 5])
def test_the_exact_mean_at_the_limit_is_one_and_less_below(sizes: list[int], growth: int) -> None:
    assert mean_at(LIMIT, sizes, growth=growth) == pytest.approx(1.0, abs=1e-12)
    assert mean_at(0.5 * LIMIT, sizes, growth=growth) < 1.0
    assert mean_at(1.5 * LIMIT, sizes, growth=growth) > 1.0


def test_a_good_past_does_not_pay_for_a_bad_present() -> None:
    good, bad = np.tile([100.0, 10.0], (100, 1)), np.tile([100.0, 40.0], (8, 1))
    rows = np.concatenate([good, bad])
    at = starts(rows[:, 0], 0)

    assert restarted(log_e_rate, rows, at) > math.log(200.0)
    assert restarted(log_e_rate, rows, at[:1]) < 0.0


def test_being_ready_costs_no_more_than_the_weight_of_the_start() -> None:
    rng = np.random.default_rng(1)
    n = np.full(40, 200)
    rows = np.stack([n, rng.binomial(n, 0.3)], axis=-1).astype(np.float64)
    at = starts(rows[:, 0], 0)
    mixed = restarted(log_e_rate, rows, at)

    for j, start in enumerate(at, start=1):
        assert mixed >= float(log_e_rate(rows[start:].sum(axis=0))) - math.log(j * (j + 1))


def test_large_evidence_does_not_overflow() -> None:
    bets = np.full((3, 2), 2_000.0)
    at = np.arange(3)

    found = restarted(log_e_of_bets, bets, at)

    assert found == pytest.approx(6_000.0 - math.log(2.0), abs=1e-9)
    assert log_e_restarted(log_e_of_bets, np.zeros((0, 1, 2)), np.array([0])).tolist() == [0.0]
