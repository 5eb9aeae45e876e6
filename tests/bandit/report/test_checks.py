from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit import Report
from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.report import build_report
from tests.bandit.making import make_experiment
from tests.bandit.report.making import counted

N_EPOCHS, BATCH = 40, 250


def lived(
    experiment: Experiment,
    p: FloatArray | None = None,
    response: tuple[float, ...] = (1.0, 1.0),
    kept: tuple[float, ...] = (1.0, 1.0),
    rates: FloatArray | None = None,
    seed: int = 1,
) -> Report:
    """Return the report of users drawn with p, of whom a share is kept and a share answers."""
    rng = np.random.default_rng(seed)
    n_arms = experiment.n_arms
    p = np.full((N_EPOCHS, n_arms), 1.0 / n_arms) if p is None else p
    rates = np.full((N_EPOCHS, n_arms), 0.3) if rates is None else rates
    assigned = rng.binomial(rng.multinomial(BATCH, p), np.resize(kept, n_arms))
    answers = rng.binomial(assigned, np.resize(response, n_arms))
    events = rng.binomial(answers, rates)
    found = counted(experiment, assigned.astype(np.float64), answers.astype(np.float64), events.astype(np.float64), p)
    return build_report(experiment, found, "running")


def moving(seed: int = 0) -> FloatArray:
    """Return shares that wander as a bandit's do."""
    share = np.clip(0.5 + 0.05 * np.random.default_rng(seed).normal(size=N_EPOCHS).cumsum(), 0.05, 0.8)
    return np.stack([share, 1.0 - share], axis=1)


IGNORE: dict[str, Any] = {"rewards": {"missing": "ignore"}}


def test_a_bandit_that_moved_its_traffic_is_not_flagged() -> None:
    """Errors of the three checks are bounded by alpha together: 5 % of runs, and conservative."""
    flagged = [bool(lived(make_experiment(**IGNORE), moving(s), seed=s).checks.fix_first) for s in range(60)]

    assert sum(flagged) <= 3


@pytest.mark.parametrize("p", [None, moving()])
def test_users_that_get_lost_after_assignment_are_flagged(p: FloatArray | None) -> None:
    report = lived(make_experiment(), p, kept=(1.0, 0.9))

    assert [check.flagged for check in report.checks.assigned] == [True, True]
    assert report.decision.reason == "data"
    assert report.decision.sentence.startswith("Fix the data first: B has ")
    assert [v.decision.reason for v in report.variants if v.decision is not None] == ["data"]
    assert report.variants[1].welch is not None
    assert "users were not assigned as recorded" in report.variants[1].welch.reasons


def test_a_variant_that_answers_less_is_flagged_where_missing_users_are_left_out() -> None:
    report = lived(make_experiment(**IGNORE), response=(0.9, 0.8))

    assert [check.flagged for check in report.checks.assigned] == [False, False]
    assert [check.flagged for check in report.checks.response] == [True]
    assert report.decision.reason == "data"
    assert "outcomes go missing by variant" in report.checks.fix_first[0]


def test_unequal_response_is_shown_and_harmless_where_a_missing_outcome_counts_as_a_value() -> None:
    report = lived(make_experiment(), response=(0.9, 0.8))

    assert [check.flagged for check in report.checks.response] == [True]
    assert not report.checks.response_matters
    assert report.checks.fix_first == ()


def test_a_drifting_base_rate_marks_what_it_makes_unreliable() -> None:
    rates = np.linspace(0.2, 0.5, N_EPOCHS)[:, None].repeat(2, axis=1)

    moved, still = lived(make_experiment(), rates=rates), lived(make_experiment())

    assert moved.checks.drift == ("A", "B")
    assert moved.variants[0].unreliable == ("the means of A, B moved over time",)
    assert still.checks.drift == ()
    assert still.variants[0].unreliable == ()


def test_chance_alone_seldom_looks_like_drift() -> None:
    """One per cent of runs by construction; P(more than 5 of 100) = 0.0005."""
    assert sum(bool(lived(make_experiment(), seed=s).checks.drift) for s in range(100)) <= 5


def test_without_propensities_there_is_no_sample_ratio_and_no_decision() -> None:
    experiment = make_experiment(analysis={"horizon_users": 100})
    full = lived(experiment)
    assert full.decision.verdict != "unknown"
    rng = np.random.default_rng(2)
    n = rng.multinomial(BATCH, np.full((N_EPOCHS, 2), 0.5)).astype(np.float64)
    events = rng.binomial(n.astype(np.int64), 0.3).astype(np.float64)
    known = counted(experiment, n, n, events, np.full((N_EPOCHS, 2), 0.5))
    report = build_report(experiment, History(known.ledger, N_EPOCHS, None), "log")

    assert report.checks.assigned == ()
    assert (report.decision.verdict, report.decision.reason) == ("unknown", "no_propensities")
    assert report.variants[1].welch is not None
    assert "nobody knows whether traffic moved" in report.variants[1].welch.reasons
    assert report.comparisons[0].any_time is None
    assert report.comparisons[0].lift is not None
