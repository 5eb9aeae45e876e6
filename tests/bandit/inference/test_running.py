"""The evidence of many runs, epoch by epoch, is that of each run's whole history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.generations import at_start
from bandit.history import History
from bandit.inference.breaches import breaches
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit
from bandit.inference.running import RunningBreaches
from bandit.ledger import Ledger
from bandit.measures import first_origin, measures_of
from tests.bandit.making import make_experiment

KINDS: dict[str, dict[str, Any]] = {
    "rate": {"kind": "binary", "max": 0.1},
    "rate of any": {"kind": "binary", "per_user": "any", "max": 0.2},
    "least rate": {"kind": "binary", "min": 0.9},
    "quantile": {"kind": "numeric", "quantile": 0.9, "max": 8.0},
    "mean": {"kind": "numeric", "max": 4.0},
    "capped mean": {"kind": "numeric", "max": 4.0, "cap": 20.0},
    "relative rate": {"kind": "binary", "max_increase": 0.2},
    "least relative rate": {"kind": "binary", "max_decrease": 0.1},
    "relative quantile": {"kind": "numeric", "quantile": 0.9, "max_increase": 0.3, "at": 6.0},
    "relative capped mean": {"kind": "numeric", "max_increase": 0.1, "cap": 30.0},
    "relative mean": {"kind": "numeric", "max_increase": 0.05},
    "least relative mean": {"kind": "numeric", "max_decrease": 0.05},
}
GUARDED = make_experiment(3, guardrails=[{"metric": name, **rail} for name, rail in KINDS.items()])
ORIGINS = [first_origin(GUARDED, index) for index in range(len(measures_of(GUARDED)))]
SEVERAL = [3.7 if origin is None else origin for origin in ORIGINS]
N_EPOCHS, SUSPENDED_AFTER = 40, 25


@dataclass(frozen=True)
class Run:
    """One run: probabilities, users and sums per epoch; arm 2 is suspended after `SUSPENDED_AFTER` epochs."""

    p: FloatArray
    assigned: IntArray
    sums: tuple[FloatArray, ...]

    def history(self, n_epochs: int) -> History:
        """Return the first epochs, as a run that goes on keeps them."""
        generations = list(at_start(GUARDED))
        if n_epochs > SUSPENDED_AFTER:
            last = SUSPENDED_AFTER
            generations[2] = replace(generations[2], last_epoch=last, closed_epochs=last, ended="suspended")
        ledger = Ledger(self.assigned, np.zeros_like(self.assigned), self.sums, tuple(SEVERAL)).upto(n_epochs)
        return History(ledger, n_epochs, self.p[:n_epochs], generations=tuple(generations))


def make_run(seed: int, users: int) -> Run:
    """Return a run of this many users an epoch: arm 1 a little, arm 2 clearly worse than control."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([4.0, 4.0, 4.0], N_EPOCHS)
    p[SUSPENDED_AFTER:, 2] = 0.0
    p /= p.sum(axis=1, keepdims=True)
    assigned = rng.multinomial(users, p)
    sums = []
    for measure, origin in zip(measures_of(GUARDED), SEVERAL, strict=True):
        rows = np.zeros((N_EPOCHS, 3, measure.width))
        for (epoch, arm), count in np.ndenumerate(assigned):
            if measure.kind == "binary":
                values = (
                    rng.random(count) < (0.93 - 0.06 * arm if "least" in measure.metric else 0.08 + 0.05 * arm)
                ) * 1.0
            else:
                values = np.array([measure.call(value) for value in rng.gamma(3.0, 1.2 + 0.15 * arm, count)])
            outcomes = np.minimum(values, np.inf if measure.cap is None else measure.cap)
            rows[epoch, arm] = np.sum([measure.transforms(y, origin) for y in outcomes], axis=0) if count else 0.0
        sums.append(rows)
    return Run(p, assigned, tuple(sums))


RUNS = [make_run(seed, 120) for seed in range(3)]


def feed(running: RunningBreaches, runs: list[Run], epoch: int) -> None:
    """Give one more epoch of these runs."""
    sums = [np.stack([run.sums[index][epoch] for run in runs]) for index in range(len(SEVERAL))]
    running.add(np.stack([r.p[epoch] for r in runs]), np.stack([r.assigned[epoch] for r in runs]), sums)


def test_every_kind_of_limit_has_the_evidence_of_its_whole_history_after_each_epoch() -> None:
    running = RunningBreaches(GUARDED, len(RUNS), SEVERAL)
    moved = np.zeros(len(KINDS) + 1, dtype=bool)

    for epoch in range(N_EPOCHS):
        feed(running, RUNS, epoch)
        log_e, feasible = running.log_e, running.feasible
        for place, run in enumerate(RUNS):
            expected = breaches(GUARDED, run.history(epoch + 1))
            np.testing.assert_allclose(log_e[place], expected.log_e, rtol=0.0, atol=1e-9)
            np.testing.assert_allclose(feasible[place], expected.feasible, rtol=1e-9, atol=1e-12)
            moved |= np.ptp(expected.log_e, axis=1) > 0.1

    assert moved[:-1].all()  # no kind of limit was silent
    assert not moved[-1]  # but the response, as everybody answers


def test_what_is_broken_is_what_the_evidence_says_in_spite_of_its_short_cuts() -> None:
    running = RunningBreaches(GUARDED, len(RUNS), SEVERAL)
    everybody = np.ones((len(RUNS), 3), dtype=bool)
    seen = []

    for epoch in range(N_EPOCHS):
        feed(running, RUNS, epoch)
        over = np.asarray((running.log_e >= running.threshold).any(axis=1))
        assert (running.broken(everybody) == over).all()
        seen.append(over)

    assert not seen[0].any()
    assert np.asarray(seen[-1])[:, 2].all()
    assert not running.broken(~everybody).any()


@pytest.mark.parametrize("above", [True, False])
def test_a_rate_breaks_its_limit_neither_sooner_nor_later_for_the_bound(above: bool) -> None:
    rail = {"metric": "harm", "kind": "binary"} | ({"max": 0.05} if above else {"min": 0.95})
    experiment, n_runs = make_experiment(guardrails=[rail]), 400
    running, rng = RunningBreaches(experiment, n_runs), np.random.default_rng(3)
    everybody, p = np.ones((n_runs, 2), dtype=bool), np.full((n_runs, 2), 0.5)
    first, expected = np.full(n_runs, 99), np.full(n_runs, 99)

    for epoch in range(40):
        users = rng.multinomial(200, p)
        harmed = rng.binomial(users, [0.05, 0.07])
        events = harmed if above else users - harmed
        running.add(p, users, [plain(users, users), plain(users, events)])
        first = np.where(running.broken(everybody)[:, 1], np.minimum(first, epoch), first)
        expected = np.where(running.log_e[:, 0, 1] >= running.threshold, np.minimum(expected, epoch), expected)

    assert (first == expected).all()
    assert 0.5 < (first < 99).mean() < 1.0


def plain(users: IntArray, events: IntArray) -> FloatArray:
    """Return ledger rows of a binary measure."""
    return np.stack([users, events, events, events], axis=-1).astype(np.float64)


def test_the_bound_is_one() -> None:
    from bandit.inference.running import _most_log_e  # noqa: PLC0415 (the claim of the docstring)

    n = np.array([0.0, 1.0, 7.0, 60.0, 5_000.0])[:, np.newaxis]
    s = n * np.linspace(0.0, 1.0, 60)
    for limit in (0.01, 0.2, 0.9):
        assert (log_e_above_limit(n + 0.0 * s, s, limit) <= _most_log_e(s, n - s, limit) + 1e-9).all()
        assert (log_e_below_limit(n + 0.0 * s, s, limit) <= _most_log_e(n - s, s, 1.0 - limit) + 1e-9).all()


def test_runs_that_end_leave_the_others_as_they_are() -> None:
    both, alone = RunningBreaches(GUARDED, len(RUNS), SEVERAL), RunningBreaches(GUARDED, 1, SEVERAL)
    kept: BoolArray = np.array([False, True, False])

    for epoch in range(30):
        feed(both, RUNS if epoch < 12 else [RUNS[1]], epoch)
        feed(alone, [RUNS[1]], epoch)
        if epoch == 11:
            both.keep(kept)

    np.testing.assert_array_equal(both.log_e, alone.log_e)
    np.testing.assert_array_equal(both.feasible, alone.feasible)


def test_a_measure_that_is_not_looked_at_says_nothing() -> None:
    running = RunningBreaches(GUARDED, 1, SEVERAL)
    goal = RUNS[0].sums[0]

    for epoch in range(N_EPOCHS):
        sums = [goal[epoch][np.newaxis], *[None] * len(KINDS)]
        running.add(RUNS[0].p[[epoch]], RUNS[0].assigned[[epoch]], sums)

    assert (running.log_e[:, :-1] == 0.0).all()
    assert (running.feasible == 1.0).all()
    assert not running.broken(np.ones((1, 3), dtype=bool)).any()
