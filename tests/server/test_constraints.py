"""Kill switch, forced users, exposure, events: what constrains the arms, over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from bandit.rewards import RETURNED
from server.live import Reward
from server.operations import Choose, Count, Expose, Force, Move, Operation, Switch
from server.schema import migrations, prepare
from server.store import Store
from tests.server.running import (
    Client,
    Service,
    check_ledger,
    command,
    declaration,
    in_process,
    is_problem,
    rows,
    wait_until,
)
from tests.server.test_batches import in_one_batch, reasons, stored

OLD = Path(__file__).with_name("first_tables.sql")


def users_of(client: Client, key: str, variant: str, n: int, name: str = "u") -> list[str]:
    """Let users come until so many have a variant, and return these."""
    found: list[str] = []
    i = 0
    while len(found) < n:
        if client.choose(key, f"{name}{i}")["variant"] == variant:
            found.append(f"{name}{i}")
        i += 1
    return found


def kinds(events: list[dict[str, Any]], *, allocations: bool = False) -> list[str]:
    return [event["kind"] for event in events if allocations or event["kind"] != "allocation"]


def state_of(client: Client, key: str, variant: str) -> dict[str, Any]:
    states = client.get(f"/experiments/{key}")["variants"]
    return next(state for state in states if state["variant"] == variant)


# The kill switch


def test_a_suspension_takes_effect_at_the_next_choose_of_another_client(service: Service) -> None:
    service.create()
    mine = users_of(service, "x", "B", 3)
    other = Client(str(service.http.base_url))
    assert [other.choose("x", user)["reason"] for user in mine] == ["sticky"] * 3  # from memory

    answer = service.switch("x", "B", "suspend", reason="it swears").json()

    assert answer["suspended"] == {"reason": "it swears", "since_epoch": 2}
    for _ in range(2):  # the first is asked of the store, the second comes from memory
        for user in mine:
            told = other.choose("x", user)
            assert (told["variant"], told["config"]) == ("A", {"model": "m1"})
            assert (told["reason"], told["propensity"], told["epoch"]) == ("moved", None, None)
    assert {other.choose("x", f"new{i}")["variant"] for i in range(40)} == {"A"}
    assert other.reward("x", mine[0], "r").json()["ignored"] == {"resolved": "moved"}
    assert rows(service.path, "SELECT count(*) FROM assignments WHERE moved_at IS NOT NULL") == [(3,)]
    assert rows(service.path, "SELECT arm, sum(moved) FROM cells GROUP BY arm ORDER BY 1") == [(0, 0), (1, 3)]
    check_ledger(service.path, "x")
    other.http.close()


def test_what_a_user_did_before_the_next_choose_counts(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    service.switch("x", "B", "suspend")

    assert service.reward("x", user, "before").json()["accepted"] == ["resolved"]
    assert service.choose("x", user)["reason"] == "moved"
    assert service.reward("x", user, "after").json()["ignored"] == {"resolved": "moved"}

    assert rows(service.path, "SELECT arm, n FROM sums") == [(1, 1.0)]


def test_repeated_calls_change_nothing(service: Service) -> None:
    service.create()
    first = service.switch("x", "B", "suspend", reason="one")
    held = service.events("x")

    again = service.switch("x", "B", "suspend", reason="two")

    assert (again.status_code, again.json()) == (200, first.json())
    assert service.events("x") == held
    assert service.switch("x", "B", "resume").json() == service.switch("x", "B", "resume").json()
    assert kinds(service.events("x")) == ["started", "suspended", "resumed"]


def test_resuming_begins_another_generation_and_moved_users_stay_on_control(service: Service) -> None:
    service.create()
    moved, unaware = users_of(service, "x", "B", 2)
    service.switch("x", "B", "suspend")
    assert service.choose("x", moved)["reason"] == "moved"

    answer = service.switch("x", "B", "resume", reason="mended").json()

    assert (answer["suspended"], answer["generation"]) == (None, 1)
    assert state_of(service, "x", "A")["generation"] == 0
    for user in (moved, unaware):
        told = service.choose("x", user)
        assert (told["variant"], told["reason"]) == ("A", "moved")
    newcomers = users_of(service, "x", "B", 2, "later")
    assert [service.choose("x", user)["reason"] for user in newcomers] == ["sticky"] * 2
    service.writer.close()
    with in_process(service.path, service.clock) as other:
        assert [other.choose("x", user)["reason"] for user in (moved, unaware)] == ["moved"] * 2
        assert [other.choose("x", user)["reason"] for user in newcomers] == ["sticky"] * 2
        assert state_of(other, "x", "B")["generation"] == 1
    check_ledger(service.path, "x")


def test_who_cannot_be_suspended_is_refused(service: Service) -> None:
    service.create()

    assert "control" in is_problem(service.switch("x", "A", "suspend"), 409)["detail"]
    assert "'A', 'B'" in is_problem(service.switch("x", "Z", "suspend"), 404)["detail"]
    is_problem(service.switch("y", "B", "resume"), 404)
    refused = is_problem(service.switch("x", "B", "suspend", reason="a\nb"), 422)
    assert [error["field"] for error in refused["errors"]] == ["reason"]
    refused = is_problem(service.switch("x", "B", "suspend", because="why"), 422)
    assert [error["field"] for error in refused["errors"]] == ["because"]
    assert kinds(service.events("x")) == ["started"]
    service.move("x", "stop")
    is_problem(service.switch("x", "B", "suspend"), 409)


def test_a_suspension_survives_kill_9(tmp_path: Path) -> None:
    file, db = tmp_path / "x.json", tmp_path / "b.db"
    file.write_text(json.dumps(declaration()))
    with command("--db", db, "--experiment", file) as server:
        mine = users_of(server, "x", "B", 4)
        assert server.switch("x", "B", "suspend", reason="enough").status_code == 200
        assert server.choose("x", mine[0])["reason"] == "moved"
        happened = server.events("x")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL

    with command("--db", db, "--experiment", file) as server:
        assert [server.choose("x", user)["reason"] for user in mine] == ["moved"] * 4
        assert {server.choose("x", f"new{i}")["variant"] for i in range(30)} == {"A"}
        events = server.events("x")
        assert events[: len(happened)] == happened
        assert [(e["kind"], e["actor"], e["variant"], e["reason"]) for e in events if e["kind"] != "allocation"] == [
            ("started", "server", None, ""), ("suspended", "api", "B", "enough"),
        ]  # fmt: skip
    check_ledger(db, "x")


def test_another_process_hears_of_a_suspension_within_a_second_or_so(tmp_path: Path) -> None:
    file, db = tmp_path / "x.json", tmp_path / "b.db"
    file.write_text(json.dumps(declaration()))
    with command("--db", db, "--experiment", file) as one, command("--db", db, "--experiment", file) as two:
        (user,) = users_of(two, "x", "B", 1)

        one.switch("x", "B", "suspend")

        wait_until(lambda: two.choose("x", user)["reason"] == "moved", 5.0)


@pytest.mark.parametrize("first", [True, False])
def test_who_is_chosen_in_the_batch_of_a_suspension_is_not_remembered_with_the_variant(path: Path, first: bool) -> None:
    stored(path)
    asyncio.run(in_one_batch(path, [Move("x", "start"), *(Choose("x", f"u{i}") for i in range(9))], []))
    mine = [user for (user,) in rows(path, "SELECT user_id FROM assignments WHERE arm = 1")]
    suspend, asks = Switch("x", "B", on=False), [Choose("x", user) for user in mine]

    answers = asyncio.run(in_one_batch(path, [*asks, suspend] if first else [suspend, *asks], []))

    assert reasons(answers) == (["sticky"] if first else ["moved"]) * len(mine)
    assert answers[-len(mine) :] == ([None] if first else ["moved"]) * len(mine)


# Forced users


def test_a_forced_user_is_served_the_variant_and_learned_by_nobody(service: Service) -> None:
    service.create(rollout={"exposure": 0.0})
    service.switch("x", "B", "suspend")

    assert service.force("x", "a/b ü", "B", reason="QA").json() == {
        "experiment": "x", "user_id": "a/b ü", "variant": "B",
    }  # fmt: skip

    for _ in range(2):
        told = service.choose("x", "a/b ü")
        assert (told["variant"], told["reason"], told["propensity"], told["epoch"]) == ("B", "forced", None, None)
    assert service.reward("x", "a/b ü", "r").json()["ignored"] == {"resolved": "forced"}
    assert rows(service.path, "SELECT * FROM assignments") == []
    assert rows(service.path, "SELECT * FROM sums") == []
    story = service.get("/experiments/x/users/a%2Fb%20%C3%BC")
    assert story["forced"] == "B"
    assert "by hand" in story["why"]
    service.move("x", "stop", now=True)
    assert service.choose("x", "a/b ü")["reason"] == "forced"
    for _ in range(2):
        released = service.http.delete("/experiments/x/forced/a%2Fb%20%C3%BC")
        assert (released.status_code, released.json()["variant"]) == (200, None)
    assert service.choose("x", "a/b ü")["reason"] == "stopped"
    forced = [event for event in service.events("x") if "forced" in event["kind"]]
    assert [(e["kind"], e["variant"], e["reason"], e["evidence"]) for e in forced] == [
        ("forced", "B", "QA", {"user_id": "a/b ü"}), ("unforced", "B", "", {"user_id": "a/b ü"}),
    ]  # fmt: skip


def test_a_forced_user_keeps_the_own_variant_underneath(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "A", 1)

    service.force("x", user, "B")
    assert (service.choose("x", user)["variant"], service.choose("x", user)["reason"]) == ("B", "forced")
    assert service.reward("x", user, "r1", variant="B").json()["ignored"] == {"resolved": "forced"}
    service.writer.close()
    with in_process(service.path, service.clock) as other:
        assert other.choose("x", user)["reason"] == "forced"  # also after a restart
        other.http.delete(f"/experiments/x/forced/{user}")

        assert (other.choose("x", user)["variant"], other.choose("x", user)["reason"]) == ("A", "sticky")
        assert other.reward("x", user, "r2").json()["accepted"] == ["resolved"]
        assert check_ledger(other.path, "x") == 1


def test_somebody_forced_is_not_what_everybody_gets_after_the_end(service: Service) -> None:
    service.create()
    service.force("x", "anybody", "B")

    service.move("x", "stop", now=True)

    assert (service.choose("x", "stranger")["variant"], service.choose("x", "stranger")["reason"]) == ("A", "stopped")


def test_forcing_to_what_is_not_there_is_refused(service: Service) -> None:
    service.create()

    refused = is_problem(service.force("x", "u", "Z"), 422)
    assert [error["field"] for error in refused["errors"]] == ["variant"]
    is_problem(service.force("y", "u", "B"), 404)
    is_problem(service.force("x", "u" * 201, "B"), 422)
    is_problem(service.http.put("/experiments/x/forced/u", json={}), 422)
    is_problem(service.http.delete("/experiments/y/forced/u"), 404)
    assert rows(service.path, "SELECT * FROM forced") == []


def test_moved_and_forced_users_cost_no_statement(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    service.switch("x", "B", "suspend")
    service.choose("x", user)
    service.force("x", "tester", "B")
    statements: list[str] = []
    service.writer.store.db.set_trace_callback(statements.append)

    for _ in range(50):
        assert service.choose("x", user)["reason"] == "moved"
        assert service.choose("x", "tester")["reason"] == "forced"

    service.writer.store.db.set_trace_callback(None)
    assert [s for s in statements if s != "PRAGMA data_version"] == []


# Exposure


def test_another_exposure_holds_for_new_users_from_the_next_choose_on(service: Service) -> None:
    service.create(rollout={"exposure": 0.5})
    answers = {f"u{i}": service.choose("x", f"u{i}")["reason"] for i in range(60)}
    inside = [user for user, reason in answers.items() if reason == "new"]
    outside = [user for user, reason in answers.items() if reason == "not_enrolled"]
    assert min(len(inside), len(outside)) > 10

    answer = service.expose("x", 0, reason="slow models").json()

    assert (answer["key"], answer["exposure"], answer["ramp"]) == ("x", 0.0, None)
    assert {service.choose("x", user)["reason"] for user in inside} == {"sticky"}
    assert {service.choose("x", f"v{i}")["reason"] for i in range(20)} == {"not_enrolled"}
    assert service.expose("x", 1).json()["exposure"] == 1.0
    assert {service.choose("x", user)["reason"] for user in outside} == {"new"}
    assert service.expose("x", None).json()["exposure"] == 0.5
    ramp = [event for event in service.events("x") if event["kind"] == "ramp"]
    assert [(event["actor"], event["reason"], event["evidence"]) for event in ramp] == [
        ("api", "slow models", {"before": 0.5, "exposure": 0.0}),
        ("api", "set by hand", {"before": 0.0, "exposure": 1.0}),
        ("api", "set by hand", {"before": 1.0, "exposure": 0.5}),
    ]


def test_who_is_outside_in_the_batch_of_a_change_is_not_left_out(path: Path) -> None:
    stored(path, rollout={"exposure": 0.0})

    answers = asyncio.run(in_one_batch(path, [Move("x", "start"), Choose("x", "u"), Expose("x", 1.0)], []))

    assert reasons(answers) == ["not_enrolled"]
    assert answers[-1] is None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["exposure"]),
        ({"exposure": 0.5, "goal": {}}, ["goal"]),
        ({"goal": {}, "salt": "s"}, ["goal", "salt", "exposure"]),
        ({"exposure": 1.5}, ["exposure"]),
        ({"exposure": True}, ["exposure"]),
        ({"exposure": "all"}, ["exposure"]),
    ],
)
def test_what_may_not_change_is_refused_by_name(service: Service, body: dict[str, Any], fields: list[str]) -> None:
    service.create()

    refused = is_problem(service.http.patch("/experiments/x", json=body), 422)

    assert [error["field"] for error in refused["errors"]] == fields
    for error in refused["errors"]:
        if error["field"] in ("goal", "salt"):
            assert "allowed: 'exposure', 'reason'" in error["message"]
    assert kinds(service.events("x")) == ["started"]


def test_the_exposure_of_a_stopped_or_unknown_experiment_cannot_change(service: Service) -> None:
    service.create()
    service.move("x", "stop")

    is_problem(service.expose("x", 0.5), 409)
    is_problem(service.expose("y", 0.5), 404)


def test_the_ramp_shows_where_it_is_and_what_holds_it(service: Service) -> None:
    service.create("r", rollout={"ramp": [0.1, 1.0], "ramp_after": "10m", "ramp_users": 1}, guardrails=[], start=False)
    draft = service.get("/experiments/r")
    assert draft["ramp"] == {
        "steps": [0.1, 1.0], "step": 0, "since": None, "by_hand": None, "held": "the experiment is draft",
    }  # fmt: skip
    service.move("r", "start")
    started = service.get("/experiments/r")
    assert started["exposure"] == 0.1
    assert "10m" in started["ramp"]["held"]

    by_hand = service.expose("r", 0.7).json()
    assert (by_hand["exposure"], by_hand["ramp"]["by_hand"], by_hand["ramp"]["held"]) == (0.7, 0.7, None)

    assert service.expose("r", None).json()["exposure"] == 0.1
    users_of(service, "r", "B", 1)
    service.clock.now += 601
    wait_until(lambda: service.get("/experiments/r")["exposure"] == 1.0)  # by the clock alone
    top = service.get("/experiments/r")["ramp"]
    assert (top["step"], top["held"]) == (1, None)


# Events


def test_reasons_and_actors_of_a_life_are_kept(service: Service) -> None:
    service.create(start=False)
    for action, reason in (("start", "go"), ("pause", "lunch"), ("start", ""), ("stop", "done")):
        service.move("x", action, **({"reason": reason} if reason else {}))

    events = service.events("x")

    assert [(e["kind"], e["actor"], e["reason"]) for e in events if e["kind"] != "allocation"] == [
        ("started", "api", "go"), ("paused", "api", "lunch"), ("started", "api", ""), ("stopped", "api", "done"),
    ]  # fmt: skip
    assert events[-1]["variant"] == "A"
    assert events[-1]["evidence"] == {"now": False}
    refused = is_problem(service.move("x", "pause", why="so"), 422)
    assert [error["field"] for error in refused["errors"]] == ["why"]


def test_events_and_allocations_come_in_one_order_with_numbers_that_stay(service: Service) -> None:
    service.create(policy={"min_batch": 5, "warmup": 5}, rewards={"window": "request"})
    seen: list[dict[str, Any]] = []
    after = 0

    def page(limit: int) -> None:
        nonlocal after
        answer = service.get("/experiments/x/events", after=str(after), limit=str(limit))
        assert answer["next"] == (answer["events"][-1]["number"] if answer["events"] else after)
        seen.extend(answer["events"])
        after = answer["next"]

    for i in range(60):
        service.clock.now += 7
        service.choose("x", f"u{i}")
        service.reward("x", f"u{i}", f"r{i}")
        if i % 9 == 0:
            service.switch("x", "B", "suspend" if i % 2 else "resume")
        if i % 4 == 0:
            page(3)  # more comes while somebody reads page by page
    for _ in range(40):
        page(3)

    whole = service.get("/experiments/x/events")["events"]
    assert seen == whole
    assert [event["number"] for event in whole] == list(range(1, len(whole) + 1))
    assert [event["at"] for event in whole] == sorted(event["at"] for event in whole)
    allocations = [event for event in whole if event["kind"] == "allocation"]
    assert [event["epoch"] for event in allocations] == list(range(1, len(allocations) + 1))
    assert len(allocations) == rows(service.path, "SELECT count(*) FROM epochs")[0][0] > 5
    assert rows(service.path, "SELECT number, epoch FROM events") == [
        (i, event["epoch"]) for i, event in enumerate((e for e in whole if e["kind"] != "allocation"), 1)
    ]
    for before, event in itertools.pairwise(whole):
        assert event["epoch"] == before["epoch"] + (event["kind"] == "allocation")
    first = allocations[0]
    assert first["evidence"] == {"probabilities": {"A": 0.5, "B": 0.5}, "learned_epochs": 0}
    suspended = next(i for i, event in enumerate(whole) if event["kind"] == "suspended")
    after_it = next(event for event in whole[suspended:] if event["kind"] == "allocation")
    assert after_it["evidence"]["probabilities"] == {"A": 1.0, "B": 0.0}


@pytest.mark.parametrize("query", ["after=-1", "limit=0", "limit=1001", "limit=x", "since=3"])
def test_a_page_of_events_that_cannot_be_is_refused(service: Service, query: str) -> None:
    service.create()

    is_problem(service.http.get(f"/experiments/x/events?{query}"), 422)
    is_problem(service.http.get("/experiments/y/events"), 404)


# People and the store


def test_the_story_of_a_moved_user_says_so(service: Service) -> None:
    service.create()
    user, unaware = users_of(service, "x", "B", 2)
    service.clock.now += 60
    service.switch("x", "B", "suspend")
    service.choose("x", user)

    told, other = (service.get(f"/experiments/x/users/{each}") for each in (user, unaware))

    assert told["assignment"]["moved_at"] == "2027-01-15T08:01:00.000Z"
    assert told["assignment"]["moved_at"] in told["why"]
    assert other["assignment"]["moved_at"] is None
    assert "from the next call on" in other["why"]


def test_who_comes_back_in_a_later_window_is_counted_for_guardrails_alone(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    metrics = {"resolved": 1, "latency_ms": 2_000}
    assert service.reward("x", user, "r1", metrics=metrics).json()["accepted"] == ["resolved", "latency_ms"]
    service.clock.now += 3_601

    for _ in range(2):  # the second is a repetition
        told = service.reward("x", user, "r2", metrics=metrics).json()
    assert (told["late"], told["duplicate"]) == (["resolved"], ["latency_ms"])
    service.clock.now += 3_600
    service.reward("x", user, "r3", metrics={"latency_ms": 100})
    service.reward("x", user, "r4", metrics={"latency_ms": 1_700})

    kept = rows(service.path, "SELECT request_id, metric, epoch, arm, reason FROM rewards WHERE reason IS NOT NULL"
                " ORDER BY request_id, metric")  # fmt: skip
    assert kept == [
        ("r2", "latency_ms", 1, 1, RETURNED), ("r2", "resolved", None, None, "late"),
        ("r3", "latency_ms", 1, 1, RETURNED), ("r4", "latency_ms", 1, 1, RETURNED),
    ]  # fmt: skip
    assert rows(service.path, "SELECT measure, visit_window, n, z FROM returning_sums") == [
        (1, 2, 1.0, 1.0), (1, 3, 1.0, 0.5),
    ]  # fmt: skip
    assert rows(service.path, "SELECT measure, number, place, calls, total, first FROM visits") == [
        (1, 3, 2, 2, 1.0, 0.0)
    ]
    service.writer.close()
    with in_process(service.path, service.clock) as other:
        other.reward("x", user, "r5", metrics={"latency_ms": 1_700})
        assert rows(service.path, "SELECT z FROM returning_sums WHERE visit_window = 3") == [(2 / 3,)]
    check_ledger(service.path, "x")


def test_visits_that_wait_to_count_survive_a_restart_and_break_a_limit_when_they_do(service: Service) -> None:
    service.create(guardrails=[{"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}])
    users = users_of(service, "x", "B", 12)
    for user in users:
        service.reward("x", user, f"clean-{user}", metrics={"harmful": 0})
    service.clock.now += 3_700
    for user in users:
        told = service.reward("x", user, f"harm-{user}", metrics={"harmful": 1}).json()
        assert told["accepted"] == ["harmful"]
    assert rows(service.path, "SELECT sum(n), sum(z) FROM waiting_sums") == [(12.0, 12.0)]
    assert rows(service.path, "SELECT count(*) FROM returning_sums") == [(0,)]
    check_ledger(service.path, "x")
    service.writer.close()

    with in_process(service.path, service.clock) as other:
        assert not any(variant["suspended"] for variant in other.get("/experiments/x")["variants"])
        other.clock.now += 7_200
        assert other.choose("x", users[0])["reason"] in ("sticky", "moved")
        wait_until(lambda: other.choose("x", users[0])["reason"] == "moved")
        assert rows(service.path, "SELECT count(*) FROM waiting_sums") == [(0,)]
        assert rows(service.path, "SELECT sum(n), sum(z) FROM returning_sums") == [(12.0, 12.0)]
        check_ledger(service.path, "x")


def test_a_store_of_the_version_before_goes_on(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD.read_text(encoding="utf-8"))

    with in_process(path) as service:
        service.clock.now += 7_300  # a little after its last user came
        assert service.get("/readyz") == {"status": "ready"}
        known = rows(path, "SELECT user_id, arm FROM assignments")
        assert {user: service.choose("x", user)["variant"] for user, _ in known} == {
            user: "AB"[arm] for user, arm in known
        }
        assert [event["kind"] for event in service.events("x")] == ["allocation"] * 4
        state = service.get("/experiments/x")
        assert (state["exposure"], state["ramp"], state["users"]) == (1.0, None, 12)
        assert [variant["generation"] for variant in state["variants"]] == [0, 0]
        assert service.get("/experiments/x/report")["closed_epochs"] == 1

        assert service.reward("x", "u11", "again", metrics={"latency_ms": 10}).json()["accepted"] == ["latency_ms"]
        service.switch("x", "B", "suspend", reason="old")
        assert [service.choose("x", user)["reason"] for user, arm in known if arm == 1] == ["moved"] * 4
        service.switch("x", "B", "resume")
        assert users_of(service, "x", "B", 1, "new")
        assert kinds(service.events("x")) == ["suspended", "resumed"]
    with in_process(path) as service:
        assert state_of(service, "x", "B")["generation"] == 1
    check_ledger(path, "x")


def test_the_migrations_of_an_old_file_are_those_of_a_new_one(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD.read_text(encoding="utf-8"))
    new = tmp_path / "new.db"
    for each in (path, new):
        prepare(each)

    def tables(file: Path) -> list[tuple[Any, ...]]:
        return rows(
            file,
            "SELECT m.name, p.name, p.type, p.pk FROM sqlite_master m, pragma_table_info(m.name) p"
            " WHERE m.name NOT LIKE '!_%' ESCAPE '!' AND m.type = 'table' ORDER BY 1, p.cid",
        )

    assert tables(path) == tables(new)
    applied, declared = ([m.name for m in migrations.applied(Database(file))] for file in (path, new))
    assert applied == declared
    assert applied[:2] == ["first_tables", "guardrails"]


def failing(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize(
    "change",
    [
        lambda service: service.switch("x", "B", "suspend"),
        lambda service: service.force("x", "u", "B"),
        lambda service: service.expose("x", 0.0),
    ],
)
def test_a_change_that_could_not_be_stored_has_not_happened(
    service: Service, monkeypatch: pytest.MonkeyPatch, change: Callable[[Service], Any]
) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    with monkeypatch.context() as patch:
        patch.setattr(service.writer.store, "commit", failing)
        is_problem(change(service), 503)

    assert service.choose("x", user)["reason"] == "sticky"
    assert service.choose("x", "u-new")["reason"] == "new"
    assert kinds(service.events("x")) == ["started"]
    assert change(service).status_code == 200
    assert len(kinds(service.events("x"))) == 2


def test_a_batch_with_everything_in_it_is_stored_as_it_was_answered(path: Path) -> None:
    stored(path)
    operations: list[Operation] = [
        Move("x", "start"), *(Choose("x", f"u{i}") for i in range(8)), Force("x", "u0", "B"),
        Switch("x", "B", on=False, reason="r"), *(Choose("x", f"u{i}") for i in range(8)),
        Count("x", Reward("u0", "r0", {"resolved": 1})), Force("x", "u0", None), Expose("x", 0.25),
        Switch("x", "B", on=True), *(Choose("x", f"v{i}") for i in range(8)),
    ]  # fmt: skip

    asyncio.run(in_one_batch(path, operations, []))

    store = Store(path)
    loaded = store.load("x")
    store.close()
    assert loaded is not None
    assert [event.kind for event in loaded.saved.events] == [
        "started", "forced", "suspended", "unforced", "ramp", "resumed",
    ]  # fmt: skip
    assert [(g.arm, g.number, g.ended) for g in loaded.saved.generations] == [
        (0, 0, None), (1, 0, "suspended"), (1, 1, None),
    ]  # fmt: skip
    assert (loaded.saved.forced, loaded.saved.ramp.by_hand) == ({}, 0.25)
    check_ledger(path, "x")
