from __future__ import annotations

import math

import pytest

from bandit.errors import InvalidInput
from simulations.sizing import sizing
from simulations.tables import sizing_sentences
from tests.bandit.making import NUMERIC, make_experiment


def test_a_plan_counts_all_variants_and_whole_days() -> None:
    # baseline .76, mde 5 %, alpha .05, power .8: 1,872 per variant, the z-solution of statsmodels 1,871.5
    experiment = make_experiment(3, rollout={"exposure": 0.5})

    sized = sizing(experiment, 1_000, baseline=0.76)

    assert sized.to_dict() == {
        "schema": 1,
        "users_per_variant": 1_872,
        "total_users": 5_616,
        "days": 12,
        "effect_size": pytest.approx(0.0916, abs=1e-4),
        "cohens_h": pytest.approx(2 * (math.asin(math.sqrt(0.798)) - math.asin(math.sqrt(0.76)))),
        "method": sized.plan.method,
    }
    assert "two variants, one look" in sized.plan.method


def test_three_variants_are_told_that_nothing_is_corrected() -> None:
    for arms, told in ((2, False), (3, True)):
        experiment = make_experiment(arms)
        text = " ".join(sizing_sentences(experiment, sizing(experiment, 10, baseline=0.5), 10))
        assert ("No correction for several comparisons" in text) == told
        assert "two variants, one look" in text


def test_means_have_no_cohens_h() -> None:
    assert sizing(make_experiment(goal=NUMERIC), 10, baseline=4.0, sd=0.8).to_dict()["cohens_h"] is None


@pytest.mark.parametrize("per_day", [0, -1, math.nan, math.inf])
def test_users_per_day_must_be_positive(per_day: float) -> None:
    with pytest.raises(InvalidInput, match="users-per-day"):
        sizing(make_experiment(), per_day, baseline=0.5)


def test_nobody_enrolled_is_no_plan() -> None:
    with pytest.raises(InvalidInput, match="exposure"):
        sizing(make_experiment(rollout={"exposure": 0.0}), 10, baseline=0.5)
