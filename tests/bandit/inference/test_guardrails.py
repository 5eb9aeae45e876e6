"""Which e-process judges which limit, on what users, and how many more would certify."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.inference.breaches import breaches
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.exact import log_wealths_above_ratio, log_wealths_below_ratio
from bandit.inference.guardrails import GuardrailEvidence, guardrail_evidence
from bandit.inference.mean_limit import Mean, log_wealths_above, log_wealths_below
from bandit.inference.mixture import log_mean
from bandit.inference.observed import observe
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit, rate_interval
from bandit.inference.ratio_limit import log_wealths_above_ratio as label_above
from bandit.inference.scores import total_scores
from bandit.ledger import Ledger, exact_row
from bandit.measures import measures_of
from tests.bandit.inference.making import make_observed
from tests.bandit.making import make_experiment

SHARE = 0.8 * 0.05  # of alpha, one treatment
P = np.array([[0.5, 0.5], [0.3, 0.7]])
Users = list[list[FloatArray]]


class Judged:
    """A certificate, and the evidence that the limit is broken."""

    def __init__(self, certificate: GuardrailEvidence, log_breach: FloatArray) -> None:
        self.log_breach = log_breach
        self._certificate = certificate

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the certificate has)
        return getattr(self._certificate, name)


def once(log_e: FloatArray | float) -> FloatArray:
    """Return what a mixture with one start makes of an e-value: half of it, and half for the starts to come."""
    return np.asarray(np.logaddexp(log_e, 0.0) - np.log(2.0))


def found(
    rail: dict[str, Any], users: Users, *, assigned: FloatArray | None = None, goal: dict[str, Any] | None = None
) -> tuple[Judged, History, Experiment]:
    """Return the evidence of two epochs of two arms, the history and the experiment."""
    experiment = make_experiment(guardrails=[rail], goal=goal or {})
    measures = measures_of(experiment)
    index = len(measures) - 1
    sums = [np.zeros((2, 2, measure.width)) for measure in measures]
    sums[index] = np.array([[exact_row(measures[index], 0.0, ys.tolist()) for ys in row] for row in users])
    counts = np.array([[len(ys) for ys in row] for row in users]) if assigned is None else assigned.astype(np.int64)
    ledger = Ledger(counts, np.zeros_like(counts), tuple(sums), (0.0,) * len(measures))
    history = History(ledger, 2, P)
    observed = observe(experiment, history, index)
    evidence = guardrail_evidence(
        experiment, history, experiment.guardrails[0], observed, total_scores(observed, experiment.control)
    )
    assert evidence is not None
    return Judged(evidence, breaches(experiment, history).log_e[0]), history, experiment


def users_of(rng: np.random.Generator, draw: str, rates: tuple[float, float], size: int = 300) -> Users:
    def one(rate: float) -> FloatArray:
        if draw == "binary":
            return rng.binomial(1, rate, size).astype(np.float64)
        return np.minimum(rng.gamma(4.0, rate / 4.0, size), 9.0)

    return [[one(rate) for rate in rates] for _ in range(2)]


def both(users: Users) -> list[FloatArray]:
    return [np.concatenate(ys) for ys in zip(*users, strict=True)]


def test_a_largest_rate_is_judged_by_the_mixture_on_all_closed_users() -> None:
    users = users_of(np.random.default_rng(1), "binary", (0.05, 0.12))
    n, s = np.full(2, 600.0), np.array([ys.sum() for ys in both(users)])

    evidence, _, _ = found({"metric": "harm", "kind": "binary", "max": 0.1, "tolerance": 0.2}, users)

    assert evidence.log_breach == pytest.approx(once(log_e_above_limit(n, s, 0.1)))
    assert evidence.log_ok == pytest.approx(log_e_below_limit(n, s, 0.12))
    np.testing.assert_allclose(evidence.interval(), rate_interval(n, s, SHARE))
    assert evidence.level == pytest.approx(s / n)
    assert (evidence.exact_breach, evidence.exact_ok) == (True, True)


def test_a_least_rate_is_judged_from_the_other_side() -> None:
    users = users_of(np.random.default_rng(2), "binary", (0.9, 0.8))
    n, s = np.full(2, 600.0), np.array([ys.sum() for ys in both(users)])

    evidence, _, _ = found({"metric": "solved", "kind": "binary", "min": 0.9, "tolerance": 0.1}, users)

    assert evidence.log_breach == pytest.approx(once(log_e_below_limit(n, s, 0.9)))
    assert evidence.log_ok == pytest.approx(log_e_above_limit(n, s, 0.81))


def test_harm_in_any_call_is_set_against_all_users_assigned_and_certified_on_those_who_answered() -> None:
    users = users_of(np.random.default_rng(3), "binary", (0.1, 0.1))
    n, s = np.full(2, 600.0), np.array([ys.sum() for ys in both(users)])
    rail = {"metric": "harm", "kind": "binary", "per_user": "any", "max": 0.05}

    evidence, _, _ = found(rail, users, assigned=np.full((2, 2), 500))

    assert evidence.log_breach == pytest.approx(
        np.logaddexp.reduce(
            [
                log_e_above_limit(np.full(2, 1000.0), s, 0.05) - np.log(2.0),
                log_e_above_limit(np.full(2, 500.0), np.array([ys.sum() for ys in users[1]]), 0.05) - np.log(6.0),
                np.full(2, -np.log(3.0)),
            ]
        )
    )
    assert evidence.log_ok == pytest.approx(log_e_below_limit(n, s, 0.05))
    assert evidence.users.tolist() == [600.0, 600.0]


def test_a_limit_beyond_all_rates_and_means_is_certified_from_the_start() -> None:
    rate, _, _ = found({"metric": "harm", "kind": "binary", "max": 0.6, "tolerance": 0.9}, [[np.empty(0)] * 2] * 2)
    mean, _, _ = found(
        {"metric": "cost", "kind": "numeric", "max": 5.0, "cap": 9.0, "tolerance": 0.9}, [[np.empty(0)] * 2] * 2
    )

    for evidence in (rate, mean):
        assert (evidence.log_ok == np.inf).all()
        assert evidence.log_breach == pytest.approx([0.0, 0.0], abs=1e-12)
        assert np.isnan(evidence.level).all()


@pytest.mark.parametrize("cap", [None, 9.0])
def test_a_mean_is_breached_by_bets_and_certified_by_them_only_with_a_cap(cap: float | None) -> None:
    users = users_of(np.random.default_rng(4), "gamma", (1.0, 3.0))
    rail = {"metric": "cost", "kind": "numeric", "max": 2.0, "tolerance": 0.1} | ({} if cap is None else {"cap": cap})

    evidence, history, experiment = found(rail, users)

    sums, measure = history.ledger.sums[1], measures_of(experiment)[1]
    alone = Mean.of(observe(experiment, history, 1))
    assert evidence.log_breach == pytest.approx(once(log_mean(log_wealths_above(sums)[:, -1])))
    if cap is None:
        assert evidence.log_ok == pytest.approx(alone.log_e_below(2.2, SHARE, 5000.0))
    else:
        assert evidence.log_ok == pytest.approx(log_mean(log_wealths_below(measure, sums, 0.1)[:, -1]))
    assert (evidence.exact_breach, evidence.exact_ok) == (True, cap is not None)
    assert evidence.log_breach[0] < 0.0
    assert evidence.log_breach[1] > 20.0
    assert evidence.log_ok[1] < 0.0
    assert evidence.log_ok[0] > 20.0


def test_a_relative_rate_is_judged_by_the_ratio_e_process_in_the_direction_of_the_limit() -> None:
    users = users_of(np.random.default_rng(5), "binary", (0.2, 0.3))

    rise, history, experiment = found({"metric": "harm", "kind": "binary", "max_increase": 0.2}, users)
    fall, _, _ = found({"metric": "harm", "kind": "binary", "max_decrease": 0.2}, users)

    observed = observe(experiment, history, 1)
    assert rise.log_breach == pytest.approx(once(log_mean(log_wealths_above_ratio(observed, 0, 1.2)[:, -1])))
    assert rise.log_ok == pytest.approx(log_mean(log_wealths_below_ratio(observed, 0, 1.2)[:, -1]))
    assert fall.log_breach == pytest.approx(once(log_mean(log_wealths_below_ratio(observed, 0, 0.8)[:, -1])))
    assert fall.log_ok == pytest.approx(log_mean(log_wealths_above_ratio(observed, 0, 0.8)[:, -1]))


def test_a_relative_mean_without_bounds_is_judged_by_the_one_sided_confidence_sequence() -> None:
    users = users_of(np.random.default_rng(6), "gamma", (1.0, 1.5))

    evidence, history, experiment = found({"metric": "cost", "kind": "numeric", "max_increase": 0.2}, users)

    scores = total_scores(observe(experiment, history, 1), 0)
    z = float(scores.difference(1.2)[1] / scores.standard_error(1.2)[1])
    breach, ok = (
        float(one_sided_log_e_value(side * z, 1200.0, tuning(level, 10_000.0)))
        for side, level in ((1.0, 2.0 * SHARE / 8.0), (-1.0, SHARE))
    )
    assert evidence.log_breach[1] == pytest.approx(breach)
    assert evidence.log_ok[1] == pytest.approx(ok)
    fourfold = float(one_sided_log_e_value(-2.0 * z, 4800.0, tuning(SHARE, 10_000.0)))
    assert evidence.log_ok_with(np.full(2, 4.0))[1] == pytest.approx(fourfold)
    low, high = evidence.interval()
    assert low[1] < both(users)[1].mean() / both(users)[0].mean() - 1.0 < high[1]
    assert not evidence.exact_breach


def test_a_ratio_of_means_is_one_of_outcomes_from_zero_though_the_metric_has_a_higher_lower_bound() -> None:
    """Scores from 1 to 5: 2.0 against 2.2 is a fall of 9 %, and one of 17 % on the way from 1 to 5."""
    rng = np.random.default_rng(7)
    users = [[rng.choice([1.0, 3.0], 2000, p=[1 - q, q]) for q in (0.6, 0.5)] for _ in range(2)]
    rail = {"metric": "score", "kind": "numeric", "max_decrease": 0.12}
    goal = {"metric": "score", "kind": "numeric", "range": [1, 5]}

    evidence, _, _ = found(rail, users, goal=goal)

    from_zero = make_observed([[y / 5.0 for y in row] for row in users], P)
    bets = label_above(from_zero, 0, 0.88)[:, -1]
    assert evidence.log_breach[1] < math.log(20.0)
    assert evidence.log_ok[1] > 0.0
    assert evidence.log_ok[1] >= log_mean(bets)[1] - math.log(3.0)


def test_a_ratio_of_means_that_may_be_negative_is_left_to_the_confidence_sequence() -> None:
    users = [[np.random.default_rng(8).normal(1.0, 0.3, 300).clip(-1.0, 5.0) for _ in range(2)] for _ in range(2)]
    goal = {"metric": "score", "kind": "numeric", "range": [-1, 5]}

    evidence, _, _ = found({"metric": "score", "kind": "numeric", "max_decrease": 0.1}, users, goal=goal)

    assert not evidence.exact_ok


@pytest.mark.parametrize(
    "rail",
    [
        {"metric": "harm", "kind": "binary", "max": 0.2},
        {"metric": "harm", "kind": "binary", "max_increase": 0.9},
        {"metric": "cost", "kind": "numeric", "max": 1.5, "cap": 9.0},
        {"metric": "cost", "kind": "numeric", "max": 1.5},
        {"metric": "cost", "kind": "numeric", "max_increase": 0.9},
    ],
)
def test_that_many_more_users_of_the_same_kind_do_certify_and_a_tenth_fewer_do_not(rail: dict[str, Any]) -> None:
    rng, wanted = np.random.default_rng(9), 40.0
    kind = "binary" if rail["kind"] == "binary" else "gamma"
    users = users_of(rng, kind, (0.1, 0.12) if kind == "binary" else (1.0, 1.2), 150)
    evidence, _, _ = found(rail, users)

    needed = float(evidence.users_needed(wanted)[1])

    def reached(further: float) -> bool:
        return bool(evidence.log_ok_with(np.full(2, 1.0 + further / evidence.users[1]))[1] >= wanted)

    assert 0.0 < needed < math.inf
    assert reached(needed)
    assert not reached(0.9 * needed - 1.0)


def test_no_users_are_needed_where_a_certificate_is_there_and_none_suffice_beyond_the_limit() -> None:
    users = users_of(np.random.default_rng(10), "binary", (0.01, 0.4))

    evidence, _, _ = found({"metric": "harm", "kind": "binary", "max": 0.1}, users)

    assert evidence.users_needed(3.0).tolist() == [0.0, math.inf]
