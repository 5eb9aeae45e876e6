"""States of guardrails in the report, against closed forms and by simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from bandit import Bandit, Report
from bandit.report.document import GuardrailState
from tests.bandit.making import make_experiment

HARMFUL = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.02}


def lived(guardrails: list[dict[str, Any]], users: int, values: dict[str, Any], **parts: Any) -> Report:  # noqa: ANN401
    """Return the report after users who get values by variant: a function of (rng, variant) per metric."""
    policy = {"policy": {"kind": "fixed"}}
    bandit = Bandit(make_experiment(2, guardrails=guardrails, **(policy | parts)))
    rng = np.random.default_rng(9)
    for user in range(users):
        arm = bandit.choose(f"user-{user}").variant
        given = {metric: draw(rng, arm) for metric, draw in values.items()}
        bandit.reward(f"user-{user}", {"resolved": bool(rng.random() < 0.3), **given})
    bandit.stop()
    return bandit.report()


def state_of(report: Report, variant: str = "B", guardrail: int = 0) -> GuardrailState:
    return next(each for each in report.guardrails[guardrail].states if each.variant == variant)


def rate(a: float, b: float) -> Any:  # noqa: ANN401 (a function for `lived`)
    return lambda rng, arm: bool(rng.random() < (a if arm == "A" else b))


def test_a_rate_is_breached_and_certified_by_the_mixture_computed_by_quadrature() -> None:
    report = lived([HARMFUL], 800, {"harmful": rate(0.005, 0.005)})
    state = state_of(report)
    assert state.users < 500  # so it has started once, with half of the weight

    n, s = state.users, round((state.level or 0.0) * state.users)
    prior = stats.beta(2.0, 50.0)
    above = integrate.quad(
        lambda t: prior.pdf(t) * math.exp(s * math.log(t / 0.02) + (n - s) * math.log((1 - t) / 0.98)), 0.02, 0.2
    )[0] / prior.sf(0.02)
    mirror = stats.beta(1.0, 50.0)
    below = integrate.quad(
        lambda t: mirror.pdf(t) * math.exp(s * math.log(t / 0.02) + (n - s) * math.log((1 - t) / 0.98)), 1e-9, 0.02
    )[0] / mirror.cdf(0.02)
    assert state.e_breach == pytest.approx((above + 1.0) / 2.0, rel=1e-6)
    assert state.e_ok == pytest.approx(below, rel=1e-6)
    assert (state.threshold_breach, state.threshold_ok) == pytest.approx((4 * 2 / (0.8 * 0.05), 2 / (0.8 * 0.05)))
    assert state.exact


def test_states_follow_what_is_true() -> None:
    rails = [HARMFUL]
    kept = lived(rails, 3000, {"harmful": rate(0.004, 0.004)})
    broken = lived(rails, 3000, {"harmful": rate(0.004, 0.06)})
    young = lived(rails, 150, {"harmful": rate(0.004, 0.004)})

    assert state_of(kept).state == "ok"
    assert state_of(broken).state == "breached"
    assert state_of(broken, "A").state == "ok"
    assert state_of(young).state == "unknown"
    assert broken.decision.reason == "guardrail"


def test_control_that_breaks_an_absolute_limit_is_an_alarm_and_no_verdict() -> None:
    report = lived([HARMFUL], 3000, {"harmful": rate(0.06, 0.004)})

    assert state_of(report, "A").state == "breached"
    assert report.variants[0].decision is None


def test_the_users_that_are_needed_certify_if_all_goes_on_as_it_is() -> None:
    """Three times the users with the same counts: the state at n + needed is just ok."""
    small = state_of(lived([HARMFUL], 400, {"harmful": rate(0.0, 0.0)}))
    assert small.state == "unknown"
    needed = small.users_needed
    assert needed is not None

    def log_e(n: float) -> float:
        mirror = stats.beta(1.0, 50.0)  # without an event: ∫ (1−t)^n below the limit
        value = integrate.quad(lambda t: mirror.pdf(t) * ((1 - t) / 0.98) ** n, 0.0, 0.02)[0] / mirror.cdf(0.02)
        return math.log(value)

    threshold = math.log(small.threshold_ok)
    assert log_e(small.users + needed) >= threshold > log_e(small.users + needed - 2)


def test_a_level_beyond_the_limit_needs_no_users_as_none_would_help() -> None:
    state = state_of(lived([HARMFUL], 600, {"harmful": rate(0.004, 0.03)}))

    assert state.state == "unknown"
    assert state.users_needed is None


def test_a_quantile_is_a_share_of_calls_and_a_minimum_counts_from_above() -> None:
    rails = [
        {"metric": "latency_ms", "kind": "numeric", "quantile": 0.9, "max": 1500},
        {"metric": "safe", "kind": "binary", "min": 0.9},
    ]
    values = {
        "latency_ms": lambda rng, arm: float(2000 if rng.random() < (0.02 if arm == "A" else 0.3) else 800),
        "safe": rate(0.99, 0.8),
    }
    slow, unsafe = (
        lived(rails[:1], 1500, {"latency_ms": values["latency_ms"]}),
        lived(rails[1:], 1500, {"safe": values["safe"]}),
    )

    assert [state_of(report, "A").state for report in (slow, unsafe)] == ["ok", "ok"]
    assert [state_of(report, "B").state for report in (slow, unsafe)] == ["breached", "breached"]
    assert slow.guardrails[0].statistic == "share of calls above 1500"
    assert unsafe.guardrails[0].limit == "at least 90 %"


def cost(a: float, b: float) -> Any:  # noqa: ANN401
    return lambda rng, arm: float(rng.gamma(4.0, (a if arm == "A" else b) / 4.0))


@pytest.mark.parametrize("cap", [{"cap": 0.2}, {}])
def test_a_mean_against_a_limit(cap: dict[str, float]) -> None:
    rail = {"metric": "cost_usd", "kind": "numeric", "max": 0.02} | cap
    kept = state_of(lived([rail], 4000, {"cost_usd": cost(0.012, 0.012)}))
    broken = state_of(lived([rail], 4000, {"cost_usd": cost(0.012, 0.03)}))

    assert (kept.state, broken.state) == ("ok", "breached")
    assert kept.exact == bool(cap)
    assert kept.interval is not None
    assert kept.interval[0] < 0.012 < kept.interval[1] < 0.02


@pytest.mark.parametrize("cap", [{"cap": 0.1}, {}])
def test_a_mean_relative_to_control(cap: dict[str, float]) -> None:
    rail = {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2} | cap
    kept = lived([rail], 8000, {"cost_usd": cost(0.012, 0.012)})
    broken = lived([rail], 4000, {"cost_usd": cost(0.012, 0.03)})

    assert (state_of(kept).state, state_of(broken).state) == ("ok", "breached")
    assert [state.variant for state in kept.guardrails[0].states] == ["B"]
    assert state_of(kept).exact == bool(cap)
    relative, interval = state_of(kept).relative, state_of(kept).interval
    assert relative is not None
    assert interval is not None
    assert interval[0] < relative < interval[1]
    assert relative == pytest.approx(0.0, abs=0.1)


def test_a_rate_relative_to_control_with_a_tolerance() -> None:
    rail = {"metric": "safe", "kind": "binary", "max_decrease": 0.01}
    values = {"safe": rate(0.99, 0.98)}  # at the limit
    strict, tolerant = lived([rail], 6000, values), lived([rail | {"tolerance": 0.04}], 6000, values)

    assert state_of(strict).state == "unknown"
    assert state_of(tolerant).state == "ok"


def test_a_limit_that_nothing_can_break_is_certified_at_once() -> None:
    rails = [
        {"metric": "harmful", "kind": "binary", "max": 0.6, "tolerance": 1.0},
        {"metric": "cost_usd", "kind": "numeric", "max": 0.1, "cap": 0.15, "tolerance": 0.5},
    ]
    report = lived(rails, 100, {"harmful": rate(0.1, 0.1), "cost_usd": cost(0.01, 0.01)})

    assert [state_of(report, "B", g).state for g in (0, 1)] == ["ok", "ok"]


def test_clean_answers_that_are_missing_do_not_look_like_harm() -> None:
    """For `any` with a maximum the users assigned are at risk, not those who reported: harm reports first."""
    bandit = Bandit(make_experiment(2, guardrails=[HARMFUL], policy={"kind": "fixed"}))
    for user in range(1000):
        bandit.choose(f"user-{user}")
        if user % 100 == 0:
            bandit.reward(f"user-{user}", {"harmful": True})
    bandit.stop()

    assert [state.state for state in bandit.report().guardrails[0].states] == ["unknown", "unknown"]
