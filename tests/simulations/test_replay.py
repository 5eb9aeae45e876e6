from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from bandit.errors import InvalidInput
from simulations.recorded import RecordedTest, read_records
from simulations.replay import between_arm_variance, entries, ratio, replay, truths_of

TWO = RecordedTest("two", (100, 100), (20, 40))
THREE = RecordedTest("three", (100, 100, 200), (10, 30, 40))
RARE = [RecordedTest(f"t{i}", (3000, 3000, 3000), (20 + 3 * i, 60, 45 - i)) for i in range(12)]


def test_the_variance_between_arms_by_hand() -> None:
    # two: m = .3; (20/30 − 1)² + (40/30 − 1)² = 2/9; noise (1 − 1/2) · 2 · .7/(.3 · 100) = .07/3
    # three: m = .2; (.5 − 1)² + (1.5 − 1)² + 0 = .5; noise (2/3)(.8/.2)(1/100 + 1/100 + 1/200) = 1/15
    expected = (2 / 9 - 0.07 / 3 + 0.5 - 1 / 15) / (1 + 2)

    assert between_arm_variance([TWO, THREE]) == pytest.approx(expected, rel=1e-12)


def test_the_truth_is_shrunk_toward_the_rate_of_the_test_by_hand() -> None:
    truths = truths_of([TWO, THREE])

    tau2 = truths.spread**2
    weight = tau2 * 0.04 / (tau2 * 0.04 + 0.2 * 0.8 / np.array([100, 100, 200]))
    assert truths.rates[1] == pytest.approx(0.2 + weight * (np.array([0.1, 0.3, 0.2]) - 0.2), rel=1e-12)
    assert 0.1 < truths.rates[1][0] < 0.2 < truths.rates[1][1] < 0.3


def test_arms_that_differ_by_less_than_luck_are_taken_as_equal() -> None:
    truths = truths_of([RecordedTest("t", (100, 100), (20, 21))])

    assert truths.spread == 0.0
    assert truths.rates[0].tolist() == [0.205, 0.205]


def test_a_test_in_which_everybody_clicked_has_the_rate_one() -> None:
    truths = truths_of([TWO, RecordedTest("all", (5, 5), (5, 5))])

    assert truths.rates[1].tolist() == [1.0, 1.0]


def test_tests_that_say_nothing_are_left_out_and_counted() -> None:
    wide = RecordedTest("wide", (10,) * 51, (1,) * 51)
    records = [TWO, RecordedTest("none", (5, 5), (0, 0)), RecordedTest("one", (5,), (2,)), wide, THREE]

    truths = truths_of(records)

    assert truths.left_out == {"no_clicks": 1, "one_arm": 1, "too_many_arms": 1}
    assert list(truths.tests) == [TWO, THREE]


def test_nothing_to_replay_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no_clicks 0, one_arm 1"):
        truths_of([RecordedTest("one", (5,), (2,))])


def test_the_json_contract_key_by_key() -> None:
    document = json.loads(json.dumps(replay(truths_of(RARE), ["thompson", "fixed"], seed=4).to_dict()))

    assert list(document) == ["schema", "seed", "replications", "tests", "left_out", "policies"]
    assert [document[key] for key in ("schema", "seed", "replications", "tests")] == [1, 4, 1, 12]
    assert document["left_out"] == {"no_clicks": 0, "one_arm": 0, "too_many_arms": 0}
    assert list(document["policies"]) == ["thompson", "thompson (no floors)", "fixed"]
    for policy in document["policies"].values():
        assert list(policy) == ["gain_over_fixed", "gain_over_fixed_se", "regret_removed", "regret_removed_se"]
        assert all(isinstance(value, float) for value in policy.values())


def test_beside_a_policy_stands_the_same_one_under_the_other_floors() -> None:
    assert entries("ucb", 0.0, 0.0) == {"ucb": (0.0, 0.0), "ucb (default floors)": (None, None)}
    assert entries("ucb", None, None) == {"ucb": (None, None), "ucb (no floors)": (0.0, 0.0)}
    assert entries("fixed", 0.0, None) == {"fixed": (None, None)}


def test_thompson_sampling_gains_floors_cost_and_the_equal_split_is_the_zero() -> None:
    policies = replay(truths_of(RARE), ["thompson", "fixed"], replications=20).policies

    gains = {name: score.gain_over_fixed.value or 0.0 for name, score in policies.items()}
    removed = {name: score.regret_removed.value or 0.0 for name, score in policies.items()}
    assert gains["thompson (no floors)"] > gains["thompson"] > 0.05
    assert 0.9 > removed["thompson (no floors)"] > removed["thompson"] > 0.2
    assert abs(gains["fixed"]) < 0.005
    assert abs(removed["fixed"]) < 0.02


def test_runs_of_different_tests_are_not_mixed_up() -> None:
    opposite = [RecordedTest("a", (2000, 3000), (100, 450)), RecordedTest("b", (6000, 4000), (900, 200))]

    removed = replay(truths_of(opposite), ["thompson"], floor=0.0, control_floor=0.0, replications=3).policies

    assert (removed["thompson"].regret_removed.value or 0.0) > 0.8


def test_the_same_seed_gives_the_same_replay() -> None:
    truths = truths_of([*RARE, TWO])

    first, again, other = (replay(truths, ["thompson"], seed=seed).policies for seed in (1, 1, 2))

    assert first == again != other


def test_floors_must_fit_every_test() -> None:
    with pytest.raises(InvalidInput, match="with 3 variants"):
        replay(truths_of([TWO, THREE]), ["thompson"], floor=0.45)


def test_a_ratio_of_sums_has_the_error_of_the_ratio_estimator() -> None:
    rng = np.random.default_rng(1)
    below = rng.uniform(1.0, 3.0, (4_000, 50))
    above = 0.7 * below + rng.normal(0.0, 0.3, below.shape)

    found = [ratio(a, b) for a, b in zip(above, below, strict=True)]

    values, errors = (np.array([getattr(one, name) for one in found]) for name in ("value", "error"))
    assert errors.mean() == pytest.approx(values.std(), rel=0.05)


def test_the_shipped_tests_are_the_ones_that_their_readme_counts() -> None:
    with_readme = Path(str(files("simulations"))) / "data"

    records = read_records(with_readme / "headlines.csv.gz")

    arms = sum(len(test.clicks) for test in records)
    text = (with_readme / "README.md").read_text(encoding="utf-8")
    assert f"{len(records):,} real" in text
    assert f"{arms:,} arms" in text
    assert (with_readme / "headlines.csv.gz").read_bytes()[4:8] == bytes(4)  # no time in the gzip header
    assert truths_of(records).spread == pytest.approx(0.2467, abs=0.0001)
