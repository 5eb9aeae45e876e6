from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bandit.arrays import FloatArray
from bandit.inference import bounded, label
from bandit.inference.exact import log_e_higher, log_e_lower
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed
from tests.simulations.making import Z


def observed(p: FloatArray, n: FloatArray, z: FloatArray, z2: FloatArray, top: float = 1.0) -> Observed:
    return Observed(p, n, z, z2, np.zeros_like(z), 0.0, (0.0, top), exact=True, fractional=True)


def drawn(
    rng: np.random.Generator, means: tuple[float, float], pi: float, shape: tuple[int, int], batch: int, spread: float
) -> Observed:
    """Return Beta outcomes of these means, of spread × the variance that 0 and 1 would have."""
    users = rng.binomial(batch, pi, shape)
    n = np.stack([batch - users, users], axis=-1).astype(np.float64)
    p = np.broadcast_to(np.array([1.0 - pi, pi]), n.shape)
    weight = 1.0 / spread - 1.0
    sums = np.zeros((2, *n.shape))
    for arm, mean in enumerate(means):
        y = rng.beta(mean * weight, (1.0 - mean) * weight, (*shape, batch)) * (
            np.arange(batch) < n[..., arm, np.newaxis]
        )
        sums[:, ..., arm] = y.sum(axis=-1), (y * y).sum(axis=-1)
    return observed(p, n, *sums)


def test_the_wealth_is_that_of_the_bets_user_by_user() -> None:
    rng, ratio, top = np.random.default_rng(1), 1.2, 4.0
    p = np.array([[0.5, 0.5], [0.3, 0.7], [0.8, 0.2]])
    users = [[(int(rng.random() < share[1]), float(rng.uniform(0, top))) for _ in range(30)] for share in p]
    n, z, z2 = (np.zeros((3, 2)) for _ in range(3))
    for epoch, those in enumerate(users):
        for arm, y in those:
            n[epoch, arm] += 1
            z[epoch, arm] += y
            z2[epoch, arm] += y * y

    for side, found in (
        (1.0, bounded.log_wealths_above(observed(p, n, z, z2, top), 0, ratio)),
        (-1.0, bounded.log_wealths_below(observed(p, n, z, z2, top), 0, ratio)),
    ):
        for place, stake in enumerate(bounded.STAKES):
            log_wealth, seen = 0.0, [[0.0, 0.0], [0.0, 0.0]]
            for epoch, those in enumerate(users):
                guess = [(s + 0.05) / (m + 0.1) for m, s in seen]
                pi = p[epoch, 1]
                fixed = pi * (1 - pi) * (guess[1] - ratio * guess[0])
                corners = [
                    side * ((1 - pi) * (y - guess[1]) if arm else -ratio * pi * (y - guess[0])) + side * fixed
                    for arm, y in itertools.product((0, 1), (0.0, 1.0))
                ]
                for arm, y in those:
                    score = (1 - pi) * (y / top - guess[1]) if arm else -ratio * pi * (y / top - guess[0])
                    x = side * (score + fixed) / -min(corners)
                    if epoch:
                        log_wealth += stake * x + (math.log(1 - stake) + stake) * x * x
                for arm, y in those:
                    seen[arm][0] += 1
                    seen[arm][1] += y / top
            assert found[place, -1, 1] == pytest.approx(log_wealth, abs=1e-9)


@pytest.mark.parametrize("ratio", [1.0, 1.3, 0.7])
@pytest.mark.parametrize("pi", [0.05, 0.5, 0.9])
def test_no_bet_gains_on_average_where_the_hypothesis_holds(pi: float, ratio: float) -> None:
    """E[exp(λx − ψx²)] over four kinds of outcome, exactly, for guesses and means all over the unit square."""
    outcomes = {
        "0 or 1": lambda m: [(0.0, 1 - m), (1.0, m)],
        "all alike": lambda m: [(m, 1.0)],
        "in the middle": lambda m: [(0.5 * m, 0.5), (min(1.5 * m, 1.0), 0.5 if 1.5 * m <= 1 else 0.0)],
        "seldom 1": lambda m: [(0.9 * m, 1 - 0.1 * m / (1 - 0.9 * m)), (1.0, 0.1 * m / (1 - 0.9 * m))],
    }
    grid = (0.01, 0.2, 0.5, 0.8, 0.99)
    for guess, guess_c, mean_c, law in itertools.product(grid, grid, grid, outcomes.values()):
        mean = min(ratio * mean_c, 0.999)
        if abs(sum(chance for _, chance in law(mean)) - 1) > 1e-9 or abs(sum(c for _, c in law(mean_c)) - 1) > 1e-9:
            continue
        fixed = pi * (1 - pi) * (guess - ratio * guess_c)
        bound = max((1 - pi) * guess, ratio * pi * (1 - guess_c)) - fixed
        every = [(pi * chance, (1 - pi) * (y - guess) + fixed) for y, chance in law(mean)]
        every += [((1 - pi) * chance, -ratio * pi * (y - guess_c) + fixed) for y, chance in law(mean_c)]
        assert min(score for _, score in every) / bound >= -1 - 1e-12
        for stake in bounded.STAKES:
            psi = math.log(1 - stake) + stake
            gain = sum(chance * math.exp(stake * s / bound + psi * (s / bound) ** 2) for chance, s in every)
            assert gain <= 1 + 1e-12


def test_it_errs_within_its_level_at_all_looks_and_under_drift() -> None:
    rng, level, runs = np.random.default_rng(2), 0.05, 2000
    for spread, pi in ((0.02, 0.5), (0.2, 0.1), (0.9, 0.5)):
        data = drawn(rng, (0.4, 0.4), pi, (runs, 30), 60, spread)
        wealth = log_mean(bounded.log_wealths_above(data, 0))[..., 1]
        errors = (wealth.max(axis=-1) >= -math.log(level)).mean()
        assert errors <= level + Z * math.sqrt(level * (1 - level) / runs)


def test_where_users_vary_little_it_needs_a_fraction_of_the_users() -> None:
    """Ratings from 1 to 5 about 4 with a standard deviation of 0.8, as shares: 0.75, spread 0.2."""
    data = drawn(np.random.default_rng(3), (0.75, 0.775), 0.5, (100, 60), 200, 0.2)
    threshold = math.log(50.0)

    def median_users(log_e: FloatArray) -> float:
        there = log_e[..., 1] >= threshold
        return float(np.median(np.where(there.any(axis=1), there.argmax(axis=1) + 1, 61))) * 200

    exact, only_label = median_users(log_e_higher(data, 0)), median_users(label.log_e_higher(data, 0))
    assert exact < 0.45 * only_label
    assert median_users(log_e_lower(data, 0)) > 12_000  # never


def test_rates_are_left_to_the_label() -> None:
    n = np.full((4, 2), 50.0)
    s = np.array([[10.0, 20.0]] * 4)
    rates = Observed(np.full((4, 2), 0.5), n, s, s, s, 0.0, (0.0, 1.0), exact=True)

    assert np.array_equal(log_e_higher(rates, 0), label.log_e_higher(rates, 0))
