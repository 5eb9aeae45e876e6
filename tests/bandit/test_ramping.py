"""A bandit on a canary ramp."""

from __future__ import annotations

import itertools

import numpy as np

from bandit import Bandit
from tests.bandit.guarding import HOUR, guarded, suspended, user_of
from tests.bandit.making import Clock

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


def test_a_pause_is_no_time_on_a_step() -> None:
    clock = Clock()
    bandit = Bandit(guarded(rollout=RAMP, policy={"min_batch": 5}), clock)
    enter(bandit, clock, range(200), step=10.0)  # 2,000 of the 3,600 seconds
    least = "the least time on a step (1h) is not over"
    bandit.pause()
    clock.now += 2 * HOUR
    bandit.start()
    assert bandit.what_holds_the_ramp() == least
    clock.now += HOUR - 2_001.0
    bandit.tick()
    assert bandit.what_holds_the_ramp() == least
    clock.now += 1.0
    bandit.tick()
    assert bandit.exposure == 0.5

    bandit.pause()
    clock.now += HOUR
    bandit.set_exposure(0.2)
    bandit.set_exposure(None)  # the step begins here, in the pause
    clock.now += HOUR
    bandit.start()
    assert bandit.ramp.since == clock.now
