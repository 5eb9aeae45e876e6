"""What people do to a running experiment: suspend, resume, change, force."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bandit import Assignment, Bandit
from bandit.errors import InvalidExperiment, InvalidInput, NoAssignment, UnknownVariant, WrongState
from bandit.inference.observed import observe
from bandit.inference.scores import total_scores
from tests.bandit.guarding import HOUR, guarded, harm, suspended, user_of
from tests.bandit.making import Clock, make_experiment


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


def test_a_variant_that_joins_late_is_compared_with_control_since_then() -> None:
    """Control had many users before, at another level; they tell nothing of what the variant is up against."""
    bandit = Bandit(make_experiment(policy={"kind": "fixed", "min_batch": 100}))
    rng = np.random.default_rng(5)
    for i in range(2400):
        if i == 1200:
            bandit.change("B", {"prompt": "B2"})
        bandit.choose(f"user-{i}")
        bandit.reward(f"user-{i}", int(rng.random() < (0.2 if i < 1200 else 0.6)))

    (comparison,) = [each for each in bandit.report().comparisons if each.role == "goal"]
    late = bandit.history.readable.ledger.sums[0][:, 0][bandit.history.readable.ledger.assigned[:, 1] > 0]
    assert comparison.control_users == late[:, 0].sum() < 700
    assert comparison.control_mean == pytest.approx(late[:, 1].sum() / late[:, 0].sum())
    assert comparison.control_mean == pytest.approx(0.6, abs=0.05)
    assert comparison.lift is not None
    assert abs(comparison.lift.relative) < 0.1


def test_what_became_of_one_variant_does_not_change_the_estimate_of_another() -> None:
    bandit = Bandit(make_experiment(3, policy={"min_batch": 100}))
    rng = np.random.default_rng(6)
    rates = {"A": 0.3, "B": 0.35, "C": 0.9}
    for i in range(1500):
        bandit.reward(f"user-{i}", int(rng.random() < rates[bandit.choose(f"user-{i}").variant]))
    bandit.timeline.end(0.0)

    def estimate() -> tuple[float, float]:
        scores = total_scores(observe(bandit.experiment, bandit.history, 0), 0)
        return float(scores.difference()[1]), float(scores.standard_error()[1])

    before = estimate()
    bandit.change("C", {"prompt": "C2"})
    assert bandit.history.readable.ledger.assigned[:, 2].sum() == 0
    assert estimate() == before


def test_a_config_that_python_takes_for_the_same_is_another_one() -> None:
    bandit = Bandit(make_experiment())
    bandit.change("B", {"stream": 1})
    bandit.change("B", {"stream": True})
    assert bandit.experiment.variants[1].config["stream"] is True
    events = len(bandit.events)
    bandit.change("B", {"stream": True})
    assert len(bandit.events) == events


def test_who_was_told_to_take_control_keeps_to_it_though_the_suspended_version_never_had_a_user() -> None:
    clock = Clock()
    bandit = Bandit(make_experiment(), clock)
    user = user_of(bandit, "B", itertools.count())
    bandit.pause()
    bandit.change("B", {"version": 2})
    bandit.suspend("B")
    assert bandit.choose(user).variant == "A"
    bandit.resume("B")
    bandit.start()

    assert (bandit.choose(user).variant, bandit.choose(user).reason) == ("A", "moved")
    assert bandit.timeline.latest[1].number == 1


def test_a_reward_that_was_nobodys_is_answered_alike_when_it_comes_again_after_more_were_let_in() -> None:
    bandit = Bandit(make_experiment(rollout={"exposure": 0.0}))
    assert bandit.choose("user-1").reason == "not_enrolled"
    first = bandit.reward("user-1", 1, request_id="r")
    bandit.set_exposure(1.0)

    assert bandit.reward("user-1", 1, request_id="r") == first
    assert first.ignored == {"resolved": "not_enrolled"}
    with pytest.raises(NoAssignment):
        bandit.reward("user-1", 1, request_id="another")


def test_nobody_comes_before_their_epoch_began() -> None:
    now = itertools.count(1000.0)
    clock = Clock()
    bandit = Bandit(make_experiment(policy={"max_epoch": "5s"}), lambda: next(now) + clock.now)
    bandit.choose("user-1")
    clock.now += 10.0
    answer = bandit.choose("user-2")
    assert answer.epoch == 2
    assert bandit.users.since["user-2"] >= bandit.epochs[1].started_at
