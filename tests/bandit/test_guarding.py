"""A bandit under guardrails: who is suspended when, what users get then, and what is remembered of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit import Assignment, Bandit, Experiment
from bandit.errors import BanditError, InvalidExperiment, InvalidInput, UnknownVariant, WrongState
from bandit.events import Event
from bandit.guardrails import judge
from bandit.measures import N, Z
from tests.bandit.making import Clock, make_experiment

HARMFUL = {"metric": "harmful", "kind": "binary", "max": 0.05}
LATENCY = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.9, "max": 1000}
COST = {"metric": "cost", "kind": "numeric", "max": 1.0}
HOUR = 3600.0


def guarded(arms: int = 2, **parts: Any) -> Experiment:  # noqa: ANN401 (tables of the experiment file)
    """Return an experiment with one guardrail on harm."""
    return make_experiment(arms, **({"guardrails": [HARMFUL]} | parts))


def user_of(bandit: Bandit, variant: str, names: itertools.count[int]) -> str:
    """Return a new user who has this variant."""
    new = (f"user-{i}" for i in itertools.islice(names, 2000))
    return next(user for user in new if bandit.choose(user).variant == variant)


def harm(bandit: Bandit, variant: str = "B", users: int = 40) -> list[str]:
    """Let users of a variant come to harm until it is suspended; return them."""
    names = itertools.count()
    harmed: list[str] = []
    while not suspended(bandit, variant):
        assert len(harmed) < users
        harmed.append(user_of(bandit, variant, names))
        bandit.reward(harmed[-1], {"harmful": 1, "resolved": 1})
    return harmed


def suspended(bandit: Bandit, variant: str) -> bool:
    return bool(bandit.timeline.suspended[bandit.experiment.arm(variant)])


def broken_limit(event: Event) -> dict[str, Any]:
    """Return the evidence of the only limit that a suspension names."""
    (evidence,) = cast("list[dict[str, Any]]", event.evidence["limits"])
    return evidence


# A breach


def test_harm_suspends_a_variant_without_waiting_for_the_next_epoch() -> None:
    bandit = Bandit(guarded(policy={"min_batch": 10_000, "max_epoch": "30d"}), Clock())

    harmed = harm(bandit)

    assert len(harmed) < 10
    assert len(bandit.epochs) == 2
    assert bandit.allocation is not None
    assert bandit.allocation.probabilities == (1.0, 0.0)
    assert [event.kind for event in bandit.events] == ["started", "suspended", "guardrail"]
    event = bandit.events[1]
    assert (event.variant, event.actor, event.at, event.epoch) == ("B", "system", 1000.0, 1)
    assert event.reason == "harmful breaks its limit (at most 5 %)"
    evidence = broken_limit(event)
    assert evidence["e_breach"] >= evidence["threshold_breach"]
    assert (evidence["users"], evidence["level"]) == (len(harmed), 1.0)
    assert bandit.report().decision.sentence.startswith("Keep A. Do not deploy B: harmful breaks its limit")


rail_kinds = st.sampled_from(
    [HARMFUL, HARMFUL | {"per_user": "any"}, HARMFUL | {"per_user": "first"}, LATENCY, COST, COST | {"cap": 5.0}]
)


@given(rail=rail_kinds, seed=st.integers(0, 10**6), bad=st.sampled_from([0.05, 0.2, 0.6]), returning=st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_variant_is_suspended_at_the_very_value_that_breaks_its_limit(
    rail: dict[str, Any], seed: int, bad: float, returning: bool
) -> None:
    """What `watch` leaves out between two looks never matters: a full look after every value finds nothing earlier."""
    rng, clock = np.random.default_rng(seed), Clock()
    bandit = Bandit(guarded(guardrails=[rail], policy={"min_batch": 60, "warmup": 10}), clock)
    for _ in range(150):
        clock.now += 40.0
        user = f"user-{rng.integers(60 if returning else 10**9)}"
        bandit.choose(user)
        value: float = float(rng.random() < bad)
        if rail["metric"] == "latency_ms":
            value = 2000.0 if value else 10.0
        if rail["metric"] == "cost":
            value = float(rng.gamma(2.0, 2.0 * bad))
        bandit.reward(user, {rail["metric"]: value})
        if not suspended(bandit, "B"):
            broken = judge(bandit.experiment, bandit.history).broken(1)
            assert 0 not in broken
        else:
            assert bandit.events[-1].kind in ("suspended", "guardrail")
            assert bandit.timeline.latest[1].broken
            break


def test_users_of_a_suspended_variant_get_control_and_are_counted_once() -> None:
    clock = Clock()
    bandit = Bandit(guarded(), clock)
    harmed = harm(bandit)
    control = bandit.experiment.variants[0]

    for _ in range(2):
        assert bandit.choose(harmed[0]) == Assignment("A", control.config, None, None, "moved")
    assert bandit.ledger.moved.tolist() == [[0, 1], [0, 0]]
    assert bandit.reward(harmed[0], {"resolved": 1}).ignored == {"resolved": "moved"}
    # Who has not been told yet had the variant when the value arose.
    assert bandit.reward(harmed[1], {"harmful": 1}).accepted == ("harmful",)
    clock.now += 9 * HOUR
    bandit.choose(harmed[1])  # in a closed epoch
    bandit.tick()
    assert bandit.ledger.moved.tolist()[0] == [0, 2]
    assert Bandit.load(bandit.dump(), clock).ledger.moved.tolist()[0] == [0, 2]


def test_outcomes_that_a_suspension_cut_short_are_not_read_for_the_goal_but_controls_are() -> None:
    clock = Clock()
    bandit = Bandit(guarded(policy={"min_batch": 20, "warmup": 10}), clock)
    for i in range(40):
        bandit.choose(f"user-{i}")
    clock.now += HOUR + 1.0
    bandit.tick()
    assert bandit.closed_epochs == 1
    for i in range(40, 100):
        bandit.choose(f"user-{i}")
    bandit.suspend("B")
    clock.now += HOUR + 1.0
    bandit.tick()

    history = bandit.history
    read = history.readable.ledger.assigned
    assert history.closed_epochs > 2
    assert read[0].tolist() == history.ledger.assigned[0].tolist()
    assert (read[1:, 1] == 0).all()
    assert read[:, 0].tolist() == history.ledger.assigned[: history.closed_epochs, 0].tolist()


def test_control_that_breaks_a_limit_is_an_alarm_and_stays() -> None:
    bandit = Bandit(guarded(policy={"min_batch": 20}))
    for i in range(200):
        arm = bandit.choose(f"user-{i}").variant
        bandit.reward(f"user-{i}", {"harmful": int(arm == "A")})

    assert not suspended(bandit, "A")
    assert ("guardrail", "A", "harmful: unknown to breached") in [(e.kind, e.variant, e.reason) for e in bandit.events]


def test_control_serves_everybody_when_no_other_arm_is_left() -> None:
    bandit = Bandit(guarded(4, policy={"floor": 0.2}))
    for variant in "BCD":
        harm(bandit, variant)

    assert bandit.allocation is not None
    assert bandit.allocation.probabilities == (1.0, 0.0, 0.0, 0.0)
    assert {bandit.choose(f"late-{i}").variant for i in range(50)} == {"A"}


def test_a_breach_while_paused_or_draining_moves_users_as_well() -> None:
    for halt in (Bandit.pause, Bandit.stop):
        bandit = Bandit(guarded(), Clock())
        names = itertools.count()
        users = [user_of(bandit, "B", names) for _ in range(30)]
        halt(bandit)
        before = len(bandit.epochs)
        for user in users:
            bandit.reward(user, {"harmful": 1})

        assert suspended(bandit, "B")
        assert (bandit.choose(users[0]).variant, bandit.choose(users[0]).reason) == ("A", "moved")
        assert len(bandit.epochs) == before


# What counts as harm


def test_a_clean_answer_that_comes_late_does_not_look_like_harm() -> None:
    """Eight harmed users of two hundred: beyond suspicion once it is known that the others are at risk as well."""
    any_harm = HARMFUL | {"per_user": "any"}
    by_assigned, by_reporters = (Bandit(guarded(guardrails=[rail]), Clock()) for rail in (any_harm, HARMFUL))
    for bandit in (by_assigned, by_reporters):
        users = [f"user-{i}" for i in range(400)]
        harmed = [user for user in users if bandit.choose(user).variant == "B"][:8]
        for user in harmed:
            bandit.reward(user, {"harmful": 1})

    assert not suspended(by_assigned, "B")
    assert suspended(by_reporters, "B")


def test_a_failed_call_is_slow_and_a_failure_and_nothing_else() -> None:
    rails = [LATENCY, {"metric": "failed", "kind": "binary", "max": 0.05}, COST]
    bandit = Bandit(guarded(guardrails=rails), Clock())
    names = itertools.count()
    for _ in range(3):
        receipt = bandit.reward(user_of(bandit, "B", names), {"cost": 0.0, "latency_ms": 5.0}, failed=True)
        assert receipt.ignored == {"cost": "failed", "latency_ms": "failed"}
    slow, failed, cost = (bandit.ledger.sums[m][..., 1, :].sum(axis=0) for m in (1, 2, 3))

    assert (slow[N], slow[Z]) == (failed[N], failed[Z]) == (3, 3)
    assert cost[N] == 0
    while not suspended(bandit, "B"):
        bandit.reward(user_of(bandit, "B", names), {}, failed=True)
    assert 1 in bandit.timeline.latest[1].broken


def test_an_arm_whose_users_hardly_answer_is_suspended() -> None:
    """It crashes and sends nothing, so it breaks no limit and looks clean."""
    rng = np.random.default_rng(3)
    silent = Bandit(guarded(policy={"min_batch": 50}))
    for i in range(1500):
        arm = silent.choose(f"user-{i}").variant
        if rng.random() < (0.8 if arm == "A" else 0.2):
            silent.reward(f"user-{i}", {"resolved": 1, "harmful": 0})

    assert suspended(silent, "B")
    event = next(event for event in silent.events if event.kind == "suspended")
    assert event.reason == "its users have a value of resolved less than 50 % as often as those of A"
    report = silent.report()
    assert report.variants[1].suspended is not None
    assert report.variants[1].suspended.broken == ("response",)
    assert report.decision.reason == "guardrail"


# Users who come back


def come_back(bandit: Bandit, clock: Clock, bad_from: int, rate: float = 0.4, users: int = 150) -> int | None:
    """Let users of a closed base call once a day; return the day of the suspension."""
    rng = np.random.default_rng(7)
    for day in range(30):
        for i in range(users):
            clock.now += 60.0
            bandit.choose(f"user-{i}")
            is_bad = bandit.choose(f"user-{i}").variant == "B" and day >= bad_from
            bandit.reward(f"user-{i}", {"harmful": int(rng.random() < (rate if is_bad else 0.02))})
            if suspended(bandit, "B"):
                return day
        clock.now += 6 * HOUR
    return None


@pytest.mark.parametrize("window", ["1h", "request"])
def test_an_arm_that_goes_bad_after_everybody_has_joined_is_suspended(window: str) -> None:
    clock = Clock()
    bandit = Bandit(guarded(rewards={"window": window}), clock)

    assert come_back(bandit, clock, bad_from=20) in (20, 21, 22)
    evidence = broken_limit(next(event for event in bandit.events if event.kind == "suspended"))
    assert evidence["window"] > 1
    assert come_back(Bandit(guarded(rewards={"window": window}), clock), clock, bad_from=99) is None


def test_values_of_users_who_come_back_are_accepted_where_a_guardrail_reads_them_and_late_where_none_does() -> None:
    clock = Clock()
    rails = [HARMFUL, {"metric": "cost", "kind": "numeric", "max_increase": 0.2}]
    bandit = Bandit(guarded(guardrails=rails), clock)
    bandit.choose("user-1")
    bandit.reward("user-1", {"resolved": 1, "harmful": 0}, request_id="first")
    clock.now += 5 * HOUR

    receipt = bandit.reward("user-1", {"resolved": 0, "harmful": 1, "cost": 3.0}, request_id="back")
    assert (receipt.accepted, receipt.late) == (("harmful",), ("resolved", "cost"))
    again = bandit.reward("user-1", {"harmful": 1}, request_id="back")
    assert again.duplicate == ("harmful",)
    assert bandit.reward("user-1", {"harmful": 0}, request_id="back", replace=True).late == ("harmful",)
    arm = bandit.experiment.arm(bandit.choose("user-1").variant)
    assert bandit.ledger.returning[1, 2][0, arm, :2].tolist() == [1.0, 1.0]
    assert bandit.ledger.sums[1][0, arm, :2].tolist() == [1.0, 0.0]

    bandit.reward("user-1", {"harmful": 0})  # the same window: the user's mean there is 1/2
    clock.now += HOUR
    bandit.reward("user-1", {}, failed=True)  # no value of a binary guardrail
    bandit.reward("user-1", {"harmful": 0})  # another window
    assert bandit.ledger.returning[1, 2][0, arm, :2].tolist() == [1.0, 0.5]
    assert bandit.ledger.returning[1, 3][0, arm, :2].tolist() == [1.0, 0.0]


def test_where_only_harm_is_reported_users_who_come_back_are_not_looked_at() -> None:
    clock = Clock()
    bandit = Bandit(guarded(guardrails=[HARMFUL | {"per_user": "any"}]), clock)
    users = [f"user-{i}" for i in range(3000)]
    mine = [user for user in users if bandit.choose(user).variant == "B"]
    clock.now += 3 * HOUR
    for user in mine[:30]:
        bandit.reward(user, {"harmful": 1})

    assert not suspended(bandit, "B")


# By hand


def test_a_suspended_variant_begins_anew_when_it_is_resumed_and_its_old_users_stay_on_control() -> None:
    clock = Clock()
    bandit = Bandit(guarded(policy={"min_batch": 20, "warmup": 5}), clock)
    harmed = harm(bandit)
    never_told, told = harmed[0], harmed[1]
    bandit.choose(told)

    bandit.resume("B", reason="fixed", actor="anna")

    first, _, second = bandit.timeline.generations
    assert (first.arm, first.number, second.arm, second.number) == (0, 0, 1, 1)
    assert second.share(bandit.experiment) == pytest.approx(0.2 * 0.05 / 2.0)
    assert not suspended(bandit, "B")
    assert (bandit.events[-1].kind, bandit.events[-1].actor, bandit.events[-1].reason) == ("resumed", "anna", "fixed")
    for user in (never_told, told):
        assert (bandit.choose(user).variant, bandit.choose(user).reason) == ("A", "moved")
    fresh = user_of(bandit, "B", itertools.count(10_000))
    assert bandit.choose(fresh).reason == "sticky"
    clock.now += HOUR + 1.0
    bandit.tick()
    assert bandit.report().guardrails[0].states[1].state == "unknown"
    assert bandit.history.readable.ledger.assigned[0, 1] == 0


def test_repeated_suspensions_and_resumptions_change_nothing() -> None:
    bandit = Bandit(guarded(), Clock())
    bandit.resume("B")
    bandit.suspend("B", reason="complaints")
    before = bandit.dump()
    bandit.suspend("B", reason="again")
    assert bandit.dump() == before

    bandit.resume("B")
    before = bandit.dump()
    bandit.resume("B")
    assert bandit.dump() == before
    assert [event.kind for event in bandit.events] == ["started", "suspended", "resumed"]


def test_the_report_says_why_a_person_suspended_a_variant() -> None:
    bandit = Bandit(guarded(), Clock())
    bandit.suspend("B", reason="complaints")

    report = bandit.report()

    assert report.decision.reason == "suspended"
    assert "suspended by hand (complaints)" in report.decision.sentence
    assert report.variants[1].share == 0.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda b: b.suspend("A"), WrongState, "'A' is control"),
        (lambda b: b.resume("A"), WrongState, "'A' is control"),
        (lambda b: b.change("A", {}), WrongState, "'A' is control"),
        (lambda b: b.suspend("Z"), UnknownVariant, "received 'Z', allowed: 'A', 'B'"),
        (lambda b: b.force("user", "Z"), UnknownVariant, "received 'Z'"),
        (lambda b: b.suspend("B", reason="x" * 2001), InvalidInput, "2001 characters"),
        (lambda b: b.pause(reason="two\nlines"), InvalidInput, "one line"),
        (lambda b: b.set_exposure(1.5), InvalidInput, "received 1.5, allowed: a number from 0 to 1"),
        (lambda b: b.set_exposure(float("nan")), InvalidInput, "received nan"),
        (lambda b: b.set_exposure(True), InvalidInput, "received True"),
        (lambda b: b.change("B", {"t": float("nan")}), InvalidExperiment, "nan"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(call: Any, error: type[Exception], words: str) -> None:  # noqa: ANN401
    bandit = Bandit(guarded(), Clock())
    before = bandit.dump()

    with pytest.raises(error, match=words):
        call(bandit)

    assert bandit.dump() == before


def test_nothing_is_suspended_or_let_in_after_the_end() -> None:
    bandit = Bandit(guarded(), Clock())
    bandit.stop()

    calls: list[Callable[[], object]] = [
        lambda: bandit.suspend("B"),
        lambda: bandit.resume("B"),
        lambda: bandit.set_exposure(0.5),
    ]
    for call in calls:
        with pytest.raises(WrongState, match="stopped"):
            call()


def test_a_forced_user_gets_the_variant_outside_learning_until_released() -> None:
    bandit = Bandit(guarded(), Clock())
    bandit.suspend("B")

    bandit.force("tester", "B", reason="try it")

    assert bandit.choose("tester") == Assignment("B", {"prompt": "B"}, None, None, "forced")
    assert bandit.reward("tester", {"resolved": 1}).ignored == {"resolved": "forced"}
    assert bandit.ledger.assigned.sum() == 0
    bandit.release("tester")
    bandit.release("tester")
    assert bandit.choose("tester").reason == "new"
    kinds = [(event.kind, event.evidence) for event in bandit.events[2:]]
    assert kinds == [("forced", {"user_id": "tester"}), ("unforced", {"user_id": "tester"})]


def test_a_changed_variant_is_another_generation_whose_old_users_get_the_new_config_and_count_for_nobody() -> None:
    bandit = Bandit(guarded(), Clock())
    old = user_of(bandit, "B", itertools.count())

    bandit.change("B", {"prompt": "B2"}, reason="typo")
    bandit.change("B", {"prompt": "B2"})

    assert bandit.choose(old) == Assignment("B", {"prompt": "B2"}, None, None, "moved")
    assert bandit.reward(old, {"resolved": 1}).ignored == {"resolved": "moved"}
    fresh = user_of(bandit, "B", itertools.count(1000))
    assert (bandit.choose(fresh).config, bandit.choose(fresh).reason) == ({"prompt": "B2"}, "sticky")
    (event,) = [event for event in bandit.events if event.kind == "changed"]
    assert event.evidence == {"before": {"prompt": "B"}, "config": {"prompt": "B2"}}
    assert [g.number for g in bandit.timeline.generations] == [0, 0, 1]

    bandit.suspend("B")
    bandit.change("B", {"prompt": "B3"})
    assert suspended(bandit, "B")
    bandit.resume("B")
    assert [g.number for g in bandit.timeline.generations] == [0, 0, 1, 2]
    for user in (old, fresh):  # the arm was suspended since they got it
        assert bandit.choose(user).variant == "A"
    assert bandit.choose(user_of(bandit, "B", itertools.count(5000))).config == {"prompt": "B3"}


def test_what_nobody_has_had_yet_may_change_without_a_price() -> None:
    bandit = Bandit(guarded(), Clock(), running=False)

    bandit.change("B", {"prompt": "typo fixed"})
    bandit.suspend("B")
    bandit.resume("B")
    bandit.start()

    (_, treatment) = bandit.timeline.generations
    assert (treatment.number, treatment.first_epoch, treatment.ended) == (0, 1, None)
    assert bandit.choose(user_of(bandit, "B", itertools.count())).config == {"prompt": "typo fixed"}


def test_a_variant_is_as_old_as_its_latest_generation() -> None:
    clock, rng = Clock(), np.random.default_rng(1)
    bandit = Bandit(make_experiment(policy={"min_batch": 200}, rewards={"window": "1m"}), clock)
    clock.now += 30 * 24 * HOUR
    bandit.change("B", {"prompt": "B2"})
    for i in range(3000):
        clock.now += 1.0
        arm = bandit.choose(f"user-{i}").variant
        bandit.reward(f"user-{i}", int(rng.random() < (0.2 if arm == "A" else 0.6)))

    decision = bandit.report().decision

    assert decision.reason == "too_young"
    assert "what it is now is 0.0 of 7 days old" in decision.sentence


def test_welch_is_not_trusted_where_control_was_there_before_the_variant() -> None:
    clock = Clock()
    experiment = make_experiment(policy={"kind": "fixed"}, analysis={"horizon_users": 1000})
    bandit = Bandit(experiment, clock)
    for i in range(1200):
        clock.now += 10.0
        if i == 600:
            bandit.change("B", {"prompt": "B2"})
        bandit.choose(f"user-{i}")
        bandit.reward(f"user-{i}", i % 2)
    clock.now += 2 * HOUR
    bandit.tick()

    welch = bandit.report().variants[1].welch
    assert welch is not None
    assert "traffic moved" in welch.reasons


# The ramp

RAMP = {"ramp": [0.1, 0.5, 1.0], "ramp_users": 5, "ramp_after": "1h"}


def enter(bandit: Bandit, clock: Clock, users: range, harmful: float = 0.0, step: float = 30.0) -> None:
    rng = np.random.default_rng(1)
    for i in users:
        clock.now += step
        if bandit.choose(f"user-{i}").reason == "new":
            bandit.reward(f"user-{i}", {"resolved": 1, "harmful": int(rng.random() < harmful)})


def test_a_ramp_climbs_by_users_and_time_and_never_moves_anybody() -> None:
    clock = Clock()
    bandit = Bandit(guarded(rollout=RAMP, policy={"min_batch": 5}), clock)
    assert bandit.exposure == 0.1
    assert bandit.what_holds_the_ramp() == "the least time on a step (1h) is not over"
    enter(bandit, clock, range(240))
    early = {user: bandit.choose(user) for user in map("user-{}".format, range(240))}
    inside = [user for user, answer in early.items() if answer.reason == "sticky"]
    assert bandit.exposure == 0.5

    enter(bandit, clock, range(240, 500))

    assert bandit.exposure == 1.0
    assert bandit.what_holds_the_ramp() is None
    climbs = [(e.at or 0.0, e.evidence["exposure"]) for e in bandit.events if e.kind == "ramp"]
    assert [share for _, share in climbs] == [0.5, 1.0]
    assert climbs[0][0] >= 1000.0 + HOUR
    assert climbs[1][0] >= climbs[0][0] + HOUR
    for user in inside:
        assert bandit.choose(user) == early[user]


def test_a_ramp_is_held_while_evidence_is_thin_or_bad() -> None:
    clock = Clock()
    bandit = Bandit(guarded(rollout=RAMP, policy={"min_batch": 5}), clock)
    for i in range(600):
        clock.now += 30.0
        bandit.choose(f"user-{i}")
    assert bandit.exposure == 0.1
    assert bandit.what_holds_the_ramp() == "B has 0 of 5 users with a value of harmful on this step"

    clock = Clock()
    doubtful = Bandit(guarded(rollout=RAMP | {"ramp_users": 1}, policy={"min_batch": 5}), clock)
    names = itertools.count()
    for bad in (1, 1, 0, 0, 0, 0):
        doubtful.reward(user_of(doubtful, "B", names), {"harmful": bad})
    clock.now += 2 * HOUR
    doubtful.tick()
    assert not suspended(doubtful, "B")
    assert "B may break a limit" in (doubtful.what_holds_the_ramp() or "")


def test_a_ramp_goes_back_on_a_breach_and_begins_its_step_anew() -> None:
    clock = Clock()
    bandit = Bandit(guarded(3, rollout=RAMP, policy={"min_batch": 5}), clock)
    users = itertools.count()
    while bandit.exposure < 0.5:
        user = next(users)
        enter(bandit, clock, range(user, user + 1))
    assert bandit.exposure == 0.5

    names = itertools.count(10_000)
    while not suspended(bandit, "B"):
        bandit.reward(user_of(bandit, "B", names), {"harmful": 1})

    assert bandit.exposure == 0.1
    event = [event for event in bandit.events if event.kind == "ramp"][-1]
    assert (event.reason, event.evidence) == ("B was suspended", {"before": 0.5, "exposure": 0.1})
    assert bandit.what_holds_the_ramp() == "the least time on a step (1h) is not over"


def test_exposure_set_by_hand_holds_until_the_ramp_is_let_go_on() -> None:
    clock = Clock()
    bandit = Bandit(guarded(rollout=RAMP, policy={"min_batch": 20}), clock)

    bandit.set_exposure(0.3, reason="demo", actor="anna")
    enter(bandit, clock, range(1000))
    assert bandit.exposure == 0.3
    assert bandit.what_holds_the_ramp() is None
    bandit.set_exposure(None)
    assert bandit.exposure == 0.1

    reasons = [(e.actor, e.reason, e.evidence["exposure"]) for e in bandit.events if e.kind == "ramp"]
    assert reasons == [("anna", "demo", 0.3), ("operator", "set by hand", 0.1)]


def test_a_ramp_with_nothing_on_it_does_not_climb_and_begins_its_step_anew_with_another_generation() -> None:
    clock = Clock()
    bandit = Bandit(guarded(rollout=RAMP, policy={"min_batch": 5}), clock)
    enter(bandit, clock, range(60))
    bandit.suspend("B")
    for i in range(1000, 1600):
        clock.now += 60.0
        bandit.choose(f"user-{i}")
        bandit.tick()
    assert bandit.exposure == 0.1
    assert bandit.what_holds_the_ramp() == "no variant but control gets users"

    bandit.resume("B")

    assert bandit.exposure == 0.1
    assert bandit.what_holds_the_ramp() == "the least time on a step (1h) is not over"
    clock.now += HOUR
    assert bandit.what_holds_the_ramp() == "the least time on a step (1h) is not over"
    bandit.tick()
    assert bandit.what_holds_the_ramp() == "B has 0 of 5 users with a value of harmful on this step"


def test_a_paused_experiment_is_looked_at_though_a_late_reward_closed_its_epoch() -> None:
    fewer = {"metric": "solved", "kind": "binary", "max_decrease": 0.1}
    clock = Clock()
    bandit = Bandit(guarded(guardrails=[fewer], policy={"min_batch": 1000}), clock)
    for i in range(600):
        arm = bandit.choose(f"user-{i}").variant
        bandit.reward(f"user-{i}", {"resolved": 1, "solved": int(arm == "A")})
    bandit.pause()
    clock.now += HOUR + 1.0
    bandit.reward("user-0", {"resolved": 0})  # late; it closes the epoch
    assert not suspended(bandit, "B")

    bandit.tick()

    assert suspended(bandit, "B")


def test_after_the_end_nothing_is_due() -> None:
    clock = Clock()
    bandit = Bandit(guarded(), clock)
    bandit.choose("user-1")
    bandit.pause()
    bandit.stop(now=True)

    assert bandit.alarm == float("inf")
    assert Bandit.load(bandit.dump(), clock).alarm == bandit.alarm


# In the allocation, and over time


def test_doubt_shrinks_a_share_before_it_suspends_and_its_absence_does_not() -> None:
    clean, doubtful = (Bandit(guarded(policy={"min_batch": 20, "warmup": 10, "floor": 0.05})) for _ in range(2))
    for i in range(100):
        for bandit, bad in ((clean, 0), (doubtful, 1)):
            arm = bandit.choose(f"user-{i}").variant
            late_enough = arm == "B" and i % 7 == 0
            bandit.reward(f"user-{i}", {"resolved": i % 2, "harmful": bad if late_enough and i < 60 else 0})

    assert not suspended(doubtful, "B")
    shares = [b.allocation.probabilities[1] for b in (clean, doubtful) if b.allocation is not None]
    assert shares[1] < 0.6 * shares[0]
    assert judge(clean.experiment, clean.history).breaches.feasible.tolist() == [1.0, 1.0]


def test_states_are_noted_with_the_time_since_when() -> None:
    clock = Clock()
    bandit = Bandit(guarded(policy={"min_batch": 50}, rewards={"window": "10m"}), clock)
    for i in range(500):
        clock.now += 10.0
        bandit.choose(f"user-{i}")
        bandit.reward(f"user-{i}", {"harmful": 0, "resolved": i % 2})

    certified = next(e for e in bandit.events if e.kind == "guardrail" and e.variant == "B")
    assert certified.reason == "harmful: unknown to ok"
    state = bandit.report().guardrails[0].states[1]
    assert (state.state, state.since) == ("ok", certified.at)


def test_forgetting_weighs_old_epochs_less_in_the_posterior_but_not_in_the_report() -> None:
    def after_a_change(half_life: int | None) -> Bandit:
        policy = {"min_batch": 100} | ({} if half_life is None else {"half_life": half_life})
        bandit, rng = Bandit(make_experiment(policy=policy)), np.random.default_rng(5)
        for i in range(6000):
            arm = bandit.choose(f"user-{i}").variant
            good = (arm == "B") if i < 4000 else (arm == "A")
            bandit.reward(f"user-{i}", int(rng.random() < (0.5 if good else 0.3)))
        return bandit

    remembering, forgetting = after_a_change(None), after_a_change(500)

    assert remembering.allocation is not None
    assert forgetting.allocation is not None
    assert remembering.allocation.probabilities[1] > 0.7
    assert forgetting.allocation.probabilities[1] < 0.2
    assert sum(variant.users for variant in forgetting.report().variants) == 6000 - forgetting.epochs[-1].assigned


# Everything together


Step = tuple[str, int, int]
CALLS = [
    "choose",
    "reward",
    "harm",
    "tick",
    "suspend",
    "resume",
    "change",
    "exposure",
    "force",
    "release",
    "pause",
    "start",
]
steps = st.lists(st.tuples(st.sampled_from(CALLS), st.integers(0, 12), st.integers(0, 400)), max_size=50)


def drive(bandit: Bandit, clock: Clock, todo: list[Step]) -> list[object]:
    answers: list[object] = []
    for call, user, value in todo:
        clock.now += value
        name, variant = f"user-{user}", "ABC"[user % 3]
        todo_by_name: dict[str, Callable[[], object]] = {
            "choose": lambda: bandit.choose(name),  # noqa: B023
            "reward": lambda: bandit.reward(name, {"resolved": value % 2, "harmful": 0}, request_id=f"r{value}"),  # noqa: B023
            "harm": lambda: bandit.reward(name, {"harmful": 1, "latency_ms": 10.0 * value}),  # noqa: B023
            "tick": bandit.tick,
            "suspend": lambda: bandit.suspend(variant, reason="why"),  # noqa: B023
            "resume": lambda: bandit.resume(variant),  # noqa: B023
            "change": lambda: bandit.change(variant, {"version": value}),  # noqa: B023
            "exposure": lambda: bandit.set_exposure(None if value % 3 == 0 else value / 400),  # noqa: B023
            "force": lambda: bandit.force(name, variant),  # noqa: B023
            "release": lambda: bandit.release(name),  # noqa: B023
            "pause": bandit.pause,
            "start": bandit.start,
        }
        try:
            answers.append(todo_by_name[call]())
        except BanditError as error:
            answers.append(repr(error))
    return answers


@given(before=steps, after=steps, window=st.sampled_from(["request", "5m"]))
@settings(deadline=None, max_examples=40)
def test_a_loaded_bandit_goes_on_exactly_like_the_dumped_one(
    before: list[Step], after: list[Step], window: str
) -> None:
    clock = Clock()
    experiment = guarded(
        3,
        guardrails=[
            HARMFUL | {"per_user": "any", "max": 0.2},
            LATENCY,
            {"metric": "latency_ms", "kind": "numeric", "max": 900},
        ],
        policy={"min_batch": 5, "warmup": 2, "max_epoch": "10m", "half_life": "1h"},
        rewards={"window": window, "request_timeout": "90s"},
        rollout=RAMP | {"ramp_users": 1, "ramp_after": "5m"},
    )
    original = Bandit(experiment, clock)
    drive(original, clock, before)
    text, now = original.dump(), clock.now

    loaded = Bandit.load(text, clock)

    assert loaded.dump() == text
    assert loaded.alarm == original.alarm
    expected = drive(original, clock, after)
    clock.now = now
    assert drive(loaded, clock, after) == expected
    assert loaded.dump() == original.dump()
    for epoch in original.epochs:
        gone = {g.arm for g in original.timeline.generations if g.ended == "suspended" and g.last_epoch is not None
                and g.last_epoch < epoch.allocation.epoch}  # fmt: skip
        back = {g.arm for g in original.timeline.generations if g.has(epoch.allocation.epoch)}
        assert all(epoch.allocation.probabilities[arm] == 0.0 for arm in gone - back)
