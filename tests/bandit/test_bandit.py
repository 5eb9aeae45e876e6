from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bandit import Bandit, Experiment
from bandit.errors import (
    BanditError,
    ConflictingReward,
    InvalidId,
    InvalidInput,
    InvalidReward,
    NoAssignment,
    UnknownVariant,
    WrongState,
)
from bandit.measures import N, Z
from tests.bandit.making import NUMERIC, Clock, make_experiment

LATENCY = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}
HOUR = 3600.0


def request_window(**parts: Any) -> Experiment:  # noqa: ANN401
    return make_experiment(rewards={"window": "request"}, **parts)


def fill(bandit: Bandit, users: range, value: float = 1.0) -> None:
    for i in users:
        bandit.choose(f"user-{i}")
        bandit.reward(f"user-{i}", value)


def goal_sums(bandit: Bandit) -> tuple[float, float]:
    total = bandit.ledger.sums[0].sum(axis=(0, 1))
    return float(total[N]), float(total[Z])


# Sticky users


def test_a_user_keeps_the_variant_whatever_happens_to_the_traffic() -> None:
    bandit = Bandit(make_experiment(3))
    first = {f"user-{i}": bandit.choose(f"user-{i}") for i in range(300)}
    fill(bandit, range(300, 900))

    for user, assignment in first.items():
        again = bandit.choose(user)
        assert (again.variant, again.propensity, again.epoch) == (
            assignment.variant,
            assignment.propensity,
            assignment.epoch,
        )
        assert (assignment.reason, again.reason) == ("new", "sticky")


def test_the_answer_carries_the_variants_config() -> None:
    assignment = Bandit(make_experiment()).choose("user-1")

    assert assignment.config == {"prompt": assignment.variant}


def test_choosing_twice_counts_a_user_once() -> None:
    bandit = Bandit(make_experiment())
    for _ in range(5):
        bandit.choose("user-1")

    assert bandit.ledger.assigned.sum() == 1


def test_users_outside_the_exposure_get_control_and_are_not_counted() -> None:
    bandit = Bandit(make_experiment(rollout={"exposure": 0.3}))

    answers = [bandit.choose(f"user-{i}") for i in range(2000)]

    outside = [a for a in answers if a.reason == "not_enrolled"]
    assert 0.65 < len(outside) / 2000 < 0.75
    assert {(a.variant, a.propensity, a.epoch) for a in outside} == {("A", None, None)}
    assert bandit.ledger.assigned.sum() == 2000 - len(outside)


def test_propensities_are_those_of_the_published_allocation() -> None:
    bandit = Bandit(make_experiment(3, policy={"warmup": 0}))

    allocation = bandit.allocation
    assignment = bandit.choose("user-1")

    assert allocation is not None
    assert assignment.propensity == allocation.probabilities["ABC".index(assignment.variant)]
    assert assignment.epoch == allocation.epoch == 1


# Epochs


def test_an_epoch_ends_before_the_draw_that_follows_a_full_batch() -> None:
    bandit = Bandit(make_experiment())

    epochs = []
    for i in range(120):
        epochs.append(bandit.choose(f"user-{i}").epoch)
        bandit.reward(f"user-{i}", 1)

    assert epochs == [1] * 50 + [2] * 50 + [3] * 20
    assert bandit.closed_epochs == 2


def test_traffic_moves_to_the_better_variant() -> None:
    bandit = Bandit(make_experiment())
    for i in range(2000):
        better = bandit.choose(f"user-{i}").variant == "B"
        bandit.reward(f"user-{i}", 1 if i % 10 < (6 if better else 3) else 0)

    allocation = bandit.allocation
    assert allocation is not None
    assert allocation.probabilities[1] > 0.79  # 1 − the control floor is the most it can be


def test_an_allocation_says_how_many_closed_epochs_it_read() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    fill(bandit, range(120))

    assert [epoch.allocation.learned_epochs for epoch in bandit.epochs] == [0, 0, 0]
    clock.now += 2 * HOUR
    fill(bandit, range(120, 121))
    assert bandit.epochs[-1].allocation.learned_epochs >= 2


def test_epochs_close_when_the_windows_of_all_their_users_are_over() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    fill(bandit, range(51))
    clock.now += HOUR
    bandit.tick()
    assert bandit.closed_epochs == 0

    clock.now += 1
    bandit.tick()

    assert bandit.closed_epochs == 1


def test_an_old_epoch_is_renewed_only_if_something_happened_in_it() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(policy={"max_epoch": "10m"}), clock)
    clock.now += 601
    bandit.tick()
    assert len(bandit.epochs) == 1

    bandit.choose("user-1")
    bandit.tick()

    assert len(bandit.epochs) == 2


def test_learning_renews_an_allocation_without_new_users() -> None:
    """Users of closed epochs have grown by a batch since the allocation was made."""
    clock = Clock()
    bandit = Bandit(make_experiment(policy={"max_epoch": "7d"}), clock)
    fill(bandit, range(101))
    assert bandit.epochs[-1].allocation.epoch == 3

    clock.now += HOUR + 1
    epoch = bandit.choose("someone").epoch

    assert epoch == 4
    assert bandit.epochs[-1].allocation.learned_epochs == 2


def test_epochs_fold_in_order_only() -> None:
    clock = Clock()
    bandit = Bandit(request_window(), clock)
    for i in range(101):
        bandit.choose(f"user-{i}")
    for i in range(50, 100):
        bandit.reward(f"user-{i}", 1)

    assert bandit.epochs[1].closed_at is not None
    assert bandit.closed_epochs == 0
    for i in range(50):
        bandit.reward(f"user-{i}", 1)
    assert bandit.closed_epochs == 2


def test_a_request_epoch_closes_by_time_when_a_user_never_answers() -> None:
    clock = Clock()
    bandit = Bandit(request_window(), clock)
    fill(bandit, range(49))
    bandit.choose("silent")
    bandit.choose("next")
    assert bandit.closed_epochs == 0

    clock.now += 61
    bandit.tick()

    assert bandit.closed_epochs == 1
    report = bandit.report()
    assert sum(v.missing for v in report.variants) == 1
    assert sum(v.users for v in report.variants) == 50  # missing = "worst": counts as 0


def test_the_clock_never_runs_backwards() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    bandit.choose("user-1")
    clock.now += 2 * HOUR
    assert bandit.reward("user-1", 1).late == ("resolved",)

    clock.now -= 2 * HOUR

    assert bandit.reward("user-1", 1).late == ("resolved",)


# Rewards


def test_a_reward_is_credited_to_the_epoch_that_assigned_its_user() -> None:
    bandit = Bandit(make_experiment(), Clock())
    fill(bandit, range(60), value=0)

    bandit.reward("user-1", 1)

    assert bandit.ledger.sums[0][:, :, Z].sum(axis=1).tolist() == [0.5, 0.0]  # the mean of 0 and 1


def test_the_same_request_counts_once() -> None:
    bandit = Bandit(make_experiment())
    bandit.choose("user-1")

    receipts = [bandit.reward("user-1", {"resolved": value}, request_id="r1") for value in (1, True, 1.0)]

    assert [r.accepted for r in receipts] == [("resolved",), (), ()]
    assert [r.duplicate for r in receipts] == [(), ("resolved",), ("resolved",)]
    assert goal_sums(bandit) == (1.0, 1.0)


def test_a_request_id_with_another_value_or_user_is_a_conflict_and_stores_nothing_of_the_call() -> None:
    bandit = Bandit(make_experiment(guardrails=[LATENCY]))
    bandit.choose("user-1")
    bandit.choose("user-2")
    bandit.reward("user-1", {"resolved": 1}, request_id="r1")

    with pytest.raises(ConflictingReward, match="value 1"):
        bandit.reward("user-1", {"latency_ms": 100, "resolved": 0}, request_id="r1")
    with pytest.raises(ConflictingReward, match="another user"):
        bandit.reward("user-2", {"resolved": 1}, request_id="r1")

    assert goal_sums(bandit) == (1.0, 1.0)
    assert bandit.ledger.sums[1].sum() == 0


@pytest.mark.parametrize(("per_user", "y"), [("mean", 0.5), ("first", 0.0), ("any", 1.0)])
def test_replace_corrects_an_earlier_value(per_user: str, y: float) -> None:
    bandit = Bandit(make_experiment(goal={"per_user": per_user}))
    bandit.choose("user-1")
    bandit.reward("user-1", {"resolved": 1}, request_id="r1")
    bandit.reward("user-1", {"resolved": 1}, request_id="r2")

    receipt = bandit.reward("user-1", {"resolved": 0}, request_id="r1", replace=True)

    assert receipt.accepted == ("resolved",)
    assert goal_sums(bandit) == (1.0, y)
    assert bandit.reward("user-1", {"resolved": 0}, request_id="r1").duplicate == ("resolved",)


def test_replace_comes_too_late_after_the_window() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    bandit.choose("user-1")
    bandit.reward("user-1", {"resolved": 1}, request_id="r1")
    clock.now += HOUR + 1

    assert bandit.reward("user-1", {"resolved": 0}, request_id="r1", replace=True).late == ("resolved",)
    assert goal_sums(bandit) == (1.0, 1.0)


def test_a_late_reward_is_remembered_but_not_learned() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    bandit.choose("user-1")
    clock.now += HOUR + 1

    assert bandit.reward("user-1", {"resolved": 1}, request_id="r1").late == ("resolved",)
    assert bandit.reward("user-1", {"resolved": 1}, request_id="r1").late == ("resolved",)
    assert goal_sums(bandit) == (0.0, 0.0)


def test_the_window_counts_from_the_users_own_assignment() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    bandit.choose("early")
    clock.now += HOUR / 2
    bandit.choose("later")
    clock.now += HOUR / 2 + 1

    assert bandit.reward("early", 1).late == ("resolved",)
    assert bandit.reward("later", 1).accepted == ("resolved",)


def test_with_a_request_window_the_first_value_of_each_metric_is_final() -> None:
    bandit = Bandit(request_window(guardrails=[LATENCY]), Clock())
    bandit.choose("user-1")
    bandit.reward("user-1", {"resolved": 1}, request_id="r1")

    receipt = bandit.reward("user-1", {"resolved": 0, "latency_ms": 90}, request_id="r2")

    assert (receipt.accepted, receipt.late) == (("latency_ms",), ("resolved",))
    assert bandit.reward("user-1", {"resolved": 0}, request_id="r1", replace=True).late == ("resolved",)
    assert goal_sums(bandit) == (1.0, 1.0)


def test_a_reward_of_another_variant_is_credited_to_nobody() -> None:
    bandit = Bandit(make_experiment())
    mine = bandit.choose("user-1").variant
    other = "B" if mine == "A" else "A"

    receipt = bandit.reward("user-1", {"resolved": 1}, request_id="r1", variant=other)

    assert receipt.ignored == {"resolved": "other_variant"}
    assert bandit.reward("user-1", {"resolved": 1}, request_id="r1", variant=mine).ignored == receipt.ignored
    assert goal_sums(bandit) == (0.0, 0.0)


def test_a_reward_before_choose_is_refused() -> None:
    with pytest.raises(NoAssignment, match="call choose first"):
        Bandit(make_experiment()).reward("user-1", 1)


def test_a_reward_of_a_user_outside_is_ignored_and_never_adopted() -> None:
    bandit = Bandit(make_experiment(rollout={"exposure": 0.0}))

    assert bandit.reward("user-1", {"resolved": 1}, request_id="r1").ignored == {"resolved": "not_enrolled"}


def test_a_failure_is_charged_to_the_variant() -> None:
    cost = {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2}
    failures = {"metric": "failed", "kind": "binary", "max": 0.05}
    bandit = Bandit(make_experiment(guardrails=[LATENCY, cost, failures]))
    bandit.choose("user-1")

    receipt = bandit.reward("user-1", {"latency_ms": 3, "cost_usd": 0.1}, failed=True)

    rows = [s.sum(axis=(0, 1))[:2].tolist() for s in bandit.ledger.sums]
    assert rows == [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]  # goal, latency, cost, failed
    assert receipt.accepted == ("failed",)
    assert receipt.ignored == {"latency_ms": "failed", "cost_usd": "failed"}


def test_a_failure_is_the_worst_value_also_where_lower_is_better() -> None:
    bandit = Bandit(make_experiment(goal={"better": "lower"}))
    bandit.choose("user-1")
    bandit.reward("user-1", {}, failed=True)

    assert goal_sums(bandit) == (1.0, 1.0)


def test_a_success_counts_for_a_guardrail_on_failures() -> None:
    bandit = Bandit(make_experiment(guardrails=[{"metric": "failed", "kind": "binary", "max": 0.05}]))
    bandit.choose("user-1")
    bandit.reward("user-1", 1, failed=False)

    assert bandit.ledger.sums[1].sum(axis=(0, 1))[:2].tolist() == [1.0, 0.0]


def test_the_origin_of_a_numeric_metric_is_its_first_value_and_keeps_the_digits() -> None:
    bandit = Bandit(make_experiment(goal=NUMERIC, policy={"kind": "fixed"}))
    rng = np.random.default_rng(3)
    y = 1e8 + rng.normal(0, 1, 500)
    for i, value in enumerate(y):
        bandit.choose(f"user-{i}")
        bandit.reward(f"user-{i}", float(value))
    bandit.stop()

    report = bandit.report()

    mean = sum(v.users * (v.mean or 0.0) for v in report.variants) / 500
    assert mean == pytest.approx(y.mean(), abs=1e-6)
    assert report.variants[1].welch is not None
    assert report.variants[1].welch.interval[1] - report.variants[1].welch.interval[0] < 0.5
    assert bandit.origins[0] == y[0]


def test_closed_sums_are_exact_whatever_was_corrected() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(goal=NUMERIC, policy={"kind": "fixed"}), clock)
    rng = np.random.default_rng(8)
    outcomes: dict[str, list[float]] = {"A": [], "B": []}
    for i, y in enumerate(rng.normal(5, 1, 300).tolist()):
        outcomes[bandit.choose(f"user-{i}").variant].append(y)
        if i == 100:
            bandit.reward(f"user-{i}", {"score": 1.7e12}, request_id="mistake")
            bandit.reward(f"user-{i}", {"score": y}, request_id="mistake", replace=True)
        else:
            bandit.reward(f"user-{i}", y)
    bandit.stop()
    clock.now += 2 * HOUR
    bandit.tick()

    a, b = bandit.report().variants

    expected = stats.ttest_ind(outcomes["B"], outcomes["A"], equal_var=False)
    assert b.welch is not None
    assert b.welch.p_value == pytest.approx(expected.pvalue)
    assert a.mean == pytest.approx(np.mean(outcomes["A"]))


@given(order=st.permutations(range(12)))
def test_closed_sums_do_not_depend_on_the_order_of_rewards(order: list[int]) -> None:
    def closed(users: list[int]) -> bytes:
        bandit = Bandit(make_experiment(goal=NUMERIC | {"baseline": 0.3}, policy={"kind": "fixed"}))
        for i in range(12):
            bandit.choose(f"user-{i}")
        for i in users:
            bandit.reward(f"user-{i}", 0.1 * i**3)
        bandit.stop()
        return bandit.ledger.sums[0].tobytes()

    assert closed(order) == closed(list(range(12)))


def test_with_a_request_window_a_value_after_the_time_limit_is_late_though_nobody_looked() -> None:
    clock = Clock()
    bandit = Bandit(request_window(policy={"min_batch": 1}), clock)
    bandit.choose("user-1")
    bandit.choose("user-2")
    clock.now += 61

    assert bandit.reward("user-1", 1).late == ("resolved",)


def test_numbers_of_arrays_are_numbers() -> None:
    bandit = Bandit(make_experiment(guardrails=[LATENCY]))
    bandit.choose("user-1")

    receipt = bandit.reward("user-1", {"resolved": np.bool_(True), "latency_ms": np.float32(2000)})

    assert receipt.accepted == ("resolved", "latency_ms")
    assert [float(s[..., Z].sum()) for s in bandit.ledger.sums] == [1.0, 1.0]


def test_users_of_an_epoch_without_any_answer_count_as_zero_beside_later_values() -> None:
    bandit = Bandit(make_experiment(goal=NUMERIC | {"per_user": "sum"}, policy={"kind": "fixed"}))
    for i in range(100):
        bandit.choose(f"user-{i}")
        if i >= 50:
            bandit.reward(f"user-{i}", 8.0)
    bandit.stop()

    means = [(v.users, v.mean or 0.0) for v in bandit.report().variants]

    assert sum(users * mean for users, mean in means) == pytest.approx(400)


# Bad input changes nothing

BAD_REWARDS: list[tuple[dict[str, Any], type[BanditError], str]] = [
    ({"metrics": {}}, InvalidReward, "received none"),
    ({"metrics": {"resolvd": 1}}, InvalidReward, "unknown metric"),
    ({"metrics": {"resolved": 0.5}}, InvalidReward, "0, 1, true or false"),
    ({"metrics": {"resolved": "1"}}, InvalidReward, "0, 1, true or false"),
    ({"metrics": {"resolved": None}}, InvalidReward, "0, 1, true or false"),
    ({"metrics": {"latency_ms": True}}, InvalidReward, "a number"),
    ({"metrics": {"latency_ms": "9"}}, InvalidReward, "a number"),
    ({"metrics": {"latency_ms": float("nan")}}, InvalidReward, "received nan"),
    ({"metrics": {"latency_ms": float("inf")}}, InvalidReward, "received inf"),
    ({"metrics": {"latency_ms": 10**400}}, InvalidReward, "huge"),
    ({"metrics": {"cost_usd": -0.1}}, InvalidReward, "from 0"),
    ({"metrics": {"score": 5.1}}, InvalidReward, "from 1 to 5"),
    ({"metrics": {"resolved": 1, "latency_ms": "x"}}, InvalidReward, "latency_ms"),
    ({"metrics": {"failed": 1}}, InvalidReward, "the field `failed`"),
    ({"metrics": 1, "replace": True}, InvalidReward, "request_id"),
    ({"metrics": 1, "failed": "no"}, InvalidReward, "failed"),
    ({"metrics": 1, "failed": float("nan")}, InvalidReward, "failed"),
    ({"metrics": 1, "variant": []}, UnknownVariant, "variant"),
    ({"metrics": 1, "request_id": ""}, InvalidId, "request_id"),
    ({"metrics": 1, "variant": "Z"}, UnknownVariant, "'Z'"),
    ({"metrics": 1, "user_id": "a\0b"}, InvalidId, "user_id"),
    ({"metrics": 1, "user_id": 7}, InvalidId, "user_id"),
    ({"metrics": 1, "user_id": "x" * 201}, InvalidId, "user_id"),
    ({"metrics": 1, "user_id": "\ud800"}, InvalidId, "user_id"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD_REWARDS)
def test_a_bad_reward_is_refused_with_its_reason_and_changes_nothing(
    call: dict[str, Any], error: type[BanditError], words: str
) -> None:
    cost = {"metric": "cost_usd", "kind": "numeric", "max": 2.0}
    goal = NUMERIC | {"range": [1, 5]} if "score" in str(call["metrics"]) else {}
    bandit = Bandit(make_experiment(goal=goal, guardrails=[LATENCY, cost]))
    bandit.choose("user-1")
    before = bandit.dump()

    with pytest.raises(error, match=words):
        bandit.reward(**{"user_id": "user-1"} | call)

    assert bandit.dump() == before


@pytest.mark.parametrize("user_id", ["", "a\nb", "x" * 201, "\ud800", None, 7, [], b"user"])
def test_a_bad_user_id_is_refused_and_changes_nothing(user_id: Any) -> None:  # noqa: ANN401
    bandit = Bandit(make_experiment())

    with pytest.raises(InvalidId, match="user_id"):
        bandit.choose(user_id)

    assert bandit.ledger.assigned.sum() == 0


# Lifecycle


def test_a_draft_serves_control_and_counts_nobody() -> None:
    bandit = Bandit(make_experiment(), running=False)

    assert bandit.choose("user-1").reason == "not_enrolled"
    assert bandit.choose("user-1").variant == "A"
    assert bandit.reward("user-1", 1).ignored == {"resolved": "draft"}
    assert bandit.epochs == []


def test_a_pause_keeps_known_users_and_their_rewards() -> None:
    bandit = Bandit(make_experiment(), Clock())
    known = bandit.choose("user-1")
    bandit.pause()
    bandit.pause()

    assert bandit.choose("user-1").variant == known.variant
    assert bandit.choose("user-2").reason == "not_enrolled"
    assert bandit.reward("user-1", 1).accepted == ("resolved",)
    assert bandit.reward("user-2", 1).ignored == {"resolved": "paused"}
    bandit.start()
    assert (bandit.choose("user-2").reason, bandit.choose("user-2").epoch) == ("new", 2)


def test_a_stop_lets_known_users_finish_and_then_serves_the_winner() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    users = [f"user-{i}" for i in range(20)]
    known = next(user for user in users if bandit.choose(user).variant == "A")

    bandit.stop(serve="B")

    assert bandit.choose("new").variant == "B"
    assert bandit.choose("new").reason == "stopped"
    assert (bandit.choose(known).variant, bandit.choose(known).reason) == ("A", "sticky")
    assert bandit.reward(known, 1).accepted == ("resolved",)
    clock.now += HOUR + 1
    bandit.tick()
    assert (bandit.choose(known).variant, bandit.choose(known).reason) == ("B", "stopped")
    assert bandit.closed_epochs == 1
    assert bandit.reward(known, 1).late == ("resolved",)


def test_a_stop_at_once_reads_no_truncated_outcomes() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    fill(bandit, range(10))

    bandit.stop(now=True)

    assert bandit.choose("user-1").reason == "stopped"
    assert bandit.reward("user-1", 1).ignored == {"resolved": "stopped"}
    clock.now += 9 * HOUR
    bandit.tick()
    assert bandit.closed_epochs == 0


def test_impossible_changes_of_state_are_refused() -> None:
    bandit = Bandit(make_experiment(), running=False)
    with pytest.raises(WrongState, match="draft"):
        bandit.pause()
    with pytest.raises(UnknownVariant):
        bandit.stop(serve="Z")
    bandit.stop()
    bandit.stop()
    with pytest.raises(WrongState, match="stays stopped"):
        bandit.start()


# Dump and load


def drive(bandit: Bandit, clock: Clock, steps: list[tuple[str, int, int]]) -> list[object]:
    """Return the answers to a list of (call, user, value)."""
    answers: list[object] = []
    for call, user, value in steps:
        clock.now += value
        try:
            if call == "choose":
                answers.append(bandit.choose(f"user-{user}"))
            else:
                metrics = {"resolved": value % 2, "latency_ms": 100.0 * user / 7}
                answers.append(bandit.reward(f"user-{user}", metrics, request_id=f"r{user % 9}", replace=value == 3))
        except BanditError as error:
            answers.append(repr(error))
    return answers


steps = st.lists(st.tuples(st.sampled_from(["choose", "reward"]), st.integers(0, 25), st.integers(0, 200)), max_size=60)


@given(before=steps, after=steps, window=st.sampled_from(["request", "5m"]))
@settings(deadline=None)
def test_a_loaded_bandit_goes_on_exactly_like_the_dumped_one(
    before: list[tuple[str, int, int]], after: list[tuple[str, int, int]], window: str
) -> None:
    clock = Clock()
    experiment = make_experiment(
        guardrails=[LATENCY, LATENCY | {"quantile": None, "max": 900}],
        policy={"min_batch": 5, "warmup": 2, "max_epoch": "10m"},
        rewards={"window": window, "request_timeout": "90s"},
    )
    original = Bandit(experiment, clock)
    drive(original, clock, before)
    text = original.dump()
    now = clock.now

    loaded = Bandit.load(text, clock)

    assert loaded.dump() == text
    expected = drive(original, clock, after)
    clock.now = now
    assert drive(loaded, clock, after) == expected
    assert loaded.dump() == original.dump()


def test_a_damaged_dump_is_refused() -> None:
    bandit = Bandit(make_experiment())
    bandit.choose("user-1")
    whole = json.loads(bandit.dump())

    damages: tuple[dict[str, Any], ...] = (
        {"outcomes": []},
        {"users": [["user-1", 1, 0]]},
        {"users": [["user-1", 9, 0, 0.0]]},
        {"state": 1},
    )
    for damage in damages:
        with pytest.raises(InvalidInput, match="not a dump"):
            Bandit.load(json.dumps(whole | damage))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', "null", '{"schema": 1}', b"\xff", "[" * 100_000])
def test_what_is_no_dump_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Bandit.load(text)
