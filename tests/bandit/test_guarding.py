"""A bandit under guardrails: who is suspended when, what users get then, and what is remembered of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit import Assignment, Bandit
from bandit.errors import BanditError
from bandit.guardrails import judge
from bandit.measures import N, Z
from tests.bandit.guarding import COST, HARMFUL, HOUR, LATENCY, broken_limit, guarded, harm, suspended, user_of
from tests.bandit.making import Clock, make_experiment

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
    report = forgetting.report()
    assert sum(variant.users for variant in report.variants) == 6000 - forgetting.epochs[-1].assigned
    assert any("half-life 500" in note for note in report.notes)
    assert not any("half-life" in note for note in remembering.report().notes)


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
        rollout={"ramp": [0.1, 0.3, 1.0], "ramp_users": 1, "ramp_after": "5m"},
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
