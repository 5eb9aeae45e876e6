from __future__ import annotations

import pytest

from bandit.inference.shares import (
    arm_share,
    breach_level,
    data_check_level,
    decision_level,
    fixed_time_level,
    guardrail_share,
    planned_pair_users,
    planned_users,
)
from tests.bandit.making import make_experiment

RAILS = [{"metric": f"harm{i}", "kind": "binary", "max": 0.1} for i in range(3)]


@pytest.mark.parametrize("arms", [2, 5])
@pytest.mark.parametrize("rails", [0, 3])
def test_all_that_may_err_on_arms_present_at_the_start_is_four_fifths_of_alpha(arms: int, rails: int) -> None:
    experiment = make_experiment(arms, policy={"alpha": 0.1}, guardrails=RAILS[:rails])

    treatments = arms - 1
    assert treatments * arm_share(experiment) == pytest.approx(0.08)
    assert treatments * 2.0 * decision_level(experiment) == pytest.approx(0.08)
    assert treatments * (rails + 1) * guardrail_share(experiment) == pytest.approx(0.08)
    limits = sum(1.0 / (i * (i + 1)) for i in range(1, 10_000))
    windows = sum(1.0 / (d * (d + 1)) for d in range(1, 10_000))
    first_of_all = breach_level(experiment) * 4.0  # first limit and first window get half each
    assert first_of_all * limits * windows == pytest.approx(guardrail_share(experiment), rel=1e-3)


def test_a_wrong_deploy_of_any_arm_has_half_of_alpha_at_most() -> None:
    experiment = make_experiment(4)

    assert 3 * decision_level(experiment) <= experiment.policy.alpha / 2.0


def test_fixed_time_intervals_share_alpha_among_treatments() -> None:
    assert fixed_time_level(make_experiment(6, policy={"alpha": 0.1})) == pytest.approx(0.02)


def test_three_data_checks_share_alpha_among_their_tests() -> None:
    assert 3 * 4 * data_check_level(make_experiment(4), 4) == pytest.approx(0.05)


def test_intervals_are_tuned_to_half_of_the_horizon_or_to_ten_thousand_users() -> None:
    with_horizon = make_experiment(4, analysis={"horizon_users": 30_000})

    assert planned_users(with_horizon) == 15_000
    assert planned_pair_users(with_horizon) == 7_500
    assert planned_users(make_experiment()) == 10_000
    assert planned_pair_users(make_experiment()) == 10_000
