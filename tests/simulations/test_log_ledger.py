"""A log of what a bandit did gives the sums that the bandit itself has."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit import Bandit, Experiment
from bandit.arrays import FloatArray, IntArray
from bandit.history import History
from simulations.logs.ledger import history_of
from simulations.logs.log import Log, read_log
from simulations.logs.users import Users, users_of
from simulations.runner import run_users
from tests.bandit.making import Clock, make_experiment

WINDOW = 1800.0
GUARDRAILS = [
    {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
    {"metric": "cost_usd", "kind": "numeric", "max": 0.5, "cap": 2.0},
    {"metric": "failed", "kind": "binary", "max": 0.1},
]
GOALS: dict[str, dict[str, Any]] = {
    "binary": {"metric": "y", "kind": "binary", "per_user": "mean"},
    "any": {"metric": "y", "kind": "binary", "per_user": "any"},
    "numeric": {"metric": "y", "kind": "numeric", "per_user": "mean"},
    "first": {"metric": "y", "kind": "numeric", "per_user": "first"},
    "sum": {"metric": "y", "kind": "numeric", "per_user": "sum"},
}


@dataclass(frozen=True)
class Past:
    bandit: Bandit
    rows: list[dict[str, object]]


def past(experiment: Experiment, users: int, seed: int, *, each: bool) -> Past:
    """Run a bandit under a clock; users answer up to four times, some too late, some calls fail."""
    rng, clock, rows = np.random.default_rng(seed), Clock(), []
    bandit = Bandit(experiment, clock=clock)
    coming = np.cumsum(rng.exponential(40.0, users))
    events = [(float(at), f"u{i}", False) for i, at in enumerate(coming)]
    for i, at in enumerate(coming):
        delays = rng.exponential(900.0, rng.integers(0, 5))
        events += [(float(at + delay), f"u{i}", True) for delay in delays]
    for at, user, answers in sorted(events):
        clock.now = 1000.0 + at
        given_ = bandit.choose(user)
        row: dict[str, object] = {"user_id": user, "variant": given_.variant, "time": clock.now}
        if answers:
            metrics, failed = answer(rng, experiment.goal.kind), bool(rng.random() < 0.1)
            bandit.reward(user, metrics, failed=failed)
            row |= metrics | {"failed": failed}
        else:
            assert given_.epoch is not None
            p = bandit.epochs[given_.epoch - 1].allocation.probabilities
            of_arm = {f"propensity.{key}": share for key, share in zip(experiment.arms, p, strict=True)}
            row |= {"epoch": given_.epoch} | (of_arm if each else {"propensity": given_.propensity})
        rows.append(row)
    bandit.tick()
    return Past(bandit, rows)


def answer(rng: np.random.Generator, kind: str) -> dict[str, object]:
    """Return some of the metrics."""
    y: object = bool(rng.random() < 0.4) if kind == "binary" else round(float(rng.normal(3.0, 1.0)), 3)
    every = {"y": y, "latency_ms": float(rng.lognormal(6.8, 0.5)), "cost_usd": float(rng.exponential(0.4))}
    kept = {name: value for name, value in every.items() if rng.random() < 0.8}
    return kept or {"y": y}


def written(
    rows: list[dict[str, object]], experiment: Experiment, window: float | None = None
) -> tuple[Users, History]:
    """Write rows as JSONL and read them back."""
    log = reread(rows)
    users = users_of(log, experiment.arms, None, window)
    return users, history_of(log, users, experiment, window)


def reread(rows: list[dict[str, object]]) -> Log:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return read_log(path)


def by_declared(values: FloatArray | IntArray, users: Users, history: History) -> FloatArray | IntArray:
    """Add what the cuts inside an epoch have taken apart."""
    first = np.searchsorted(np.cumsum(history.users) - history.users, users.stretches.starts)
    return np.asarray(np.add.reduceat(values, first, axis=0))


@settings(max_examples=15)
@given(st.sampled_from(sorted(GOALS)), st.integers(0, 10**6), st.integers(2, 3))
def test_a_bandit_and_the_log_of_it_have_the_same_sums_in_whatever_order_the_rows_are(
    goal: str, seed: int, arms: int
) -> None:
    policy = {"min_batch": 10, "growth": 0.3, "warmup": 0}
    experiment = make_experiment(
        arms, goal=GOALS[goal], guardrails=GUARDRAILS, policy=policy, rewards={"window": "30m"}
    )
    run = past(experiment, 120, seed, each=arms > 2)
    shuffled = [run.rows[i] for i in np.random.default_rng(seed).permutation(len(run.rows))]

    users, history = written(shuffled, experiment, WINDOW)

    ledger = run.bandit.ledger
    used = ledger.assigned.sum(axis=1) > 0
    assert by_declared(history.ledger.assigned, users, history).tolist() == ledger.assigned[used].tolist()
    for found, expected in zip(history.ledger.sums, ledger.sums, strict=True):
        assert by_declared(found, users, history) == pytest.approx(expected[used], rel=1e-9, abs=1e-9)
    assert history.ledger.origins == ledger.origins
    assert history.probabilities is not None
    probabilities = run.bandit.history.probabilities
    assert probabilities is not None
    of_users = np.repeat(history.probabilities, history.users.astype(int), axis=0)
    assert of_users == pytest.approx(np.repeat(probabilities, ledger.assigned.sum(axis=1), axis=0), abs=1e-12)


def test_users_whose_window_has_not_ended_at_the_last_time_are_in_open_epochs() -> None:
    experiment = make_experiment(goal=GOALS["binary"], guardrails=GUARDRAILS, rewards={"window": "30m"})
    run = past(experiment, 200, 3, each=False)
    rows = run.rows[:400]

    _, history = written(rows[::-1], experiment, WINDOW)

    starts = [float(str(row["time"])) for row in rows if "epoch" in row]
    ended = sum(start + WINDOW < float(str(rows[-1]["time"])) for start in starts)
    assert 0 < ended < len(starts)
    assert (history.closed.users.sum(), history.users.sum()) == (ended, len(starts))


def test_a_run_without_a_clock_gives_the_same_epochs_one_by_one() -> None:
    experiment = make_experiment()
    bandit, rng = Bandit(experiment), np.random.default_rng(5)
    chance = {"A": 0.3, "B": 0.5}
    records = run_users(
        bandit, [f"u{i}" for i in range(2000)], lambda _, arm: {"resolved": float(rng.random() < chance[arm])}
    )
    rows: list[dict[str, object]] = [
        {"user_id": r.user_id, "variant": r.arm, "propensity": r.propensity, "epoch": r.epoch, **r.outcomes}
        for r in records
    ]

    _, history = written(rows, experiment)

    expected = bandit.history
    assert history.ledger.assigned.tolist() == expected.ledger.assigned.tolist()
    assert history.ledger.sums[0] == pytest.approx(expected.ledger.sums[0])
    assert history.probabilities == pytest.approx(expected.probabilities, abs=1e-12)
    assert len(history.users) > 20


def test_without_epochs_and_with_two_variants_times_and_propensities_say_the_same() -> None:
    experiment = make_experiment()
    bandit, rng = Bandit(experiment), np.random.default_rng(6)
    records = run_users(bandit, [f"u{i}" for i in range(1500)], lambda *_: {"resolved": float(rng.random() < 0.3)})
    rows: list[dict[str, object]] = [
        {"user_id": r.user_id, "variant": r.arm, "propensity": r.propensity, "time": at, **r.outcomes}
        for at, r in enumerate(records)
    ]

    _, history = written([rows[i] for i in rng.permutation(len(rows))], experiment)

    probabilities = bandit.history.probabilities
    assert probabilities is not None
    assert history.probabilities is not None
    of_users = np.repeat(history.probabilities, history.users.astype(int), axis=0)
    expected = np.repeat(probabilities, bandit.ledger.assigned.sum(axis=1), axis=0)
    assert of_users == pytest.approx(expected, abs=1e-9)
    assert history.ledger.sums[0].sum(axis=0) == pytest.approx(bandit.ledger.sums[0].sum(axis=0))


def test_epochs_that_overlap_in_time_begin_one_after_the_other() -> None:
    rows: list[dict[str, object]] = [
        {"user_id": f"u{i}", "variant": "AB"[i // 2 % 2], "propensity": 0.5, "epoch": i % 2, "time": i, "resolved": 1}
        for i in range(400)
    ]

    _, history = written(rows, make_experiment())

    assert history.started_at is not None
    assert history.started_at.tolist() == sorted(history.started_at.tolist())
    assert history.started_at[0] == 0.0


def rows_of(*rows: tuple[str, str, float, object]) -> list[dict[str, object]]:
    return [
        {"user_id": user, "variant": variant, "time": time, "resolved": value} for user, variant, time, value in rows
    ]


def test_rows_of_another_variant_and_rows_after_the_window_are_counted_and_left_out() -> None:
    experiment = make_experiment()
    rows = rows_of(
        ("u1", "A", 0.0, 1), ("u1", "B", 10.0, 0), ("u1", "A", 5000.0, 0), ("u2", "B", 20.0, 0), ("u3", "B", 30.0, 1),
    )  # fmt: skip

    users, history = written(rows, experiment, 3600.0)

    assert (users.strays, users.stray_rows, users.late_rows) == (1, 1, 1)
    assert history.ledger.sums[0].sum(axis=0)[:, :2].tolist() == [[1.0, 1.0], [2.0, 1.0]]


def test_a_value_at_the_very_end_of_the_window_counts() -> None:
    rows = rows_of(("u1", "A", 0.0, None), ("u1", "A", 3600.0, 1), ("u2", "B", 0.0, None), ("u2", "B", 3600.5, 1))

    users, history = written(rows, make_experiment(), 3600.0)

    assert users.late_rows == 1
    assert history.ledger.sums[0].sum(axis=0)[:, 0].tolist() == [1.0, 0.0]


def test_a_users_variant_is_that_of_the_first_row_in_time_not_in_the_file() -> None:
    rows = rows_of(("u1", "B", 50.0, 0), ("u1", "A", 10.0, 1), ("u2", "B", 0.0, 0), ("u3", "A", 0.0, 0))

    users, history = written(rows, make_experiment())

    assert history.ledger.assigned.sum(axis=0).tolist() == [2, 1]
    assert users.stray_rows == 1


def test_rows_without_users_are_units_of_their_own() -> None:
    rows: list[dict[str, object]] = [{"variant": v, "resolved": 1} for v in "AAB"]

    _, history = written(rows, make_experiment())

    assert (history.unit, history.ledger.assigned.sum(axis=0).tolist()) == ("row", [2, 1])


def test_the_order_of_rows_without_times_says_nothing() -> None:
    """Files are often sorted by variant: users come in the order of a hash instead."""
    rows: list[dict[str, object]] = [
        {"user_id": f"{v}{i}", "variant": v, "resolved": int(i % 3 == 0)} for v in "AB" for i in range(300)
    ]
    experiment = make_experiment()

    users, history = written(rows, experiment)
    _, turned = written(rows[::-1], experiment)

    assert not users.ordered
    assert history.ledger.assigned.tolist() == turned.ledger.assigned.tolist()
    assert history.ledger.assigned[:6].min() > 5  # both variants from the first epoch on
