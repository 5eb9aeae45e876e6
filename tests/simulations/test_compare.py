from __future__ import annotations

import json

import pytest

from bandit.errors import InvalidInput
from simulations.compare import POLICIES, compare, under
from simulations.scores import Estimate
from simulations.tables import comparison_sentences, shown
from tests.bandit.making import make_experiment
from tests.simulations.making import make_world

NUMBERS = ["reward_per_user", "gain_over_fixed", "regret", "share_best", "picked_best", "epochs"]


def test_the_json_contract_key_by_key() -> None:
    world = make_world([0.3, 0.4], guardrails=[{"metric": "harmful", "kind": "binary", "max": 0.01}])

    document = json.loads(json.dumps(compare(world, ["thompson", "fixed"], users=300, replications=5).to_dict()))

    assert list(document) == ["schema", "seed", "users", "replications", "not_simulated", "policies"]
    assert [document[key] for key in list(document)[:5]] == [1, 1, 300, 5, ["harmful"]]
    assert list(document["policies"]) == ["thompson", "fixed"]
    for policy in document["policies"].values():
        pairs = [key for name in NUMBERS for key in (name, f"{name}_se")]
        assert list(policy) == [*pairs, "welch", "guardrails"]
        assert list(policy["welch"]) == ["significant", "significant_se", "mean_difference", "mean_difference_se"]
        assert all(isinstance(policy[key], float) for key in pairs)
        assert policy["guardrails"] == []


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_of_the_engine_can_be_compared(kind: str) -> None:
    world = make_world([0.3, 0.5])

    result = compare(world, [kind], users=1_500, replications=20).policies[kind]

    share = result.numbers["share_best"].value
    assert share is not None
    assert (share > 0.55) == (kind not in ("fixed", "top_two"))  # two arms: top-two with beta 1/2 is the equal split


def test_a_policys_numbers_do_not_depend_on_the_others() -> None:
    world = make_world([0.3, 0.4])

    alone = compare(world, ["ucb"], users=400, replications=10, seed=3)
    among = compare(world, ["thompson", "ucb", "fixed"], users=400, replications=10, seed=3)

    assert alone.policies["ucb"] == among.policies["ucb"]


def test_another_seed_gives_other_numbers() -> None:
    world = make_world([0.3, 0.4])

    first, second = (compare(world, ["thompson"], users=400, replications=10, seed=seed) for seed in (1, 2))

    assert first.policies != second.policies


def test_fixed_is_the_split_of_a_fixed_file_else_equal() -> None:
    policy = {"split": {"A": 0.9, "B": 0.1}}

    assert under(make_experiment(policy=policy | {"kind": "fixed"}), "fixed").split == (0.9, 0.1)
    assert under(make_experiment(policy=policy | {"kind": "thompson"}), "fixed").split == (0.5, 0.5)


def test_floors_are_the_files_unless_others_are_asked_for() -> None:
    experiment = make_experiment(3, policy={"floor": 0.05, "control_floor": 0.3})

    assert under(experiment, "ucb").floors == (0.3, 0.05, 0.05)
    assert under(experiment, "ucb", floor=0.0).floors == (0.3, 0.0, 0.0)
    assert under(experiment, "ucb", control_floor=0.0).floors == (0.05, 0.05, 0.05)


def test_floors_act_on_every_policy_but_fixed() -> None:
    world = make_world([0.0, 1.0], goal={"baseline": 0.5})

    result = compare(world, ["thompson", "fixed"], users=5_000, replications=20, floor=0.25, control_floor=0.25)

    shares = [score.numbers["share_best"].value for score in result.policies.values()]
    assert shares == [pytest.approx(0.745, abs=0.01), pytest.approx(0.5, abs=0.01)]


@pytest.mark.parametrize(
    ("policy", "floor", "message"),
    [("tompson", None, "did you mean 'thompson'"), ("thompson", 0.6, "at most 0.5 fits")],
)
def test_what_does_not_fit_is_refused_in_words(policy: str, floor: float | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compare(make_world([0.3, 0.4]), [policy], users=10, replications=1, floor=floor)


def test_equal_arms_are_told_as_false_positives_and_others_by_the_true_difference() -> None:
    equal = compare(make_world([0.3, 0.3]), ["thompson"], users=500, replications=10)
    better = compare(make_world([0.3, 0.36]), ["thompson"], users=500, replications=10)

    assert "each significant run is a false positive" in comparison_sentences(equal)[0]
    assert "+0.06" in comparison_sentences(better)[0]


@pytest.mark.parametrize(
    ("estimate", "percent", "text"),
    [
        (Estimate(12.3456, 0.123), False, "12.35 ± 0.12"),
        (Estimate(0.123456, 0.00123), True, "12.35 ± 0.12 %"),
        (Estimate(12_345.6, 123.0), False, "12,346 ± 123"),
        (Estimate(1.0, 0.0), True, "100 %"),
        (Estimate(120.0, None), False, "120"),
        (Estimate(None, None), False, "–"),
    ],
)
def test_numbers_are_shown_with_two_digits_of_their_error(estimate: Estimate, percent: bool, text: str) -> None:
    assert shown(estimate, percent=percent) == text
