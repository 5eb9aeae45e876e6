"""The interaction log: stored once, counted through the door of rewards, read, exported, erased, dropped."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bandit import InvalidExperiment, parse
from bandit.experiment import notes
from bandit.measures import metric_fields
from server.interactions import LONGEST_TEXT, Interaction
from server.operations import Erase, Log
from server.retention import Retention
from server.verify import verify
from tests.server.running import JSON, Clock, Service, check_ledger, declaration, in_process, is_problem, rows

GUARDRAILS = [
    {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
    {"metric": "harmful", "field": "safety_flag", "kind": "binary", "per_user": "any", "max": 0.1},
    {"metric": "failed", "kind": "binary", "max": 0.5},
]
GOAL = {"metric": "user_feedback_score", "kind": "numeric", "range": [1, 5]}
SAID: dict[str, Any] = {
    "model_name": "m", "system_prompt_version": "v2", "latency_ms": 912.5, "prompt_tokens": 184,
    "completion_tokens": 71, "safety_flag": False, "user_feedback_score": 4, "user_input": "Wo ist mein Paket?\n\x00é",
    "model_output": "Unterwegs \U0001f69a",
}  # fmt: skip


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    with in_process(path) as running:
        running.create("x", goal=GOAL, guardrails=GUARDRAILS)
        yield running


def call(user: str = "u", request: str = "r", **more: object) -> dict[str, Any]:
    return {"experiment": "x", "user_id": user, "request_id": request, **more}


def log(service: Service, user: str = "u", request: str = "r", **more: object) -> dict[str, Any]:
    response = service.http.post("/interactions", json=call(user, request, **more))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def stored(service: Service, **parameters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.get("/experiments/x/interactions", **parameters)["interactions"]
    return found


def test_an_interaction_is_stored_as_it_was_told_and_its_metrics_count(service: Service) -> None:
    chosen = service.choose("x", "u")

    answer = log(service, variant_id=chosen["variant"], **SAID)

    assert answer == {
        "interaction": "stored", "variant": chosen["variant"], "reason": None,
        "accepted": ["user_feedback_score", "latency_ms", "harmful"], "duplicate": [], "late": [], "ignored": {},
    }  # fmt: skip
    (found,) = stored(service)
    assert {name: found[name] for name in SAID} == SAID
    assert (found["number"], found["experiment"], found["request_id"], found["user_id"]) == (1, "x", "r", "u")
    assert (found["variant"], found["variant_id"]) == (chosen["variant"], chosen["variant"])
    assert (found["epoch"], found["propensity"], found["reason"]) == (chosen["epoch"], chosen["propensity"], None)
    assert found["created_at"] == "2027-01-15T08:00:00.000Z"
    story = service.get("/experiments/x/users/u")
    assert {(value["metric"], value["value"], value["request_id"]) for value in story["rewards"]} == {
        ("user_feedback_score", 4.0, "r"), ("latency_ms", 912.5, "r"), ("harmful", 0.0, "r"),
    }  # fmt: skip
    check_ledger(service.path, "x")
    assert verify(service.path).differences == 0


def test_what_comes_again_changes_nothing_and_another_one_under_its_id_is_refused(service: Service) -> None:
    service.choose("x", "u")
    service.choose("x", "v")
    first = log(service, **SAID)

    again = log(service, **SAID)

    assert again == {**first, "interaction": "duplicate", "accepted": [], "duplicate": first["accepted"]}
    for other in ({**SAID, "model_output": "else"}, {**SAID, "latency_ms": 900}, {}):
        is_problem(service.http.post("/interactions", json=call(**other)), 409)
    is_problem(service.http.post("/interactions", json=call("v", **SAID)), 409)
    batch = service.http.post(
        "/interactions/batch", json={"items": [call(**SAID), call("v", "s"), call("v", "s", latency_ms=1)]}
    )
    items = batch.json()["items"]
    assert [item["status"] for item in items] == [200, 200, 409]
    assert [item["interaction"] for item in items[:2]] == ["duplicate", "stored"]
    assert [one["request_id"] for one in stored(service)] == ["r", "s"]
    check_ledger(service.path, "x")


def test_a_value_that_was_reported_otherwise_refuses_the_whole_interaction(service: Service) -> None:
    service.choose("x", "u")
    assert service.reward("x", "u", "r", metrics={"latency_ms": 10.0}).status_code == 200

    is_problem(service.http.post("/interactions", json=call(latency_ms=11.0, user_feedback_score=3)), 409)
    assert stored(service) == []
    answer = log(service, latency_ms=10.0, user_feedback_score=3)

    assert (answer["accepted"], answer["duplicate"]) == (["user_feedback_score"], ["latency_ms"])


def test_one_whose_variant_is_not_the_users_is_stored_listed_and_counts_for_none(service: Service) -> None:
    variant = service.choose("x", "u")["variant"]
    other = "B" if variant == "A" else "A"

    answer = log(service, variant_id=other, **SAID)

    assert (answer["interaction"], answer["variant"], answer["reason"]) == ("stored", None, "other_variant")
    assert set(answer["ignored"].values()) == {"other_variant"}
    log(service, request="s", variant_id=variant, latency_ms=1.0)
    (odd,) = stored(service, counted="false")
    assert (odd["request_id"], odd["reason"], odd["variant"], odd["epoch"]) == ("r", "other_variant", None, None)
    assert odd["variant_id"] == other
    assert [one["request_id"] for one in stored(service, counted="true")] == ["s"]
    assert service.get("/experiments/x/users/u")["outcomes"][0]["metric"] == "latency_ms"
    check_ledger(service.path, "x")


def test_a_call_that_failed_is_charged_to_the_variant_and_is_no_fast_one(service: Service) -> None:
    variant = service.choose("x", "u")["variant"]

    answer = log(service, failed=True, latency_ms=1.0)

    assert (answer["variant"], answer["accepted"], answer["ignored"]) == (variant, ["failed"], {"latency_ms": "failed"})
    outcomes = {(one["metric"], one["value"]) for one in service.get("/experiments/x/users/u")["outcomes"]}
    assert outcomes == {("failed", 1.0), ("latency_ms", 1.0)}  # above the limit
    assert log(service, failed=True, latency_ms=1.0)["duplicate"] == ["latency_ms", "failed"]


def test_that_a_call_did_not_fail_counts_where_a_guardrail_is_on_it(service: Service) -> None:
    service.choose("x", "u")

    assert log(service, failed=False)["accepted"] == ["failed"]
    assert log(service, failed=False)["duplicate"] == ["failed"]
    outcomes = {(one["metric"], one["value"]) for one in service.get("/experiments/x/users/u")["outcomes"]}
    assert outcomes == {("failed", 0.0)}


def test_erased_in_one_transaction_with_its_coming_a_text_is_not_stored(service: Service) -> None:
    service.choose("x", "u")

    async def both() -> list[object]:
        told = Interaction(request_id="r", user_id="u", user_input="SECRET", latency_ms=1.0)
        return await service.writer.ask_all([Log("x", told), Erase("x", "u")], 5.0)

    assert asyncio.run(both())[1] == 1
    assert rows(service.path, "SELECT user_input, digest FROM interactions") == [(None, None)]


def test_one_that_carries_no_metric_is_stored_all_the_same(service: Service) -> None:
    service.choose("x", "u")

    answer = log(service, user_input="hi")

    assert (answer["interaction"], answer["accepted"], answer["ignored"]) == ("stored", [], {})
    assert [one["user_input"] for one in stored(service)] == ["hi"]


def test_of_whom_choose_knows_nothing_is_refused_and_of_whom_is_not_enrolled_stored(service: Service) -> None:
    is_problem(service.http.post("/interactions", json=call("stranger", latency_ms=1.0)), 409)
    service.expose("x", 0.0)
    assert log(service, "outside", latency_ms=1.0)["reason"] == "not_enrolled"
    service.move("x", "pause")
    assert log(service, "outside", "s", latency_ms=1.0)["ignored"] == {"latency_ms": "paused"}
    assert [(one["request_id"], one["reason"]) for one in stored(service)] == [("r", "not_enrolled"), ("s", "paused")]


def test_after_the_window_it_is_still_the_variants_and_its_metrics_are_late(service: Service) -> None:
    variant = service.choose("x", "u")["variant"]
    service.clock.now += 3601

    answer = log(service, user_feedback_score=5)

    assert (answer["variant"], answer["reason"], answer["late"]) == (variant, None, ["user_feedback_score"])
    assert stored(service)[0]["variant"] == variant


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"variant_id": "Z"}, "variant_id"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"latency_ms": "fast"}, "latency_ms"),
        ({"prompt_tokens": 1.5}, "prompt_tokens"),
        ({"completion_tokens": -1}, "completion_tokens"),
        ({"safety_flag": 0}, "safety_flag"),
        ({"user_feedback_score": 9}, "user_feedback_score"),
        ({"user_feedback_score": True}, "user_feedback_score"),
        ({"model_name": ""}, "model_name"),
        ({"model_name": "m" * 201}, "model_name"),
        ({"user_input": "x" * (LONGEST_TEXT + 1)}, "user_input"),
        ({"model_outptu": "x"}, "model_outptu"),
        ({"request_id": ""}, "request_id"),
        ({"user_id": "a\n"}, "user_id"),
        ({"failed": 1}, "failed"),
    ],
)
def test_bad_fields_are_named_and_nothing_is_stored(service: Service, told: dict[str, object], field: str) -> None:
    service.choose("x", "u")

    answer = is_problem(service.http.post("/interactions", json={**call(latency_ms=1.0), **told}), 422)

    assert [error["field"] for error in answer["errors"]] == [field]
    assert stored(service) == []
    assert service.get("/experiments/x/users/u")["rewards"] == []


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\\udfff x"'])
def test_texts_that_are_no_text_are_refused(service: Service, text: bytes) -> None:
    service.choose("x", "u")
    body = b'{"experiment":"x","user_id":"u","request_id":"r","user_input":%b}' % text

    assert service.http.post("/interactions", content=body, headers=JSON).status_code in (400, 422)
    assert stored(service) == []


def test_long_texts_go_in_and_longer_bodies_do_not(service: Service) -> None:
    service.choose("x", "u")
    long = "é" * LONGEST_TEXT

    assert log(service, user_input=long, model_output=long)["interaction"] == "stored"
    assert stored(service)[0]["model_output"] == long
    huge = call(request="s", user_input="é" * LONGEST_TEXT, model_output="x" * 1_000_000)
    is_problem(service.http.post("/interactions", json=huge), 413)
    item = service.http.post("/interactions/batch", json={"items": [huge]}).json()["items"][0]
    assert item["status"] in (413, 422)


def test_pages_come_in_order_and_filters_choose(service: Service) -> None:
    variants = {f"u{i}": service.choose("x", f"u{i}")["variant"] for i in range(12)}
    for i, user in enumerate(variants):
        log(service, user, f"r{i}", latency_ms=i)

    found: list[dict[str, Any]] = []
    page = {"next": 0, "interactions": [None]}
    while page["interactions"]:
        page = service.get("/experiments/x/interactions", after=str(page["next"]), limit="5")
        assert len(page["interactions"]) <= 5
        found += page["interactions"]

    assert [one["request_id"] for one in found] == [f"r{i}" for i in range(12)]
    assert {one["user_id"] for one in stored(service, variant="B")} == {u for u, v in variants.items() if v == "B"}
    assert [one["user_id"] for one in stored(service, user_id="u3")] == ["u3"]
    for wrong in ({"variant": "Z"}, {"limit": "101"}, {"after": "-1"}, {"counted": "perhaps"}, {"limt": "1"}):
        is_problem(service.http.get("/experiments/x/interactions", params=wrong), 422)
    is_problem(service.http.get("/experiments/y/interactions"), 404)


def test_erased_texts_are_gone_and_counts_stay(service: Service) -> None:
    for user in ("u", "v"):
        service.choose("x", user)
        log(service, user, f"{user}-1", **SAID)
    log(service, "u", "u-2", **SAID)
    before = service.get("/experiments/x/report")

    answer = service.http.delete("/experiments/x/texts/u")

    assert answer.json() == {"experiment": "x", "user_id": "u", "interactions": 2}
    assert service.http.delete("/experiments/x/texts/u").json()["interactions"] == 0
    texts = {(one["user_id"], one["user_input"], one["model_output"], one["latency_ms"]) for one in stored(service)}
    assert texts == {("u", None, None, 912.5), ("v", SAID["user_input"], SAID["model_output"], 912.5)}
    assert service.get("/experiments/x/report") == before
    assert log(service, "u", "u-1", **SAID)["interaction"] == "duplicate"  # and its texts do not come back
    assert [one["erased_at"] is None for one in stored(service)] == [False, True, False]
    assert verify(service.path).differences == 0
    is_problem(service.http.delete("/experiments/y/texts/u"), 404)
    log(service, "u", "u-3", user_input="later")
    assert stored(service, user_id="u")[-1]["user_input"] == "later"


def test_of_erased_texts_nothing_is_left_in_the_file(path: Path) -> None:
    with in_process(path) as service:
        service.create("x", goal=GOAL, guardrails=GUARDRAILS)
        for user in ("u", "v"):
            service.choose("x", user)
            for i in range(3):
                log(service, user, f"{user}-{i}", user_input=f"text of {user} " * 20, model_output=f"to {user} " * 2000)
        service.http.delete("/experiments/x/texts/u")

    left = path.read_bytes()
    assert (left.count(b"text of u"), left.count(b"to u")) == (0, 0)
    assert left.count(b"text of v") > 50
    assert left.count(b"to v") > 5000  # some lie across two pages


def test_old_interactions_are_dropped_and_numbers_never_come_again(path: Path) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", goal=GOAL, guardrails=GUARDRAILS)
        service.choose("x", "u")
        for i in range(3):
            log(service, request=f"r{i}", latency_ms=i)
        store = service.writer.store
        retention = Retention(store, seconds=1000.0)
        service.writer.each_look = lambda _: None
        clock.now += 999
        retention._next_look = float("-inf")  # noqa: SLF001 - as if its time had come
        assert not retention._drop_interactions(clock.now)  # noqa: SLF001 - the step that this is about
        log(service, request="young", latency_ms=3)
        assert retention._drop_interactions(clock.now + 2)  # noqa: SLF001
        assert [one["request_id"] for one in stored(service)] == ["young"]
        assert retention._drop_interactions(clock.now + 1001)  # noqa: SLF001
        assert stored(service) == []
        assert log(service, request="new", latency_ms=4)["interaction"] == "stored"
        assert stored(service)[0]["number"] == 5
        assert len(service.get("/experiments/x/users/u")["rewards"]) == 5
        assert verify(path).differences == 0


def exported(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "export", "x", "--db", str(path), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_the_command_writes_lines_and_csv(service: Service, tmp_path: Path) -> None:
    variant = service.choose("x", "u")["variant"]
    log(service, **SAID)
    log(service, request="s", variant_id="B" if variant == "A" else "A", latency_ms=1.0)

    lines = [json.loads(line) for line in exported(service.path).stdout.splitlines()]
    assert lines == stored(service)
    target = tmp_path / "out.csv"
    done = exported(service.path, "--format", "csv", "--out", str(target), "--no-texts")
    assert done.stdout == f"interactions of 'x' in {target}: 2\n"
    with target.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["request_id"], row["variant"], row["reason"], row["safety_flag"]) for row in table] == [
        ("r", variant, "", "false"), ("s", "", "other_variant", ""),
    ]  # fmt: skip
    assert not {"user_input", "model_output"} & table[0].keys()
    again = exported(service.path, "--out", str(target))
    assert (again.returncode, "File exists" in again.stderr) == (2, True)
    rewards = list(csv.DictReader(io.StringIO(exported(service.path, "--what", "rewards", "--format", "csv").stdout)))
    assert {(row["metric"], row["value"], row["variant"], row["reason"]) for row in rewards} == {
        ("user_feedback_score", "4.0", variant, ""), ("latency_ms", "912.5", variant, ""),
        ("harmful", "0.0", variant, ""), ("latency_ms", "1.0", "", "other_variant"),
    }  # fmt: skip
    (user,) = (json.loads(line) for line in exported(service.path, "--what", "assignments").stdout.splitlines())
    assert (user["user_id"], user["variant"], len(user["outcomes"])) == ("u", variant, 3)
    missing = exported(tmp_path / "none.db")
    assert (missing.returncode, missing.stdout) == (2, "")


def test_a_stored_interaction_is_there_after_a_restart_and_known_to_another_process(path: Path) -> None:
    with in_process(path) as first:
        first.create("x", goal=GOAL, guardrails=GUARDRAILS)
        first.choose("x", "u")
        with in_process(path) as second:
            log(first, **SAID)
            assert log(second, **SAID)["interaction"] == "duplicate"
            is_problem(second.http.post("/interactions", json=call(latency_ms=1.0)), 409)
    with in_process(path) as third:
        assert log(third, **SAID)["interaction"] == "duplicate"
        assert len(stored(third)) == 1
    assert rows(path, "SELECT count(*) FROM interactions") == [(1,)]


def test_fields_feed_the_metrics_that_name_them() -> None:
    experiment = parse(declaration(salt="s", goal=GOAL, guardrails=GUARDRAILS))
    assert metric_fields(experiment) == {
        "user_feedback_score": "user_feedback_score", "latency_ms": "latency_ms", "harmful": "safety_flag",
    }  # fmt: skip
    odd = [{"metric": "slow", "field": "latency_s", "kind": "numeric", "max": 1.0}]
    experiment = parse(declaration(salt="s", guardrails=odd))
    assert metric_fields(experiment) == {}
    assert any("guardrails[0].field" in note and "latency_ms" in note for note in notes(experiment))
    two = [
        {"metric": "m", "field": "latency_ms", "kind": "numeric", "max": 1.0},
        {"metric": "m", "field": "prompt_tokens", "kind": "numeric", "max_increase": 0.1},
    ]
    with pytest.raises(InvalidExperiment, match=r"guardrails\[1\]\.field: received 'prompt_tokens'"):
        parse(declaration(salt="s", guardrails=two))
