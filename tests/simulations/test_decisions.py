"""When runs are decided is what the report would have said at every closing of an epoch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bandit.report.build import build_report
from simulations.decisions import decisions
from simulations.records import Tape
from simulations.runner import run_epochs
from simulations.worlds import World
from tests.simulations.making import make_world

RUNS = 8


def taped(world: World, users: int, runs: int = RUNS, seed: int = 3) -> Tape:
    tape = Tape()
    horizons = np.full(runs, users, dtype=np.int64)
    run_epochs(world.experiment, world.phases(), horizons, np.random.SeedSequence(seed), tape=tape)
    return tape


def by_report(world: World, tape: Tape, run: int) -> tuple[float, set[str]]:
    """Users until the report says what to do with the experiment, and which variants it would deploy."""
    record = tape.record
    for epoch in range(1, len(record.ends) + 1):
        upto = slice(None, epoch)
        seen = replace(
            record, ends=record.ends[upto], p=record.p[:, upto], assigned=record.assigned[:, upto],
            sums=record.sums[:, upto],
        )  # fmt: skip
        report = build_report(world.experiment, seen.history(run), "running")
        verdicts = {each.key: each.decision.verdict for each in report.variants if each.decision is not None}
        good = {key for key, verdict in verdicts.items() if verdict == "deploy"}
        if good or all(verdict == "do_not_deploy" for verdict in verdicts.values()):
            return float(record.ends[epoch - 1]), good
    return math.inf, set()


@pytest.mark.parametrize(
    ("laws", "goal", "users"),
    [
        ([0.3, 0.4], {}, 3_000),
        ([0.4, 0.3], {}, 3_000),
        ([0.3, 0.3, 0.42], {}, 3_000),
        ([0.3, 0.2], {"better": "lower"}, 3_000),
        ([0.5, 0.5], {"mde": 0.3}, 4_000),
        ([{"mean": 5.0, "sd": 2.0}, {"mean": 5.6, "sd": 2.0}], {"kind": "numeric", "baseline": None}, 3_000),
        ([{"mean": 5.0, "sd": 2.0}, {"mean": 4.4, "sd": 2.0}], {"kind": "numeric", "baseline": None}, 3_000),
    ],
)  # fmt: skip
def test_decisions_are_those_of_the_report(laws: list[object], goal: dict[str, Any], users: int) -> None:
    declared = {key: value for key, value in goal.items() if value is not None}
    world = make_world(laws, goal=declared, policy={"min_batch": 100, "growth": 0.1}, analysis={"min_days": 0})
    tape = taped(world, users)

    found = decisions(world.experiment, tape)

    arms = np.array(world.experiment.arms)
    for run in range(RUNS):
        assert (found.users[run], set(arms[found.better[run]])) == by_report(world, tape, run)
    assert np.isfinite(found.users).any()


def test_where_nothing_differs_a_decision_for_a_variant_is_rare() -> None:
    """At most alpha/2 of the runs deploy a variant that is no better; 1,000 runs of 5,000 users."""
    world = make_world([0.3, 0.3, 0.3])
    tape = taped(world, 5_000, 1_000)
    found = decisions(world.experiment, tape)
    deployed = found.better.any(axis=-1).mean()
    assert deployed <= 0.025 + 3.0 * (0.025 * 0.975 / 1_000) ** 0.5


def test_suspended_variants_are_out() -> None:
    world = make_world([0.3, 0.4])
    tape = taped(world, 2_000)
    tape.suspended = [np.ones_like(each) & np.array([False, True]) for each in tape.suspended]
    found = decisions(world.experiment, tape)
    assert (found.users == tape.ends[0]).all()
    assert not found.better.any()
