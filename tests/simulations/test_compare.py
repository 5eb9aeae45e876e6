from __future__ import annotations

import json
import re

import pytest

from bandit import __version__
from bandit.errors import InvalidInput
from simulations.advice import advice
from simulations.compare import POLICIES, compare, settings_of, under
from simulations.scores import Estimate
from simulations.tables import comparison_sentences, shown
from simulations.world_files import parse_world
from simulations.worlds import World
from tests.bandit.making import make_experiment
from tests.simulations.making import make_world

DECIDING = ["decided", "users_to_decision", "wrong_decision", "reward_acted_on"]
NUMBERS = ["reward_per_user", "gain_over_fixed", "regret", "share_best", "picked_best", "epochs"]


def test_the_json_contract_key_by_key() -> None:
    world = make_world([0.3, 0.4], guardrails=[{"metric": "harmful", "kind": "binary", "max": 0.01}])

    document = json.loads(json.dumps(compare(world, ["thompson", "fixed"], users=300, replications=5).to_dict()))

    assert list(document) == [
        "schema", "version", "seed", "users", "replications", "not_simulated", "policies", "baselines", "bounds",
    ]  # fmt: skip
    assert [document[key] for key in list(document)[:6]] == [1, __version__, 1, 300, 5, ["harmful"]]
    assert list(document["baselines"]) == ["A", "B"]
    assert list(document["bounds"]) == ["regret", "users_to_best"]
    assert list(document["policies"]) == ["thompson", "fixed"]
    for policy in document["policies"].values():
        pairs = [key for name in (*NUMBERS, *DECIDING) for key in (name, f"{name}_se")]
        assert list(policy) == [
            *pairs, "welch", "guardrails", "exposed_to_breach", "exposed_to_breach_se", "false_suspensions",
            "false_suspensions_se", "share_best_within_limits", "share_best_within_limits_se", "suspensions",
            "against_fixed",
        ]  # fmt: skip
        assert list(policy["welch"]) == ["significant", "significant_se", "mean_difference", "mean_difference_se"]
        assert all(isinstance(policy[key], float) for key in pairs)
        assert policy["guardrails"] == []
        assert list(policy["suspensions"]) == ["B"]
        assert policy["suspensions"]["B"] == {
            "breaks_limit": False,
            "suspended": 0.0,
            "suspended_se": 0.0,
            "suspended_after": None,
            "suspended_after_se": None,
        }


def guarded(harm: float) -> World:
    rails = [{"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}]
    laws = {arm: {"resolved": rate, "harmful": h} for arm, rate, h in (("A", 0.3, 0.005), ("B", 0.4, harm))}
    return parse_world(make_experiment(guardrails=rails), {"variants": laws})


def test_beside_each_policy_stands_the_same_one_without_guardrails() -> None:
    world = guarded(harm=0.1)

    result = compare(world, ["thompson", "fixed"], users=2_000, replications=100)

    assert list(result.policies) == ["thompson", "thompson (no guardrails)", "fixed", "fixed (no guardrails)"]
    exposed = {name: score.limits["exposed_to_breach"].value or 0.0 for name, score in result.policies.items()}
    assert exposed["fixed (no guardrails)"] == pytest.approx(1_000, abs=10)
    assert exposed["thompson (no guardrails)"] > 1_200
    assert exposed["fixed"] < 300
    assert exposed["thompson"] < 200
    suspended = result.policies["thompson"].suspensions["B"]
    assert suspended.breaks
    assert suspended.suspended.value == pytest.approx(1.0, abs=0.05)
    assert 50 < (suspended.after.value or 0.0) < 1_000
    assert result.policies["thompson"].limits["false_suspensions"].value == 0.0
    assert (result.policies["thompson"].limits["share_best_within_limits"].value or 0.0) > 0.9
    said = "In truth, B breaks harmful; the best that keeps its limits is A with resolved 0.3."
    assert said in comparison_sentences(result)


def test_without_guardrails_a_policy_has_the_numbers_of_an_experiment_that_has_none() -> None:
    world = guarded(harm=0.1)
    plain = compare(make_world([0.3, 0.4]), ["thompson"], users=700, replications=20).policies["thompson"]

    found = compare(world, ["thompson"], users=700, replications=20).policies["thompson (no guardrails)"]

    assert found.numbers == plain.numbers


@pytest.mark.parametrize(
    ("name", "kind", "half_life"),
    [("ucb", "ucb", 900), ("thompson:half_life=5000", "thompson", 5000), ("top_two:half_life=none", "top_two", None)],
)
def test_a_policys_name_may_say_how_it_forgets(name: str, kind: str, half_life: int | None) -> None:
    settings = under(make_experiment(policy={"half_life": 900}), name).policy

    assert (settings.kind, settings.half_life) == (kind, half_life)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thompson:half_life=7d", "received half_life='7d', allowed: a whole number of users from 1"),
        ("thompson:half_life=0", "'0'"),
        ("thompson:half_life=", "''"),
        ("thompson:half_life=-3", "'-3'"),
        ("thompson:half_life=1" + "0" * 30, "a whole number"),
        ("thompson:beta=0.5", "allowed: half_life=USERS or half_life=none"),
        ("thompson:", "received '' after thompson"),
        ("tompson:half_life=7", "did you mean 'thompson'"),
    ],
)
def test_a_policys_name_that_says_nothing_is_refused_in_words(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        settings_of(name)


def test_a_half_life_in_time_is_refused_with_the_cure() -> None:
    world = make_world([0.3, 0.4], policy={"half_life": "7d"})

    with pytest.raises(InvalidInput, match="no clock; allowed: a number of users"):
        compare(world, ["thompson"], users=10, replications=1)

    compare(world, ["thompson:half_life=50", "thompson:half_life=none", "fixed"], users=10, replications=1)


def test_a_world_that_changes_is_told_as_such() -> None:
    rails = [{"metric": "harmful", "kind": "binary", "max": 0.01}]
    laws = {arm: {"resolved": rate, "harmful": 0.005} for arm, rate in (("A", 0.3), ("B", 0.4))}
    change = {"after_users": 100, "variants": {"B": {"resolved": 0.2, "harmful": 0.02}}}
    world = parse_world(make_experiment(guardrails=rails), {"variants": laws, "changes": [change]})

    told = comparison_sentences(compare(world, ["thompson"], users=200, replications=5))

    assert "+0.1, then -0.1" in told[0]
    assert told[2:4] == [
        "In truth, before the change, every variant keeps its limits.",
        "In truth, after 100 users, B breaks harmful; the best that keeps its limits is A with resolved 0.3.",
    ]


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


def test_a_pair_of_runs_has_the_same_luck_so_its_difference_is_known_better() -> None:
    found = compare(make_world([0.3, 0.34]), ["thompson", "fixed"], users=3_000, replications=200)

    paired = found.against_fixed("thompson")["reward_per_user"]
    own, base = (found.policies[name].numbers["reward_per_user"] for name in ("thompson", "fixed"))
    assert paired.value == pytest.approx((own.value or 0.0) - (base.value or 0.0))
    assert found.against_fixed("fixed") == {}
    assert compare(make_world([0.3, 0.34]), ["thompson"], users=10, replications=2).against_fixed("thompson") == {}
    said = json.loads(json.dumps(found.to_dict()))["policies"]["thompson"]["against_fixed"]
    assert said["reward_per_user"] == paired.value


def test_acting_on_a_decision_is_worth_what_it_was_for_from_then_on() -> None:
    """Equal split, so each user before the decision is worth the middle of the two and each after it the best."""
    found = compare(make_world([0.3, 0.4]), ["fixed"], users=5_000, replications=100).policies["fixed"]

    until = found.each["users_to_decision"] / 5_000
    assert (found.deciding["decided"].value, found.deciding["wrong_decision"].value) == (1.0, 0.0)
    expected = 0.35 * until + 0.4 * (1.0 - until)
    assert found.each["reward_acted_on"] == pytest.approx(expected, abs=0.002)


def test_without_decisions_nothing_is_said_of_them() -> None:
    found = compare(make_world([0.3, 0.4]), ["thompson", "fixed"], users=100, replications=3, decide=False)

    assert found.policies["fixed"].deciding == {}
    assert "decided" not in found.policies["fixed"].to_dict()
    assert advice(found) == []


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


def test_a_gradual_change_is_told_by_its_ends() -> None:
    rails = [{"metric": "harmful", "kind": "binary", "max": 0.01}]
    laws = {arm: {"resolved": rate, "harmful": 0.005} for arm, rate in (("A", 0.3), ("B", 0.4))}
    change = {"after_users": 100, "over_users": 60, "variants": {"B": {"resolved": 0.2, "harmful": 0.025}}}
    world = parse_world(make_experiment(guardrails=rails), {"variants": laws, "changes": [change]})

    told = comparison_sentences(compare(world, ["thompson"], users=200, replications=5))

    assert "+0.1, then step by step, then -0.1" in told[0]
    on_limits = [each for each in told if each.startswith("In truth")]
    assert on_limits[0] == "In truth, before the change, every variant keeps its limits."
    assert len(on_limits) == 2
    assert "after 115 users, B breaks harmful" in on_limits[1]


def test_a_change_that_no_user_sees_is_none() -> None:
    still = make_world([0.3, 0.4])
    document = {"variants": {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}}
    change = {"after_users": 500, "variants": {"B": {"resolved": 0.1}}}
    moved = parse_world(make_experiment(), {**document, "changes": [change]})

    found, plain = (compare(world, ["thompson", "fixed"], users=500, replications=20) for world in (moved, still))
    assert found.policies == plain.policies
    assert found.baselines == plain.baselines
    assert found.bounds == plain.bounds
    assert compare(moved, ["fixed"], users=501, replications=5).bounds is None


def test_one_run_advises_nothing() -> None:
    assert advice(compare(make_world([0.3, 0.6]), ["thompson", "fixed"], users=500, replications=1)) == [
        "One run advises nothing; more (--replications) say how much of a difference is luck."
    ]


def test_where_nothing_ever_comes_advice_has_numbers() -> None:
    world = make_world([{"mean": 0.0, "sd": 0.0}, {"mean": 0.0, "sd": 0.0}], goal={"kind": "numeric"})
    said = " ".join(advice(compare(world, ["thompson", "fixed"], users=300, replications=3)))
    assert "nan" not in said
    assert "inf" not in said
