"""What becomes of a reward, and that it counts once."""

from __future__ import annotations

from typing import Any

from tests.server.running import Service, check_ledger, in_process, is_problem, rows


def test_the_same_reward_counts_once(service: Service) -> None:
    service.create()
    service.choose("x", "u")

    first = service.reward("x", "u", "r", metrics={"resolved": True, "cost_usd": 0.1}).json()
    same = [service.reward("x", "u", "r", metrics={"resolved": v, "cost_usd": 0.1}).json() for v in (1, 1.0, True)]

    assert first == {"accepted": ["resolved", "cost_usd"], "duplicate": [], "late": [], "ignored": {}}
    assert all(again["duplicate"] == ["resolved", "cost_usd"] and not again["accepted"] for again in same)
    assert rows(service.path, "SELECT count(*) FROM rewards") == [(2,)]
    assert check_ledger(service.path, "x") == 1


def test_another_value_or_user_under_the_same_id_is_a_conflict_and_stores_nothing(service: Service) -> None:
    service.create()
    service.choose("x", "u")
    service.choose("x", "v")
    service.reward("x", "u", "r")

    is_problem(service.reward("x", "u", "r", metrics={"cost_usd": 0.1, "resolved": 0}), 409)
    is_problem(service.reward("x", "v", "r"), 409)

    assert rows(service.path, "SELECT request_id, metric, user_id, value FROM rewards") == [("r", "resolved", "u", 1.0)]


def test_a_value_can_be_corrected_inside_the_window(service: Service) -> None:
    service.create()
    service.choose("x", "u")
    service.reward("x", "u", "r1", metrics={"resolved": 1})
    service.reward("x", "u", "r2", metrics={"resolved": 1})

    for value in (0, 1, 0):
        told = service.reward("x", "u", "r1", metrics={"resolved": value}, replace=True)
        assert told.json()["accepted"] == ["resolved"]

    assert rows(service.path, "SELECT revision, value FROM rewards WHERE request_id = 'r1' ORDER BY 1") == [
        (0, 1.0), (1, 0.0), (2, 1.0), (3, 0.0),
    ]  # fmt: skip
    assert rows(service.path, "SELECT n, z FROM sums WHERE measure = 0") == [(1.0, 0.5)]
    check_ledger(service.path, "x")
    service.clock.now += 3_601
    told = service.reward("x", "u", "r1", metrics={"resolved": 1}, replace=True)
    assert told.json()["late"] == ["resolved"]


def test_a_late_reward_is_stored_and_not_learned(service: Service) -> None:
    service.create()
    service.choose("x", "u")
    service.clock.now += 3_601

    told = service.reward("x", "u", "r")

    assert told.json()["late"] == ["resolved"]
    assert rows(service.path, "SELECT reason, epoch, arm FROM rewards") == [("late", None, None)]
    assert rows(service.path, "SELECT * FROM sums") == []


def test_a_reward_of_another_variant_is_credited_to_nobody(service: Service) -> None:
    service.create()
    own = service.choose("x", "u")["variant"]
    other = "B" if own == "A" else "A"

    assert service.reward("x", "u", "r1", variant=other).json()["ignored"] == {"resolved": "other_variant"}
    assert service.reward("x", "u", "r2", variant=own).json()["accepted"] == ["resolved"]
    is_problem(service.reward("x", "u", "r3", variant="Z"), 422)

    assert rows(service.path, "SELECT request_id, epoch, reason FROM rewards ORDER BY 1") == [
        ("r1", None, "other_variant"), ("r2", 1, None),
    ]  # fmt: skip


def test_a_reward_before_choose_is_a_conflict(service: Service) -> None:
    service.create()

    is_problem(service.reward("x", "u", "r"), 409)

    assert rows(service.path, "SELECT * FROM rewards") == []
    service.choose("x", "u")
    assert service.reward("x", "u", "r").json()["accepted"] == ["resolved"]


def test_rewards_of_users_without_a_variant_are_ignored_by_state(service: Service) -> None:
    service.create(start=False)
    assert service.reward("x", "d", "r-draft").json()["ignored"] == {"resolved": "draft"}
    service.move("x", "start")
    service.choose("x", "known")
    service.move("x", "pause")
    assert service.reward("x", "p", "r-paused").json()["ignored"] == {"resolved": "paused"}
    assert service.reward("x", "known", "r-known").json()["accepted"] == ["resolved"]
    service.move("x", "stop")
    assert service.reward("x", "s", "r-stopped").json()["ignored"] == {"resolved": "stopped"}

    # Never adopted later: the same call gives the same answer.
    assert service.reward("x", "d", "r-draft").json()["ignored"] == {"resolved": "draft"}


def test_a_failed_call_counts_as_the_worst_and_voids_its_metrics(service: Service) -> None:
    service.create()
    service.choose("x", "u")

    told = service.reward("x", "u", "r", metrics={"cost_usd": 0.2}, failed=True).json()

    assert told["accepted"] == ["failed"]
    assert told["ignored"] == {"cost_usd": "failed"}
    assert rows(service.path, "SELECT measure, n, z FROM sums ORDER BY 1") == [(0, 1.0, 0.0), (1, 1.0, 1.0)]
    again = service.reward("x", "u", "r", metrics={"cost_usd": 0.2}, failed=True).json()
    assert again["duplicate"] == ["failed"]


def test_every_answer_is_the_same_after_a_restart(service: Service) -> None:
    service.create()
    service.choose("x", "u")
    calls: list[dict[str, Any]] = [
        {"user_id": "u", "request_id": "r1"},
        {"user_id": "u", "request_id": "r2", "metrics": {"resolved": 0, "cost_usd": 0.3}},
        {"user_id": "u", "request_id": "r3", "variant": "A"},
        {"user_id": "u", "request_id": "r4", "variant": "B"},
    ]
    for call in calls:
        service.reward("x", **call)
    before = [service.reward("x", **call).json() for call in calls]

    service.writer.close()  # the process's memory goes, the file stays
    with in_process(service.path, service.clock) as other:
        assert [other.reward("x", **call).json() for call in calls] == before
        check_ledger(service.path, "x")
