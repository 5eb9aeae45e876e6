"""Users who come back: what counts in later windows, and when."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bandit import Bandit
from bandit.guardrails import judge
from tests.bandit.guarding import HARMFUL, HOUR, LATENCY, broken_limit, guarded, suspended, user_of
from tests.bandit.making import Clock


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


ANY = HARMFUL | {"per_user": "any"}


def joined(bandit: Bandit, users: int, answering: float = 1.0) -> list[str]:
    """Let users join; of B's, some answer that they came to no harm. Return B's users."""
    mine = [user for user in (f"user-{i}" for i in range(users)) if bandit.choose(user).variant == "B"]
    for place, user in enumerate(mine):
        if (place * answering) % 1.0 < answering:
            bandit.reward(user, {"harmful": 0})
    return mine


def test_harm_that_is_known_before_its_absence_does_not_look_like_more_harm() -> None:
    """4 % of the users who come back are harmed, and that is reported first; 5 % are allowed."""
    clock = Clock()
    bandit = Bandit(guarded(guardrails=[ANY]), clock)
    mine = joined(bandit, 3000)
    clock.now += HOUR + 60.0
    for user in mine[::25]:
        bandit.reward(user, {"harmful": 1})
    assert (1, 2) not in bandit.ledger.returning
    clock.now += HOUR / 2
    for user in mine:
        bandit.reward(user, {"harmful": 0})
    assert not suspended(bandit, "B")
    clock.now += 2 * HOUR
    bandit.tick()

    assert bandit.ledger.returning[1, 2][:, 1, :2].sum(axis=0).tolist() == [len(mine), len(mine[::25])]
    assert not suspended(bandit, "B")


def test_harm_in_a_later_window_counts_when_the_window_is_over_though_nobody_calls() -> None:
    clock = Clock()
    bandit = Bandit(guarded(guardrails=[ANY]), clock)
    mine = joined(bandit, 1000)
    clock.now += HOUR + 60.0
    for place, user in enumerate(mine):
        bandit.reward(user, {"harmful": int(place % 4 == 0)})
    assert not suspended(bandit, "B")

    due = bandit.visits.alarm
    assert clock.now < due <= clock.now + 2 * HOUR
    assert bandit.alarm <= due
    clock.now = due
    bandit.tick()

    assert suspended(bandit, "B")
    evidence = broken_limit(next(event for event in bandit.events if event.kind == "suspended"))
    assert (evidence["window"], evidence["users"]) == (2, len(mine))


@pytest.mark.parametrize(
    ("share", "harmed", "is_suspended"), [(0.6, 0.04, False), (0.6, 0.3, True), (0.2, 0.3, False), (0.0, 1.0, False)]
)
def test_clean_answers_that_never_come_are_no_harm_in_later_windows_either(
    share: float, harmed: float, is_suspended: bool
) -> None:
    """Only some of those who came to no harm say so; with 0.6 of them, 4 % of all are 6.5 % of the answers."""
    clock = Clock()
    bandit = Bandit(guarded(guardrails=[ANY]), clock)
    mine = joined(bandit, 6000, answering=share)
    clock.now += HOUR + 60.0
    for place, user in enumerate(mine):
        if (place * harmed) % 1.0 < harmed:
            bandit.reward(user, {"harmful": 1})
        elif (place * share) % 1.0 < share:
            bandit.reward(user, {"harmful": 0})
    clock.now += 2 * HOUR
    bandit.tick()

    assert suspended(bandit, "B") == is_suspended


def test_two_limits_on_one_measure_are_both_watched() -> None:
    """One call in ten above 1000 ms is fine for the median, and no P99."""
    clock = Clock()
    rails = [LATENCY | {"quantile": 0.99}, LATENCY | {"quantile": 0.5}]
    bandit = Bandit(guarded(guardrails=rails, policy={"min_batch": 100_000, "max_epoch": "30d"}), clock)
    assert len(bandit.measures) == 2
    names = itertools.count()
    for place in range(400):
        bandit.reward(user_of(bandit, "B", names), {"latency_ms": 2000.0 if place % 10 == 9 else 10.0})
        if suspended(bandit, "B"):
            break
        assert not judge(bandit.experiment, bandit.history).broken(1)

    assert bandit.timeline.latest[1].broken == (0,)


def test_what_waits_and_what_counts_is_dumped() -> None:
    clock = Clock()
    bandit = Bandit(guarded(guardrails=[ANY, LATENCY]), clock)
    mine = joined(bandit, 300)
    for turn in range(4):
        clock.now += 1.7 * HOUR
        for place, user in enumerate(mine):
            clock.now += 1.0
            bandit.reward(user, {"harmful": int(place % 40 == turn), "latency_ms": 10.0})
    twin = Bandit.load(bandit.dump(), clock)
    assert twin.visits.alarm == bandit.visits.alarm < float("inf")
    for each in (bandit, twin):
        each.reward(mine[0], {"harmful": 1})
    clock.now += 2 * HOUR
    for each in (bandit, twin):
        each.tick()

    assert twin.dump() == bandit.dump()
    assert twin.visits.alarm == float("inf")
    held, other = bandit.ledger.returning, twin.ledger.returning
    assert set(held) == set(other) == {(slot, window) for slot in (1, 2) for window in (2, 3, 4, 5)}
    assert all((held[key] == other[key]).all() for key in held)
