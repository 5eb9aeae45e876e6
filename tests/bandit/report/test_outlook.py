from __future__ import annotations

import numpy as np
import pytest

from bandit import Report
from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.report import build_report
from tests.bandit.making import make_experiment
from tests.bandit.report.making import EPOCH, counted

BATCH = 100


def drawn(rates: tuple[float, ...], n_epochs: int, seed: int, share: float = 0.5) -> tuple[FloatArray, ...]:
    """Return users, events and probabilities per epoch of a fixed split of two."""
    rng = np.random.default_rng(seed)
    p = np.tile([1.0 - share, share], (n_epochs, 1))
    n = rng.multinomial(BATCH, p)
    return n.astype(np.float64), rng.binomial(n, rates).astype(np.float64), p


def report_of(experiment: Experiment, data: tuple[FloatArray, ...], upto: int, state: str = "running") -> Report:
    n, events, p = (column[:upto] for column in data)
    return build_report(experiment, counted(experiment, n, n, events, p), state)


@pytest.mark.parametrize(("rates", "share"), [((0.3, 0.36), 0.5), ((0.3, 0.25), 0.2)])
def test_decisions_come_about_when_they_are_expected(rates: tuple[float, float], share: float) -> None:
    """At a look where the estimate is clear and undecided, the median of (actual / expected) users is near 1."""
    experiment = make_experiment(analysis={"min_days": 0})
    ratios = []
    for seed in range(40):
        data = drawn(rates, 200, seed, share)
        look = 20
        decision = report_of(experiment, data, look).decision
        if decision.expected_users is None or decision.assuming != "the present estimate holds":
            continue
        ends = range(look + 1, 201, 3)
        decided = next((e for e in ends if report_of(experiment, data, e).decision.expected_users is None), 200)
        ratios.append((decided - look) * BATCH / decision.expected_users)

    assert len(ratios) >= 10
    assert 0.5 < np.median(ratios) < 2.0


def test_without_a_clear_estimate_the_mde_is_taken() -> None:
    experiment = make_experiment(goal={"mde": 0.2})

    decision = report_of(experiment, drawn((0.3, 0.3), 4, seed=3), 4).decision

    assert decision.assuming == "the true effect is 20 %"
    # One look needs 2 × 7.85 × 2 × .22 / .06² = 1,900 users with power .8; evidence at any look about twice that.
    assert 2_000 < (decision.expected_users or 0) < 8_000


def test_days_follow_from_the_traffic() -> None:
    experiment = make_experiment(analysis={"min_days": 0})
    decision = report_of(experiment, drawn((0.3, 0.3), 8, seed=3), 8).decision

    per_day = BATCH * 86_400.0 / EPOCH
    window = 1.0 / 24.0
    assert decision.expected_days == pytest.approx((decision.expected_users or 0) / per_day + window, rel=0.01)


def test_without_data_nobody_can_say() -> None:
    experiment = make_experiment()

    decision = report_of(experiment, drawn((0.3, 0.3), 0, seed=1), 0).decision

    assert (decision.verdict, decision.expected_users) == ("keep_running", None)
    assert "cannot be said yet" in decision.sentence
