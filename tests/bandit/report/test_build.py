from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bandit import Bandit, Report, markdown
from bandit.posteriors import beta_posterior
from tests.bandit.making import NUMERIC, Clock, make_experiment


def run(experiment_parts: dict[str, Any], outcomes: dict[str, list[float]], **kinds: Any) -> Report:  # noqa: ANN401
    """Give each variant's users their outcomes in turn, then stop and report."""
    bandit = Bandit(make_experiment(len(outcomes), **experiment_parts), **kinds)
    queues = {variant: list(values) for variant, values in outcomes.items()}
    user = 0
    while any(queues.values()):
        variant = bandit.choose(f"user-{user}").variant
        if queues[variant]:
            bandit.reward(f"user-{user}", queues[variant].pop(0))
        user += 1
    bandit.stop()
    return bandit.report()


def with_rates(experiment_parts: dict[str, Any], rates: dict[str, float], users: int) -> Report:
    """Give so many users of each variant a success with its rate, then stop and report."""
    bandit, rng = Bandit(make_experiment(len(rates), **experiment_parts)), np.random.default_rng(4)
    for user in range(users):
        variant = bandit.choose(f"user-{user}").variant
        bandit.reward(f"user-{user}", float(rng.random() < rates[variant]))
    bandit.stop()
    return bandit.report()


def binary(n: int, events: int) -> list[float]:
    return [1.0] * events + [0.0] * (n - events)


FIXED = {"policy": {"kind": "fixed"}, "rewards": {"missing": "ignore"}}
ONE_LOOK = {"analysis": {"horizon_users": 700}}


def test_the_report_of_a_fixed_split_equals_scipy_and_is_trusted() -> None:
    rng = np.random.default_rng(3)
    outcomes = {"A": rng.permutation(binary(400, 120)).tolist(), "B": rng.permutation(binary(380, 150)).tolist()}

    a, b = run(FIXED | {"analysis": {"horizon_users": 780}}, outcomes).variants

    expected = stats.ttest_ind(outcomes["B"], outcomes["A"], equal_var=False)
    assert (a.with_outcome, b.with_outcome) == (400, 380)
    assert (a.mean, b.mean) == (120 / 400, 150 / 380)
    assert b.welch is not None
    assert (b.welch.difference, b.welch.p_value) == pytest.approx((150 / 380 - 0.3, expected.pvalue))
    assert b.welch.trustworthy
    assert a.welch is None


def test_moved_traffic_takes_the_trust_from_welch() -> None:
    report = with_rates(ONE_LOOK, {"A": 0.3, "B": 0.45}, 800)

    welch = report.variants[1].welch
    assert welch is not None
    assert welch.reasons == ("traffic moved",)
    assert not welch.trustworthy


def test_few_events_take_the_trust_from_welch() -> None:
    welch = with_rates(FIXED | ONE_LOOK, {"A": 0.02, "B": 0.5}, 800).variants[1].welch

    assert welch is not None
    assert welch.reasons == ("fewer than 25 events or non-events in an arm",)


def test_the_credible_interval_is_that_of_the_posterior() -> None:
    goal = {"goal": {"baseline": 0.3}}

    a, _ = run(FIXED | goal, {"A": binary(400, 120), "B": binary(380, 150)}).variants

    prior = (1.0, 0.7 / 0.3)
    assert a.interval == pytest.approx(stats.beta.interval(0.95, prior[0] + 120, prior[1] + 280))


@pytest.mark.parametrize("kind", ["binary", "numeric"])
def test_lower_is_better_turns_the_question_not_the_numbers(kind: str) -> None:
    rng = np.random.default_rng(5)
    outcomes = {
        "A": binary(300, 90) if kind == "binary" else rng.normal(900, 200, 300).tolist(),
        "B": binary(300, 60) if kind == "binary" else rng.normal(800, 200, 300).tolist(),
    }
    goal = {"goal": {"metric": "m", "kind": kind, "better": "lower"}}

    a, b = run(FIXED | goal, outcomes).variants

    assert b.p_best is not None
    assert b.p_best > 0.99
    assert a.mean == pytest.approx(np.mean(outcomes["A"]))
    for variant in (a, b):
        assert variant.interval is not None
        assert variant.mean is not None
        assert variant.interval[0] < variant.mean < variant.interval[1]
    assert a.expected_loss == pytest.approx((a.mean or 0) - (b.mean or 0), rel=0.05)
    assert b.welch is not None
    assert b.welch.difference < 0


def test_numeric_intervals_do_not_depend_on_where_the_origin_lies() -> None:
    rng = np.random.default_rng(6)
    y = {"A": rng.normal(100, 5, 300).tolist(), "B": rng.normal(101, 5, 300).tolist()}

    plain = run(FIXED | {"goal": NUMERIC}, y).variants[0]
    ranged = run(FIXED | {"goal": NUMERIC | {"range": [-1, 1e15]}}, y).variants[0]

    assert plain.interval == pytest.approx(ranged.interval)
    assert plain.interval == pytest.approx(stats.t.interval(0.95, 299, np.mean(y["A"]), stats.sem(y["A"])), abs=0.05)


def test_missing_outcomes_count_as_the_rule_says() -> None:
    def mean_of_a(missing: str | None, better: str = "higher") -> tuple[float | None, int]:
        bandit = Bandit(
            make_experiment(
                goal={"better": better},
                policy={"kind": "fixed"},
                rewards={} if missing is None else {"missing": missing},
            )
        )
        users = [u for u in (f"user-{i}" for i in range(40)) if bandit.choose(u).variant == "A"][:10]
        for user in users[:5]:
            bandit.reward(user, 1)
        bandit.stop()
        a = bandit.report().variants[0]
        return a.mean, a.with_outcome

    n = sum(Bandit(make_experiment()).choose(f"user-{i}").variant == "A" for i in range(40))
    assert mean_of_a(None) == (5 / n, 5)  # worst is the default of a binary goal
    assert mean_of_a("ignore") == (1.0, 5)
    assert mean_of_a("worst", "lower") == (1.0, 5)
    assert mean_of_a("zero", "lower") == (5 / n, 5)


def test_open_epochs_are_pending_and_not_in_the_numbers() -> None:
    bandit = Bandit(make_experiment(), Clock())
    for i in range(60):
        bandit.choose(f"user-{i}")
        bandit.reward(f"user-{i}", 1)

    report = bandit.report()

    assert (report.assigned, report.pending, report.closed_epochs) == (60, 60, 0)
    assert all(v.users == 0 and v.mean is None and v.p_best is None for v in report.variants)
    assert "No epoch is closed yet" in report.notes[0]


def test_a_guardrail_is_reported_with_its_limit_in_words() -> None:
    latency = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}
    bandit = Bandit(make_experiment(guardrails=[latency], policy={"kind": "fixed"}))
    for i in range(50):
        bandit.choose(f"user-{i}")
        bandit.reward(f"user-{i}", {"resolved": 1, "latency_ms": 2000 if i % 10 == 0 else 900})
    bandit.stop()

    report = bandit.report()

    (guardrail,) = report.guardrails
    total = sum(guardrail.users[key] * (guardrail.mean[key] or 0) for key in "AB")
    assert total == pytest.approx(5)
    assert guardrail.limit == "at most 5 % of calls above 1500"
    assert guardrail.enforced


def test_the_report_is_json_and_readable_text() -> None:
    report = run({"hypothesis": "B | helps *more*"}, {"A": binary(300, 100), "B": binary(300, 150)})

    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["schema"] == 3
    text = markdown(report)
    assert "| A (control) |" in text
    assert "> B \\| helps \\*more\\*" in text
    assert "**no**: traffic moved" in text


@pytest.mark.parametrize("parts", [{}, {"goal": NUMERIC}])
def test_an_experiment_without_users_has_a_report(parts: dict[str, Any]) -> None:
    for bandit in (Bandit(make_experiment(**parts)), Bandit(make_experiment(**parts), running=False)):
        report = bandit.report()

        assert report.assigned == 0
        json.dumps(report.to_dict(), allow_nan=False)
        assert "No epoch is closed yet" in markdown(report)


def test_credible_intervals_cover_what_they_promise() -> None:
    """Rates drawn from the prior's neighbourhood; 95 % nominal, 2,000 intervals, z = 3.9."""
    rng = np.random.default_rng(7)
    covered, n_runs = 0, 1000
    for _ in range(n_runs):
        rates = rng.uniform(0.05, 0.95, 2)
        wins = rng.binomial(200, rates)
        posterior = beta_posterior(np.array([200.0, 200.0]), wins.astype(float), None)
        covered += int(((posterior.quantile(0.025) < rates) & (rates < posterior.quantile(0.975))).sum())

    assert abs(covered / (2 * n_runs) - 0.95) < 3.9 * np.sqrt(0.95 * 0.05 / (2 * n_runs))
