"""Another version of a variant's configuration, over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import Assignment
from bandit.json_values import content_hash
from server.answers import VersionAnswer
from server.examples import BODIES
from server.operations import Choose, Move, Reconfigure, Switch
from tests.server.running import (
    JSON,
    Client,
    Service,
    check_ledger,
    command,
    declaration,
    everything,
    in_process,
    is_problem,
    rows,
    wait_until,
)
from tests.server.test_batches import in_one_batch, reasons, stored
from tests.server.test_constraints import failing, kinds, state_of, users_of

OLD = {"model": "m2", "n": [1, {"deep": None}]}
NEW = {"model": "m3", "prompt": {"steps": ["é", None, 0.5]}}


def version(client: Client, config: object, key: str = "x", variant: str = "B", **body: object) -> httpx.Response:
    path = f"/experiments/{quote(key, safe='')}/variants"
    return client.http.post(path, json={"key": variant, "config": config, **body})


def config_of(client: Client, variant: int = 1, key: str = "x") -> dict[str, Any]:
    config: dict[str, Any] = client.get(f"/experiments/{key}")["definition"]["variants"][variant]["config"]
    return config


def served(client: Client, user: str, key: str = "x") -> tuple[str, dict[str, Any], str]:
    told = client.choose(key, user)
    return told["variant"], told["config"], told["reason"]


# What users get


def test_who_has_the_variant_gets_the_new_config_at_the_next_choose_of_another_client(service: Service) -> None:
    service.create()
    mine, others = users_of(service, "x", "B", 3), users_of(service, "x", "A", 2)
    other = Client(str(service.http.base_url))
    assert [served(other, user) for user in mine] == [("B", OLD, "sticky")] * 3  # from memory

    answer = version(service, NEW, reason="clearer steps")

    assert answer.status_code == 200, answer.text
    for _ in range(2):  # the first is asked of the store, the second comes from memory
        for user in mine:
            told = other.choose("x", user)
            assert (told["variant"], told["config"], told["reason"]) == ("B", NEW, "moved")
            assert (told["propensity"], told["epoch"]) == (None, None)
    assert [served(other, user) for user in others] == [("A", {"model": "m1"}, "sticky")] * 2
    told = other.reward("x", mine[0], "r", metrics={"resolved": 1, "latency_ms": 9_000}, variant="B").json()
    assert told["ignored"] == {"resolved": "moved", "latency_ms": "moved"}
    assert rows(service.path, "SELECT * FROM sums") == []
    assert rows(service.path, "SELECT count(*) FROM assignments WHERE moved_at IS NOT NULL") == [(3,)]
    assert rows(service.path, "SELECT arm, sum(moved) FROM cells GROUP BY arm ORDER BY 1") == [(0, 0), (1, 3)]
    check_ledger(service.path, "x")
    other.http.close()


def test_new_users_count_for_the_new_generation_alone(service: Service) -> None:
    service.create(rewards={"window": "request"}, guardrails=[], salt="s")
    old = [user for user in (f"old{i}" for i in range(12)) if service.choose("x", user)["variant"] == "B"]
    for i in range(12):
        service.reward("x", f"old{i}", f"old{i}", metrics={"resolved": 0})

    version(service, NEW)

    told = {f"new{i}": served(service, f"new{i}") for i in range(12)}
    new = [user for user, (variant, config, reason) in told.items() if (variant, config, reason) == ("B", NEW, "new")]
    assert [served(service, user) for user in new] == [("B", NEW, "sticky")] * len(new)
    for user in told:
        assert service.reward("x", user, user).json()["accepted"] == ["resolved"]
    counted = rows(service.path, "SELECT epoch, n, z FROM sums WHERE arm = 1 ORDER BY 1")
    assert counted == [(1, len(old), 0.0), (2, len(new), len(new))]
    assert min(len(old), len(new)) > 2
    service.move("x", "pause")  # ends the epoch, so that the report reads it
    report = service.get("/experiments/x/report")["variants"][1]
    assert (report["generation"], report["users"], report["mean"]) == (1, len(new), 1.0)
    check_ledger(service.path, "x")


def test_moved_users_cost_no_statement_and_a_later_change_reaches_them(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    version(service, NEW)
    service.choose("x", user)
    statements: list[str] = []
    service.writer.store.db.set_trace_callback(statements.append)

    for _ in range(50):
        assert served(service, user) == ("B", NEW, "moved")

    service.writer.store.db.set_trace_callback(None)
    assert [s for s in statements if s != "PRAGMA data_version"] == []
    version(service, {"v": 3})
    assert [served(service, user) for _ in range(2)] == [("B", {"v": 3}, "moved")] * 2
    service.switch("x", "B", "suspend")
    assert [served(service, user) for _ in range(2)] == [("A", {"model": "m1"}, "moved")] * 2
    service.switch("x", "B", "resume")
    version(service, {"v": 4})
    assert [served(service, user) for _ in range(2)] == [("A", {"model": "m1"}, "moved")] * 2  # for good
    assert served(service, users_of(service, "x", "B", 1, "later")[0]) == ("B", {"v": 4}, "sticky")


def test_a_suspended_variant_that_changes_stays_suspended(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    service.switch("x", "B", "suspend", reason="it swears")

    answer = version(service, NEW).json()

    assert answer["suspended"] == {"reason": "it swears", "since_epoch": 2}
    assert answer["config"] == NEW
    assert served(service, user) == ("A", {"model": "m1"}, "moved")
    assert {service.choose("x", f"new{i}")["variant"] for i in range(30)} == {"A"}
    service.switch("x", "B", "resume")
    assert served(service, users_of(service, "x", "B", 1, "later")[0]) == ("B", NEW, "sticky")
    assert state_of(service, "x", "B")["generation"] == 1


def test_a_forced_user_is_served_the_new_config(service: Service) -> None:
    service.create()
    service.force("x", "tester", "B")
    assert served(service, "tester") == ("B", OLD, "forced")

    version(service, NEW)

    assert [served(service, "tester") for _ in range(2)] == [("B", NEW, "forced")] * 2


def test_a_draft_changes_without_another_generation_and_a_pause_without_a_new_epoch(service: Service) -> None:
    service.create(start=False)
    version(service, {"v": 2})
    service.move("x", "start")
    (user,) = users_of(service, "x", "B", 1)
    assert served(service, user) == ("B", {"v": 2}, "sticky")
    assert state_of(service, "x", "B")["generation"] == 0

    service.move("x", "pause")
    version(service, {"v": 3})
    assert served(service, user) == ("B", {"v": 3}, "moved")
    assert served(service, "stranger") == ("A", {"model": "m1"}, "not_enrolled")
    version(service, {"v": 4})
    assert [served(service, user) for _ in range(2)] == [("B", {"v": 4}, "moved")] * 2
    service.move("x", "start")

    assert served(service, users_of(service, "x", "B", 1, "later")[0]) == ("B", {"v": 4}, "sticky")
    assert state_of(service, "x", "B")["generation"] == 1
    check_ledger(service.path, "x")


def test_everybody_gets_the_new_config_after_the_end(service: Service) -> None:
    service.create()
    version(service, NEW)

    service.move("x", "stop", serve="B", now=True)

    assert served(service, "anybody") == ("B", NEW, "stopped")


def test_an_answer_has_the_config_that_it_was_given_for_also_when_the_variant_changed_meanwhile(
    service: Service,
) -> None:
    service.create()
    version(service, NEW)
    view = service.writer.views["x"]

    for config in (OLD, NEW, OLD):
        tail = view.tail(Assignment("B", config, 0.5, 1, "new"))
        assert json.loads(b"{" + b"".join(tail))["config"] == config


def test_users_of_other_variants_keep_their_answer_in_memory(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "A", 1)
    service.choose("x", user)
    before = service.writer.views["x"].known(user)

    version(service, NEW)

    assert before is not None
    assert service.writer.views["x"].known(user) is before
    fresh = users_of(service, "x", "A", 1, "later")[0]
    tail = service.writer.views["x"].known(fresh)
    assert tail is not None
    assert tail[0] is before[0]  # one config in memory for all of them


@pytest.mark.parametrize("first", [True, False])
def test_who_is_chosen_in_the_batch_of_a_change_is_not_remembered_with_what_was(path: Path, first: bool) -> None:
    stored(path)
    asyncio.run(in_one_batch(path, [Move("x", "start"), *(Choose("x", f"u{i}") for i in range(9))], []))
    mine = [user for (user,) in rows(path, "SELECT user_id FROM assignments WHERE arm = 1")]
    change, asks = Reconfigure("x", "B", NEW), [Choose("x", user) for user in mine]

    answers = asyncio.run(in_one_batch(path, [*asks, change] if first else [change, *asks], []))

    assert reasons(answers) == (["sticky"] if first else ["moved"]) * len(mine)
    configs = [answer.config for answer in answers if isinstance(answer, Assignment)]
    assert configs == [OLD if first else NEW] * len(mine)
    # Who has just been answered is asked of the store once more in any case: the batch took their variant away.
    assert answers[-len(mine) :] == [None] * len(mine)


def test_who_is_moved_to_a_variant_in_the_batch_that_suspends_it_is_not_remembered(path: Path) -> None:
    stored(path)
    asyncio.run(in_one_batch(path, [Move("x", "start"), *(Choose("x", f"u{i}") for i in range(9))], []))
    user = rows(path, "SELECT user_id FROM assignments WHERE arm = 1")[0][0]
    asyncio.run(in_one_batch(path, [Reconfigure("x", "B", NEW)], []))
    twice = [Switch("x", "B", on=False), Switch("x", "B", on=True)]

    answers = asyncio.run(in_one_batch(path, [Choose("x", user), *twice], []))
    later = asyncio.run(in_one_batch(path, [Choose("x", user)], []))

    assert (answers[0].variant, answers[0].reason, answers[-1]) == ("B", "moved", None)
    assert (later[0].variant, later[0].reason, later[-1]) == ("A", "moved", "moved")


def test_under_load_every_answer_has_the_config_of_its_generation(service: Service) -> None:
    service.create(salt="s")
    over = threading.Event()

    def come(number: int) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        client = Client(str(service.http.base_url))
        while not over.is_set():
            turn, place = divmod(len(answers), 3)  # somebody who comes again and again, then somebody new twice
            answers.append(client.choose("x", f"u{number}-{turn}" if place else f"old{number}-{turn % 5}"))
        client.http.close()
        return answers

    with ThreadPoolExecutor(6) as pool:
        visits = [pool.submit(come, number) for number in range(6)]
        try:
            for number in range(1, 31):
                assert version(service, {"v": number}).json()["generation"] == number
        finally:
            over.set()
    told = [answer for visit in visits for answer in visit.result()]

    generations = rows(service.path, "SELECT first_epoch, last_epoch, number FROM generations WHERE arm = 1")
    number_of = {
        epoch: number for first, last, number in generations for epoch in range(first, (last or first + 99) + 1)
    }
    mine = [answer for answer in told if answer["variant"] == "B"]
    assert {answer["reason"] for answer in mine} == {"new", "sticky", "moved"}
    for answer in mine:
        possible = [number_of[answer["epoch"]]] if answer["epoch"] else list(range(1, 31))
        assert answer["config"] in [{"v": number} if number else OLD for number in possible]
    check_ledger(service.path, "x")


# What people read


def test_the_experiment_its_events_and_the_answer_show_the_new_version(service: Service) -> None:
    service.create()

    answer = version(service, NEW, reason="clearer steps").json()

    assert answer.keys() == {
        "experiment", "variant", "suspended", "generation", "guardrails", "config", "version", "config_hash",
    }  # fmt: skip
    assert (answer["experiment"], answer["variant"], answer["suspended"]) == ("x", "B", None)
    assert (answer["generation"], answer["config"]) == (1, NEW)
    described = service.get("/experiments/x")
    assert [variant["config"] for variant in described["definition"]["variants"]] == [{"model": "m1"}, NEW]
    assert [variant["generation"] for variant in described["variants"]] == [0, 1]
    assert described["epochs"] == 2
    events = service.events("x")
    assert kinds(events, allocations=True) == ["started", "allocation", "changed", "allocation"]
    assert [events[2][name] for name in ("actor", "variant", "epoch", "reason", "evidence")] == [
        "api", "B", 1, "clearer steps", {"before": OLD, "config": NEW},
    ]  # fmt: skip


def test_the_same_config_again_changes_nothing_and_answers_the_same(service: Service) -> None:
    service.create()
    users_of(service, "x", "B", 2)
    first = version(service, NEW, reason="one")
    held = everything(service.path)

    again = version(service, dict(reversed(NEW.items())), reason="two")

    assert (again.status_code, again.json()) == (200, first.json())
    assert everything(service.path) == held
    assert version(service, OLD).json()["generation"] == 2  # what it once was is another version, too


def test_the_story_of_a_user_says_what_became_of_the_version(service: Service) -> None:
    service.create()
    user, unaware = users_of(service, "x", "B", 2)
    service.clock.now += 60
    version(service, NEW)
    service.choose("x", user)

    told, other = (service.get(f"/experiments/x/users/{each}") for each in (user, unaware))

    assert told["assignment"]["moved_at"] == "2027-01-15T08:01:00.000Z"
    assert "its config changed after that; since 2027-01-15T08:01:00.000Z" in told["why"]
    assert other["assignment"]["moved_at"] is None
    assert "its config changed after that; from the next call on" in other["why"]
    service.switch("x", "B", "suspend")
    assert "control for good" in service.get(f"/experiments/x/users/{user}")["why"]


def test_the_document_describes_the_call_and_its_example_works(service: Service) -> None:
    service.create()
    call = service.get("/openapi.json")["paths"]["/experiments/{key}/variants"]["post"]
    content = call["requestBody"]["content"]["application/json"]
    (example,) = content["examples"].values()

    answer = service.http.post("/experiments/x/variants", json=example["value"])

    assert content["schema"]["$ref"].endswith("/VersionRequest")
    assert example == BODIES["VersionRequest"]["demo"]
    assert set(call["responses"]) == {"200", "400", "403", "404", "409", "413", "415", "422", "503"}
    described = call["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert described.endswith("/VersionAnswer")
    decoded = msgspec.json.decode(answer.content, type=VersionAnswer, strict=True)
    assert decoded.config == example["value"]["config"]
    assert answer.json().keys() == msgspec.to_builtins(decoded).keys()


# Durability


def test_a_version_survives_kill_9_and_the_file_of_the_start(tmp_path: Path) -> None:
    file, db = tmp_path / "x.json", tmp_path / "b.db"
    file.write_text(json.dumps(declaration()))
    with command("--db", db, "--experiment", file) as server:
        mine = users_of(server, "x", "B", 3)
        answer = version(server, NEW, reason="clearer")
        assert answer.status_code == 200
        assert served(server, mine[0]) == ("B", NEW, "moved")
        happened = server.events("x")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL

    with command("--db", db, "--experiment", file) as server:  # the file says what was; the store says what is
        assert [served(server, user) for user in mine] == [("B", NEW, "moved")] * 3
        assert server.choose("x", users_of(server, "x", "B", 1, "later")[0])["config"] == NEW
        assert config_of(server) == NEW
        assert state_of(server, "x", "B")["generation"] == 1
        assert server.events("x")[: len(happened)] == happened
        assert version(server, NEW).json() == answer.json()
    check_ledger(db, "x")


def test_a_version_and_all_that_belongs_to_it_are_one_transaction(service: Service) -> None:
    service.create()
    statements: list[str] = []
    service.writer.store.db.set_trace_callback(statements.append)

    version(service, NEW)
    service.choose("x", "u")

    service.writer.store.db.set_trace_callback(None)
    assert sum("SET definition" in statement for statement in statements) == 1  # what is the same is not written again
    began = next(i for i, s in enumerate(statements) if s.startswith("UPDATE experiments SET definition"))
    first = max(i for i, s in enumerate(statements[:began]) if s.startswith("BEGIN"))
    last = next(i for i, s in enumerate(statements) if i > began and s == "COMMIT")
    written = " ".join(statements[first:last])
    for table in ("INTO epochs", "INTO generations", "INTO events", ", version = "):
        assert table in written
    ((definition,),) = rows(service.path, "SELECT definition FROM experiments")
    assert json.loads(definition)["variants"][1]["config"] == NEW


def test_a_version_that_could_not_be_stored_has_not_happened(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    with monkeypatch.context() as patch:
        patch.setattr(service.writer.store, "commit", failing)
        is_problem(version(service, NEW), 503)

    assert served(service, user) == ("B", OLD, "sticky")
    assert served(service, users_of(service, "x", "B", 1, "later")[0]) == ("B", OLD, "sticky")
    assert config_of(service) == OLD
    assert kinds(service.events("x")) == ["started"]
    assert version(service, NEW).json()["generation"] == 1
    assert served(service, user) == ("B", NEW, "moved")


def test_another_process_serves_the_new_config_within_a_second_or_so(tmp_path: Path) -> None:
    file, db = tmp_path / "x.json", tmp_path / "b.db"
    file.write_text(json.dumps(declaration()))
    with command("--db", db, "--experiment", file) as one, command("--db", db, "--experiment", file) as two:
        (user,) = users_of(two, "x", "B", 1)
        (other,) = users_of(two, "x", "A", 1)
        assert served(two, user) == ("B", OLD, "sticky")

        version(one, NEW)

        wait_until(lambda: served(two, user) == ("B", NEW, "moved"), 5.0)
        assert served(two, user) == ("B", NEW, "moved")  # from memory
        assert served(two, other) == ("A", {"model": "m1"}, "sticky")
        assert two.choose("x", users_of(two, "x", "B", 1, "later")[0])["config"] == NEW
        assert config_of(two) == NEW
        assert version(two, {"v": 3}).json()["generation"] == 2
        wait_until(lambda: served(one, user) == ("B", {"v": 3}, "moved"), 5.0)
    check_ledger(db, "x")


def test_a_new_server_on_the_file_goes_on_with_what_was_changed(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    version(service, {"v": 2})
    version(service, NEW)
    service.choose("x", user)
    fresh = users_of(service, "x", "B", 1, "later")[0]
    report = service.get("/experiments/x/report")
    service.writer.close()

    with in_process(service.path, service.clock) as other:
        assert served(other, user) == ("B", NEW, "moved")
        assert served(other, fresh) == ("B", NEW, "sticky")
        assert other.reward("x", user, "r1").json()["ignored"] == {"resolved": "moved"}
        assert other.reward("x", fresh, "r2").json()["accepted"] == ["resolved"]
        assert other.get("/experiments/x/report")["variants"][1]["generation"] == report["variants"][1]["generation"]
        assert version(other, {"v": 4}).json()["generation"] == 3
    check_ledger(service.path, "x")


# Refusals


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("body", "status", "field", "words"),
    [
        (b'{"key": "Z", "config": {}}', 422, "key", "received 'Z', allowed: 'A', 'B'"),
        (b'{"key": 1, "config": {}}', 422, "key", "str"),
        (b'{"config": {}}', 422, "key", "missing"),
        (b'{"key": "B"}', 422, "config", "missing"),
        (b'{"key": "B", "config": [1]}', 422, "config", "received [1]"),
        (b'{"key": "B", "config": null}', 422, "config", "received None"),
        (b'{"key": "B", "config": {"t": NaN}}', 400, None, "not JSON"),
        (b'{"key": "B", "config": {"t": -Infinity}}', 400, None, "not JSON"),
        (b'{"key": "B", "config": {"t": 1e999}}', 422, "", ""),
        (b'{"key": "B", "config": {"t": [18446744073709551616]}}', 422, "config.t[0]", "integers of 64 bits"),
        (b'{"key": "B", "config": {"t": 1, "t": 2}}', 422, "", "duplicate key 't'"),
        (b'{"key": "B", "config": {}, "control": true}', 422, "control", "allowed: 'key', 'config', 'reason'"),
        (b'{"key": "B", "confg": {}}', 422, "confg", "did you mean 'config'?"),
        (b'{"key": "B", "config": {}, "reason": "a\\nb"}', 422, "reason", "one line"),
        (b'{"key": "B", "config": {}, "reason": 1}', 422, "reason", "str"),
        (b'{"key": "A", "config": {}}', 409, None, "control"),
        (b'{"key": "A", "config": {"model": "m1"}}', 409, None, "control"),
        (json.dumps({"key": "B", "config": {"t": nested(25)}}).encode(), 422, "config", "at most 20"),
        (json.dumps({"key": "B", "config": {"t": "x" * 950_000}}).encode(), 422, "config", "900000"),
        (json.dumps({"key": "B", "config": {"t": "x" * 1_000_000}}).encode(), 413, None, "1000000"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_a_version_is_refused_by_name_and_changes_nothing(
    service: Service, body: bytes, status: int, field: str | None, words: str
) -> None:
    service.create()
    users_of(service, "x", "B", 1)
    before = everything(service.path)

    refused = is_problem(service.http.post("/experiments/x/variants", content=body, headers=JSON), status)

    assert everything(service.path) == before
    faults = {error["field"]: error["message"] for error in refused.get("errors", [])}
    assert field is None or field in faults
    assert words in (refused["detail"] if field is None else faults[field])
    assert config_of(service) == OLD


def test_every_fault_of_a_version_is_named(service: Service) -> None:
    service.create()

    refused = is_problem(service.http.post("/experiments/x/variants", json={"config": 1, "raeson": ""}), 422)

    assert [error["field"] for error in refused["errors"]] == ["raeson", "key", "config"]


def test_a_config_that_fits_alone_may_be_too_large_beside_the_others(service: Service) -> None:
    service.create()
    assert version(service, {"prompt": "x" * 800_000}).status_code == 200
    service.create("y", variants=[
        {"key": "A", "control": True, "config": {"prompt": "x" * 500_000}}, {"key": "B", "config": {}},
    ])  # fmt: skip

    refused = is_problem(version(service, {"prompt": "x" * 800_000}, "y"), 422)

    assert [error["field"] for error in refused["errors"]] == ["config"]
    assert served(service, users_of(service, "x", "B", 1)[0])[1] == {"prompt": "x" * 800_000}
    assert config_of(service, 1, "y") == {}
    service.writer.close()
    with in_process(service.path, service.clock) as other:  # what was accepted can be read again
        assert other.get("/readyz") == {"status": "ready"}


def test_experiments_that_are_over_or_unknown_have_no_versions(service: Service) -> None:
    service.create()
    service.move("x", "stop")
    before = everything(service.path)

    assert "stopped" in is_problem(version(service, NEW), 409)["detail"]
    is_problem(version(service, NEW, "y"), 404)
    is_problem(service.http.post("/experiments/x/variants?dry_run=true", json={"key": "B", "config": NEW}), 422)
    is_problem(service.http.get("/experiments/x/variants"), 405)

    assert everything(service.path) == before


# Versions, their hashes, and the way back


def rolled_back(client: Client, variant: str = "B", **body: object) -> httpx.Response:
    return client.http.post(f"/experiments/x/variants/{variant}/rollback", json=body)


def test_answers_carry_the_version_and_the_hash_of_the_config(service: Service) -> None:
    service.create()
    (user,) = users_of(service, "x", "B", 1)
    before = service.choose("x", user)
    assert (before["version"], before["config_hash"]) == (1, content_hash(OLD))

    answer = version(service, NEW).json()

    assert (answer["version"], answer["config_hash"]) == (2, content_hash(NEW))
    after = service.choose("x", user)
    assert (after["config"], after["version"], after["config_hash"]) == (NEW, 2, content_hash(NEW))
    (new,) = users_of(service, "x", "B", 1, "later")
    assert service.choose("x", new)["version"] == 2
    (control,) = users_of(service, "x", "A", 1)
    assert service.choose("x", control)["version"] == 1
    assert [state["version"] for state in service.get("/experiments/x")["variants"]] == [1, 2]
    with in_process(service.path) as other:
        assert other.choose("x", new)["config_hash"] == content_hash(NEW)


def test_one_call_goes_back_to_the_version_before_which_begins_anew(service: Service) -> None:
    service.create()
    version(service, NEW)
    (user,) = users_of(service, "x", "B", 1)

    answer = rolled_back(service, reason="answers got worse").json()

    assert (answer["config"], answer["version"], answer["config_hash"]) == (OLD, 3, content_hash(OLD))
    assert answer["generation"] == 2
    assert config_of(service) == OLD
    told = service.choose("x", user)
    assert (told["config"], told["reason"], told["version"]) == (OLD, "moved", 3)
    assert [event["reason"] for event in service.events("x") if event["kind"] == "changed"] == ["", "answers got worse"]
    assert rolled_back(service, version=2).json()["config"] == NEW
    assert rolled_back(service, version=2).json()["version"] == 4  # it has that one: nothing changes
    check_ledger(service.path, "x")


@pytest.mark.parametrize(
    ("variant", "body", "status", "field"),
    [
        ("B", {}, 409, None),  # one version only
        ("A", {}, 409, None),
        ("Z", {}, 404, None),
        ("B", {"version": 0}, 422, "version"),
        ("B", {"version": 2}, 422, "version"),
        ("B", {"version": "1"}, 422, "version"),
        ("B", {"versoin": 1}, 422, "versoin"),
        ("B", {"reason": "a\nb"}, 422, "reason"),
    ],
)
def test_a_way_back_that_leads_nowhere_changes_nothing(
    service: Service, variant: str, body: dict[str, Any], status: int, field: str | None
) -> None:
    service.create()
    before = everything(service.path)

    answer = is_problem(rolled_back(service, variant, **body), status)

    assert [error["field"] for error in answer.get("errors", [])] == ([] if field is None else [field])
    assert everything(service.path) == before


def test_an_interaction_knows_the_version_that_it_counts_for(service: Service) -> None:
    service.create()
    for number, config in enumerate((None, NEW, OLD), 1):
        if config is not None:
            version(service, config)
        (user,) = users_of(service, "x", "B", 1, f"v{number}-")
        body = {"experiment": "x", "user_id": user, "request_id": f"r{number}", "latency_ms": 1.0}
        assert service.http.post("/interactions", json=body).json()["variant"] == "B"
    found = service.get("/experiments/x/interactions")["interactions"]
    assert [one["version"] for one in found] == [1, 2, 3]


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)),
        max_size=4,
    )
)
def test_a_hash_is_that_of_the_values_whatever_their_order(config: dict[str, Any]) -> None:
    backwards = dict(reversed(list(config.items())))

    assert content_hash(config) == content_hash(backwards)
    for key, value in config.items():
        others = [other for other in (0, 0.0, False, "0", value) if json.dumps(other) != json.dumps(value)]
        assert all(content_hash({**config, key: other}) != content_hash(config) for other in others)
