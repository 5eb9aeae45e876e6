"""Rehearsals: users come by the calendar, and the engine serves them as the service would."""

from __future__ import annotations

import json
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bandit.errors import InvalidInput
from simulations.calendar import DAY, Calendar, visits
from simulations.commands import app
from simulations.rehearsals.result import Rehearsal, rehearsal
from simulations.rehearsals.run import Task, rehearse, would_answer
from simulations.rehearsals.text import rehearsal_parts
from simulations.runner import run_epochs
from simulations.scores import score
from simulations.sweeps.executors import cores
from simulations.sweeps.run import world_name
from simulations.world_files import parse_world
from simulations.worlds import World
from tests.bandit.making import make_experiment
from tests.simulations.making import Z
from tests.simulations.test_sweeps import Here

RAILS = [{"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}]


def world_of(
    rates: dict[str, float], *, answers: dict[str, Any] | None = None, harm: float | None = None, days: float = 4,
    users: float = 300, changes: list[dict[str, Any]] | None = None, **parts: Any,  # noqa: ANN401 - of the experiment
) -> World:  # fmt: skip
    rails = [] if harm is None else RAILS
    asked = make_experiment(len(rates), guardrails=rails, **parts)
    laws: dict[str, dict[str, float]] = {arm: {"resolved": rate} for arm, rate in rates.items()}
    for arm in laws if harm is not None else ():
        laws[arm]["harmful"] = (harm or 0.0) if arm == "B" else 0.001
    document: dict[str, Any] = {"variants": laws, "arrivals": {"users_per_day": users, "days": days}}
    document |= {} if answers is None else {"answers": answers}
    return parse_world(asked, document | {"changes": changes or []})


def measured(
    world: World, *policies: str, runs: int = 10, seed: int = 1, executor: Executor | None = None
) -> Rehearsal:
    return rehearsal(world, policies, replications=runs, seed=seed, executor=executor or Here())


# The calendar


def test_users_come_by_the_weekday() -> None:
    calendar = Calendar(1_000.0, 14.5, (1.0, 1.0, 1.0, 1.0, 2.0, 0.5, 0.0))
    found = [visits(calendar, np.random.default_rng(seed)) for seed in range(40)]
    each = np.array([np.bincount((one.at // DAY).astype(int), minlength=15) for one in found])
    expected = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 0.5, 0.0] * 2 + [0.5]) * 1_000.0
    assert (abs(each.mean(axis=0) - expected) <= Z * np.sqrt(expected / 40)).all()
    assert each[:, 0].var() == pytest.approx(1_000.0, rel=0.6)  # Poisson, not a fixed number
    assert calendar.users == 2 * 6_500 + 500
    for one in found:
        assert (np.diff(one.at) >= 0.0).all()
        assert one.at.max() < 14.5 * DAY
        assert (one.first == 1.0).all()
        assert (one.user == np.arange(len(one.user))).all()


def test_users_come_again_after_their_first_visit() -> None:
    calendar = Calendar(3_000.0, 40.0, returns=0.5, gap=3_600.0)
    found = visits(calendar, np.random.default_rng(1))
    n = int(found.first.sum())
    assert (np.unique(found.user) == np.arange(n)).all()
    per_user = np.bincount(found.user)
    assert per_user.mean() == pytest.approx(1.5, abs=0.02)  # a few fall beyond the end
    assert per_user.var() == pytest.approx(0.5 * 1.5, rel=0.1)  # geometric
    firsts = found.at[found.first > 0]
    again = found.first == 0
    after = found.at[again] - firsts[found.user[again]]
    assert (after > 0.0).all()
    second = np.full(n, np.inf)
    np.minimum.at(second, found.user[again], after)
    assert second[np.isfinite(second)].mean() == pytest.approx(3_600.0, rel=0.05)


@pytest.mark.parametrize(
    ("arrivals", "answers", "field", "words"),
    [
        (None, {"delay": "1h"}, "answers", "add [arrivals]"),
        ({}, None, "arrivals.users_per_day", "missing"),
        ({"users_per_day": 0}, None, "arrivals.users_per_day", "above 0"),
        ({"users_per_day": float("inf")}, None, "arrivals.users_per_day", "allowed"),
        ({"users_per_day": 1, "days": 0}, None, "arrivals.days", "above 0"),
        ({"users_per_day": 1, "weekdays": [1, 1]}, None, "arrivals.weekdays", "seven weights"),
        ({"users_per_day": 1, "weekdays": [0] * 7}, None, "arrivals.weekdays", "not all 0"),
        ({"users_per_day": 1e9}, None, "arrivals", "at most 50,000,000"),
        ({"users_per_day": 1, "hours": 3}, None, "arrivals.hours", "unknown key"),
        ({"users_per_day": 1}, {"delay": 3}, "answers.delay", "a duration"),
        ({"users_per_day": 1}, {"response": 1.5}, "answers.response", "0 to 1"),
        ({"users_per_day": 1}, {"response": {"A": 0.5}}, "answers.response.B", "missing"),
        ({"users_per_day": 1}, {"response": {"A": 1, "B": 1, "C": 1}}, "answers.response.C", "unknown variant"),
        ({"users_per_day": 1}, {"returns": -1}, "answers.returns", "0 or more"),
        ({"users_per_day": 1}, {"alike": 0.5}, "answers.alike", "with returns above 0"),
        ({"users_per_day": 1}, {"delays": "1h"}, "answers.delays", "unknown key"),
    ],
)
def test_a_calendar_that_cannot_be_is_refused_by_its_field(
    arrivals: object, answers: object, field: str, words: str
) -> None:
    document: dict[str, Any] = {"variants": {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}}
    document |= {} if arrivals is None else {"arrivals": arrivals}
    document |= {} if answers is None else {"answers": answers}
    with pytest.raises(InvalidInput) as caught:
        parse_world(make_experiment(), document)
    found = {problem.field: problem.message for problem in caught.value.problems}
    assert any(words in message for place, message in found.items() if place.startswith(field)), found


# One truth, two fidelities


def test_user_by_user_has_the_law_of_epochs_as_counts_where_both_apply() -> None:
    """Rewards at once, nobody comes again: share of the best variant and reward, 60 runs of about 1,200 users."""
    world = world_of(
        {"A": 0.3, "B": 0.45, "C": 0.35}, rewards={"window": "request"}, policy={"max_epoch": "366d", "min_batch": 100}
    )
    found = measured(world, "thompson", runs=60).runs["thompson"]

    plain = replace(world, calendar=None)
    users = np.full(400, 1_200)
    counts = score(
        world.experiment, plain, run_epochs(world.experiment, plain.phases(), users, np.random.SeedSequence(5))
    )
    for own, name in (("share_best_within_limits", "share_best"), ("reward_per_user", "reward_per_user")):
        a, b = found[own], counts.each[name]
        error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        assert abs(a.mean() - b.mean()) < Z * error
        assert a.std() == pytest.approx(b.std(), rel=0.5)


def test_the_same_users_come_under_every_policy_and_equal_numbers_on_every_executor() -> None:
    world = world_of(
        {"A": 0.3, "B": 0.4}, answers={"delay": "2h", "response": 0.9, "returns": 0.3, "alike": 0.5}, days=1
    )
    here = measured(world, "thompson", "fixed", runs=3)
    assert (here.runs["thompson"]["users"] == here.runs["fixed"]["users"]).all()
    with ThreadPoolExecutor(2) as threads, cores(2) as processes:
        for executor in (threads, processes):
            there = measured(world, "thompson", "fixed", runs=3, executor=executor)
            for policy in here.runs:
                for name, values in here.runs[policy].items():
                    np.testing.assert_array_equal(values, there.runs[policy][name])
    other = measured(world, "fixed", runs=3, seed=2)
    assert (other.runs["fixed"]["users"] != here.runs["fixed"]["users"]).any()


# What a clock brings


def test_a_window_delays_decisions() -> None:
    rates = {"A": 0.2, "B": 0.5}
    soon, late = (
        measured(
            world_of(rates, answers={"delay": "1h"}, rewards={"window": window}, analysis={"min_days": 0}, days=6),
            "fixed",
            runs=4,
        ).runs["fixed"]
        for window in ("6h", "3d")
    )
    assert (soon["decided"] == 1.0).all()
    assert (late["decided"] == 1.0).all()
    assert (late["days_to_decision"] >= soon["days_to_decision"] + 2.0).all()


def test_answers_that_never_come_count_as_the_worst() -> None:
    answers = {"response": {"A": 1.0, "B": 0.3}}
    world = world_of(
        {"A": 0.4, "B": 0.5}, answers=answers, rewards={"window": "1h"}, analysis={"min_days": 0}, users=800
    )
    found = measured(world, "fixed", runs=5)
    assert found.number("fixed", "decided").value == 1.0
    assert (found.number("fixed", "wrong_decision").value or 0.0) == 1.0  # B is better, but nobody hears of it


def test_a_harmful_variant_is_suspended_on_a_day_and_counted() -> None:
    world = world_of({"A": 0.3, "B": 0.4}, harm=0.2, users=600)
    found = measured(world, "thompson", runs=4)
    assert (found.runs["thompson"]["suspended_day.B"] <= 2.0).all()
    assert np.isnan(found.runs["thompson"]["suspended_day.A"]).all()
    exposed = found.number("thompson", "exposed_to_breach").value or 0.0
    assert 20.0 < exposed < 500.0
    share = found.runs["thompson"]["share_of.B"] * found.runs["thompson"]["users"]
    assert found.runs["thompson"]["exposed_to_breach"] == pytest.approx(share)


def test_a_world_that_changes_changes_for_those_who_come_later() -> None:
    change = {"after_users": 100, "variants": {"B": {"resolved": 0.0}, "A": {"resolved": 0.0}}}
    world = world_of({"A": 0.5, "B": 0.5}, changes=[change], days=1, users=1_000)
    numbers = rehearse(Task(world, "fixed", 1, 0))
    assert numbers["reward_per_user"] == pytest.approx(0.5 * 100 / numbers["users"])
    assert numbers["regret"] == 0.0


def test_visits_that_are_alike_repeat_the_first() -> None:
    """Alike in all: a user's mean over visits is 0 or 1, whoever comes how often."""
    answers = {"returns": 2.0, "gap": "10m", "alike": 1.0}
    world = world_of({"A": 0.5, "B": 0.5}, answers=answers, rewards={"window": "3d"}, days=1, users=200)
    calendar = world.calendar
    assert calendar is not None
    came = visits(calendar, np.random.default_rng(3))
    values = would_answer(world, calendar, came, np.zeros(len(came.at), np.int64), np.random.default_rng(4))["resolved"]
    for user in range(50):
        assert len(np.unique(values[came.user == user, 0])) == 1


def test_a_world_without_a_clock_cannot_be_rehearsed() -> None:
    with pytest.raises(InvalidInput, match="add \\[arrivals\\]"):
        measured(replace(world_of({"A": 0.3, "B": 0.4}), calendar=None), "fixed")
    with pytest.raises(InvalidInput, match="did you mean 'thompson'"):
        measured(world_of({"A": 0.3, "B": 0.4}), "tompson")


def test_a_calendar_is_part_of_what_a_world_is() -> None:
    one, other = world_of({"A": 0.3, "B": 0.4}), world_of({"A": 0.3, "B": 0.4}, users=301)
    assert world_name(one) != world_name(other)
    assert world_name(one) != world_name(replace(one, calendar=None))


def test_it_ends_in_advice() -> None:
    world = world_of({"A": 0.2, "B": 0.2, "C": 0.5}, rewards={"window": "1h"}, analysis={"min_days": 0})
    said = [str(part) for part in rehearsal_parts(measured(world, "thompson", "fixed", runs=20))[1:]]
    assert said[0].startswith("Launch thompson: it gives +")
    assert "thompson decides 100% of the runs" in said[1]


def test_the_command_shows_and_writes_it(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(
        'key = "x"\nvariants = [{ key = "A", control = true }, { key = "B" }]\n'
        'goal = { metric = "resolved", kind = "binary" }\n'
        'guardrails = [{ metric = "cost_usd", kind = "numeric", max = 1.0, cap = 2.0 }]\n'
    )
    (tmp_path / "w.toml").write_text(
        "[variants]\nA = { resolved = 0.3, cost_usd = { mean = 0.2, sd = 0.1 } }\n"
        "B = { resolved = 0.4, cost_usd = { mean = 0.3, sd = 0.1 } }\n[arrivals]\nusers_per_day = 100\ndays = 2\n"
    )
    base = [
        "rehearse",
        str(tmp_path / "e.toml"),
        "--truth",
        str(tmp_path / "w.toml"),
        "--replications",
        "2",
        "--jobs",
        "1",
    ]
    shown = CliRunner().invoke(app, base)
    assert shown.exit_code == 0, shown.output
    assert "x: a rehearsal" in shown.output
    assert "What a run costs: thompson about" in " ".join(shown.output.split())
    document = json.loads(CliRunner().invoke(app, [*base, "--json", "-"]).stdout)
    assert document["policies"]["thompson"]["users"] > 100
    assert document["policies"]["thompson"]["level.cost_usd"] > 0.2
    assert "reward_acted_on_over_fixed" in document["policies"]["thompson"]


# Metrics that go together


CORRELATED = [{"metrics": ["resolved", "latency_ms"], "rho": -0.6}, {"metrics": ["latency_ms", "cost_usd"], "rho": 0.8}]


def correlated(correlations: object) -> World:
    rails = [
        {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 5000},
        {"metric": "cost_usd", "kind": "numeric", "max": 1.0, "cap": 2.0},
    ]
    laws = {
        arm: {
            "resolved": 0.5, "latency_ms": {"mean": 900, "sd": 300, "law": "lognormal"},
            "cost_usd": {"mean": 0.2, "sd": 0.1, "law": "lognormal"},
        }
        for arm in "AB"
    }  # fmt: skip
    document = {"variants": laws, "arrivals": {"users_per_day": 20_000, "days": 1}, "correlations": correlations}
    return parse_world(make_experiment(guardrails=rails), document)


def test_metrics_of_a_visit_go_together_as_declared() -> None:
    world = correlated(CORRELATED)
    calendar = world.calendar
    assert calendar is not None
    came = visits(calendar, np.random.default_rng(3))
    found = would_answer(world, calendar, came, np.zeros(len(came.at), np.int64), np.random.default_rng(4))
    latency, cost = np.log(found["latency_ms"][:, 0]), np.log(found["cost_usd"][:, 0])
    assert np.corrcoef(latency, cost)[0, 1] == pytest.approx(0.8, abs=0.02)  # logarithms are the normal scores
    # Of a median split and a normal score: rho x sqrt(2/pi), point-biserial.
    assert np.corrcoef(found["resolved"][:, 0], latency)[0, 1] == pytest.approx(-0.6 * np.sqrt(2 / np.pi), abs=0.02)
    assert found["resolved"].mean() == pytest.approx(0.5, abs=0.02)
    assert found["latency_ms"].mean() == pytest.approx(900, rel=0.02)


@pytest.mark.parametrize(
    ("correlations", "field", "words"),
    [
        ({}, "correlations", "tables [[correlations]]"),
        ([{"metrics": ["resolved"], "rho": 0.1}], "correlations[0].metrics", "two different"),
        ([{"metrics": ["resolved", "resolved"], "rho": 0.1}], "correlations[0].metrics", "two different"),
        ([{"metrics": ["resolved", "tokens"], "rho": 0.1}], "correlations[0].metrics", "'tokens' has no law"),
        ([{"metrics": ["resolved", "cost_usd"], "rho": 1.0}], "correlations[0].rho", "below 1"),
        ([{"metrics": ["resolved", "cost_usd"]}], "correlations[0].rho", "missing"),
        ([*CORRELATED, {"metrics": ["latency_ms", "resolved"], "rho": 0.1}], "correlations[2].metrics", "again"),
        ([*CORRELATED, {"metrics": ["resolved", "cost_usd"], "rho": 0.9}], "correlations", "contradict"),
    ],
)
def test_correlations_that_cannot_be_are_refused_by_their_field(correlations: object, field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        correlated(correlations)
    found = {problem.field: problem.message for problem in caught.value.problems}
    assert words in found.get(field, ""), found


# Odd worlds


def test_days_that_nobody_comes_and_part_days_are_looked_at() -> None:
    world = world_of({"A": 0.3, "B": 0.4}, users=0.001, days=0.5)
    numbers = rehearse(Task(world, "fixed", 1, 0))
    assert (numbers["users"], numbers["decided"], numbers["days_to_decision"]) == (0.0, 0.0, 0.5)
    assert np.isnan(numbers["reward_per_user"])


def test_a_part_day_can_decide() -> None:
    parts: dict[str, Any] = {
        "rewards": {"window": "request"},
        "analysis": {"min_days": 0},
        "policy": {"max_epoch": "1h"},
    }
    numbers = rehearse(Task(world_of({"A": 0.1, "B": 0.9}, users=2_000, days=0.5, **parts), "fixed", 1, 0))
    assert (numbers["decided"], numbers["days_to_decision"]) == (1.0, 0.5)


def test_costs_are_those_of_the_visits_that_were_made_after_cutting() -> None:
    rails = [{"metric": "cost_usd", "kind": "numeric", "max": 1.0}]
    laws = {arm: {"resolved": 0.5, "cost_usd": {"mean": 0.0, "sd": 1.0}} for arm in "AB"}
    document = {
        "variants": laws, "arrivals": {"users_per_day": 200, "days": 3}, "answers": {"returns": 5, "gap": "7d"},
    }  # fmt: skip
    numbers = rehearse(Task(parse_world(make_experiment(guardrails=rails), document), "fixed", 1, 0))
    assert numbers["visits"] < 2.0 * numbers["users"]  # most come again after the end
    assert numbers["level.cost_usd"] == pytest.approx(1.0 / np.sqrt(2.0 * np.pi))


def test_a_change_that_no_user_sees_makes_no_decision_wrong() -> None:
    change = {"after_users": 10**6, "variants": {"B": {"resolved": 0.0}}}
    world = world_of(
        {"A": 0.2, "B": 0.5}, changes=[change], users=800, rewards={"window": "1h"}, analysis={"min_days": 0}
    )
    found = measured(world, "fixed", runs=4)
    assert found.number("fixed", "decided").value == 1.0
    assert found.number("fixed", "wrong_decision").value == 0.0
    once = rehearsal_parts(measured(world, "thompson", "fixed", runs=1))
    assert str(once[1]).startswith("One run")
