"""An experiment from its file to its end, over HTTP."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from uuid import RFC_4122, UUID

from bandit import Bandit, parse_json
from tests.server.running import (
    Clock,
    Service,
    check_ledger,
    command,
    declaration,
    in_process,
    is_problem,
    rows,
    wait_until,
)


def test_an_experiment_lives_from_its_file_through_a_restart_to_its_end(tmp_path: Path) -> None:
    file, db = tmp_path / "x.json", tmp_path / "b.db"
    file.write_text(json.dumps(declaration(rewards={"window": "request"})))

    with command("--db", db, "--experiment", file) as server:
        assert server.get("/readyz") == {"status": "ready"}
        first = {f"u{i}": server.choose("x", f"u{i}") for i in range(120)}
        for user, answer in first.items():
            told = server.reward("x", user, answer["request_id"], metrics={"resolved": True, "latency_ms": 900})
            assert told.json()["accepted"] == ["resolved", "latency_ms"]
        assert server.stop() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", "b.db"}  # the log went into the file

    with command("--db", db, "--experiment", file) as server:
        for user, answer in first.items():
            again = server.choose("x", user)
            assert (again["variant"], again["propensity"], again["epoch"]) == (
                answer["variant"], answer["propensity"], answer["epoch"],
            )  # fmt: skip
            assert again["reason"] == "sticky"
            repeated = server.reward("x", user, answer["request_id"], metrics={"resolved": True, "latency_ms": 900})
            assert repeated.json()["duplicate"] == ["resolved", "latency_ms"]
        report = server.get("/experiments/x/report")
        assert report["assigned"] == 120
        assert report["closed_epochs"] >= 1
        assert server.move("x", "stop", serve="B", now=True).json()["state"] == "stopped"
        assert {server.choose("x", user)["variant"] for user in first} == {"B"}
        assert server.stop(signal.SIGINT) == 0

    assert check_ledger(db, "x") == 120


def test_choose_answers_as_the_contract_says(service: Service) -> None:
    service.create()

    answer = service.http.post(
        "/choose", json={"experiment": "x", "user_id": "u", "request_id": "r", "attributes": {"plan": "free"}}
    ).json()

    assert list(answer) == [
        "request_id", "user_id", "experiment", "variant", "config", "version", "config_hash", "propensity", "epoch",
        "reason",
    ]  # fmt: skip
    assert answer["request_id"] == "r"
    assert answer["user_id"] == "u"
    assert answer["config"]["model"] == {"A": "m1", "B": "m2"}[answer["variant"]]
    assert (answer["propensity"], answer["epoch"], answer["reason"]) == (0.5, 1, "new")
    assert service.choose("x", "u")["reason"] == "sticky"


def test_ids_are_made_where_they_are_absent_and_sort_by_time(service: Service) -> None:
    service.create()

    answers = [service.http.post("/choose", json={"experiment": "x"}).json() for _ in range(3)]

    assert len({answer["user_id"] for answer in answers}) == 3
    assert all(answer["reason"] == "new" for answer in answers)
    assert answers[0]["request_id"][:13] <= answers[-1]["request_id"][:13]
    made = [UUID(answer[name]) for answer in answers for name in ("user_id", "request_id")]
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}
    assert len(set(made)) == 6


def test_states_follow_each_other_and_repetition_changes_nothing(service: Service) -> None:
    service.create(start=False)
    assert service.choose("x", "early")["reason"] == "not_enrolled"
    is_problem(service.move("x", "pause"), 409)

    notes: list[str] = []
    for _ in range(2):
        assert service.move("x", "start").json() == {"key": "x", "state": "running", "serve": None, "notes": notes}
    assert service.choose("x", "early")["reason"] == "new"  # asking a draft did not store them
    epochs = service.get("/experiments/x")["epochs"]
    for _ in range(2):
        assert service.move("x", "pause").json()["state"] == "paused"
    assert service.choose("x", "early")["reason"] == "sticky"
    assert service.choose("x", "late")["reason"] == "not_enrolled"
    assert service.get("/experiments/x")["epochs"] == epochs
    assert service.move("x", "start").json()["state"] == "running"
    assert service.choose("x", "late")["reason"] == "new"

    for body in ({"serve": "B"}, {"serve": "A", "now": True}):
        answer = service.move("x", "stop", **body).json()
        assert (answer["state"], answer["serve"]) == ("stopped", "B")
    assert service.get("/experiments/x")["serve"] == "B"
    is_problem(service.move("x", "start"), 409)
    refused = is_problem(service.move("x", "stop", serve="Z"), 422)
    assert [error["field"] for error in refused["errors"]] == ["serve"]


def test_after_a_stop_known_users_keep_their_arm_until_their_window_closes(service: Service) -> None:
    service.create(rewards={"window": "1h"})
    known = service.choose("x", "known")
    other = "B" if known["variant"] == "A" else "A"

    service.move("x", "stop", serve=other)

    assert service.choose("x", "known")["reason"] == "sticky"
    assert service.choose("x", "stranger")["variant"] == other
    service.clock.now += 3_601
    after = service.choose("x", "known")
    assert (after["variant"], after["reason"], after["propensity"], after["epoch"]) == (other, "stopped", None, None)


def test_exposure_leaves_users_outside(service: Service) -> None:
    service.create(rollout={"exposure": 0.3})

    for _ in range(2):
        answers = [service.choose("x", f"u{i}") for i in range(60)]

    outside = [answer for answer in answers if answer["reason"] == "not_enrolled"]
    assert 25 < len(outside) < 55
    assert {answer["variant"] for answer in outside} == {"A"}
    assert rows(service.path, "SELECT count(*) FROM assignments") == [(60 - len(outside),)]
    told = service.reward("x", outside[0]["user_id"], "r").json()
    assert told["ignored"] == {"resolved": "not_enrolled"}


def test_time_alone_closes_epochs(service: Service) -> None:
    service.create(rewards={"window": "1h"}, policy={"max_epoch": "30m"})
    user = service.choose("x", "u")
    service.reward("x", "u", user["request_id"])

    service.clock.now += 1_801
    _until(service, "epochs", 2)
    service.clock.now += 3_601
    _until(service, "closed_epochs", 1)

    report = service.get("/experiments/x/report")
    assert sum(variant["with_outcome"] for variant in report["variants"]) == 1


def _until(service: Service, field: str, value: int) -> None:
    wait_until(lambda: service.get("/experiments/x")[field] >= value)


def test_the_salt_is_made_shown_and_decides_the_draw(service: Service) -> None:
    service.create("made")
    service.create("given", salt="pepper")

    made, given = service.get("/experiments/made"), service.get("/experiments/given")

    assert len(made["salt"]) == 32
    assert made["salt"] == made["definition"]["salt"]
    assert given["salt"] == "pepper"
    twin = Bandit(parse_json(json.dumps(declaration("given", salt="pepper"))))
    for i in range(30):
        assert service.choose("given", f"u{i}")["variant"] == twin.choose(f"u{i}").variant


def test_a_dry_run_says_what_would_be_stored_and_stores_nothing(service: Service) -> None:
    response = service.http.post("/experiments?dry_run=true", json=declaration())

    assert response.status_code == 200
    assert response.json()["definition"]["goal"]["per_user"] == "mean"
    assert response.json()["notes"] == []
    assert service.get("/experiments") == {"experiments": []}
    is_problem(service.http.post("/experiments?dry-run=true", json=declaration()), 422)
    is_problem(service.http.post("/experiments?dry_run=maybe", json=declaration()), 422)
    assert service.get("/experiments") == {"experiments": []}


def test_an_existing_key_is_a_conflict(service: Service) -> None:
    service.create()

    is_problem(service.http.post("/experiments", json=declaration()), 409)
    is_problem(service.http.post("/experiments?dry_run=true", json=declaration()), 409)


def test_the_story_of_a_user_says_why(service: Service) -> None:
    service.create()
    answer = service.choose("x", "a/b ü")
    service.reward("x", "a/b ü", "r", metrics={"resolved": 0, "latency_ms": 2000})
    service.reward("x", "a/b ü", "r", metrics={"resolved": 1}, replace=True)

    story = service.get("/experiments/x/users/a%2Fb%20%C3%BC")

    assert story["assignment"]["variant"] == answer["variant"]
    assert story["assignment"]["propensity"] == answer["propensity"]
    low = 0.0 if answer["variant"] == "A" else 0.5
    assert low <= story["point"] < low + 0.5
    assert [(r["metric"], r["revision"], r["value"]) for r in story["rewards"]] == [
        ("latency_ms", 0, 2000.0), ("resolved", 0, 0.0), ("resolved", 1, 1.0),
    ]  # fmt: skip
    assert [(o["metric"], o["value"]) for o in story["outcomes"]] == [("resolved", 1.0), ("latency_ms", 1.0)]
    assert service.get("/experiments/x/users/nobody")["assignment"] is None
    is_problem(service.http.get("/experiments/y/users/u"), 404)
    is_problem(service.http.get(f"/experiments/x/users/{'u' * 201}"), 422)


def test_the_service_does_what_the_engine_does(path: Path) -> None:
    """The same users and rewards through HTTP, with restarts, and in process: one state, to the last bit."""
    clock = Clock()
    twin = Bandit(parse_json(json.dumps(declaration(salt="s", policy={"min_batch": 20, "warmup": 10}))), clock)
    for start in range(0, 180, 60):
        with in_process(path, clock) as service:
            if start == 0:
                service.create(salt="s", policy={"min_batch": 20, "warmup": 10})
            for i in range(start, start + 60):
                clock.now += 61.0
                answer, same = service.choose("x", f"u{i}"), twin.choose(f"u{i}")
                assert (answer["variant"], answer["propensity"], answer["epoch"], answer["reason"]) == (
                    same.variant, same.propensity, same.epoch, same.reason,
                )  # fmt: skip
                metrics = {"resolved": i % 3 == 0, "cost_usd": 0.1 + i / 700}
                for user, request in ((f"u{i}", f"r{i}"), (f"u{max(i - 7, 0)}", f"s{i}")):
                    told = service.reward("x", user, request, metrics=metrics).json()
                    receipt = twin.reward(user, metrics, request_id=request)
                    assert told == {
                        "accepted": list(receipt.accepted), "duplicate": list(receipt.duplicate),
                        "late": list(receipt.late), "ignored": receipt.ignored,
                    }  # fmt: skip
            twin.tick()
            report = service.get("/experiments/x/report")
            assert report == json.loads(json.dumps(twin.report().to_dict()))
    assert report["closed_epochs"] > 2
    check_ledger(path, "x")


def test_time_never_runs_backwards_not_even_over_a_restart(path: Path) -> None:
    clock = Clock()
    for user in ("a", "b"):
        with in_process(path, clock) as service:
            if user == "a":
                service.create()
            service.choose("x", user)
            clock.now -= 500.0
            service.choose("x", f"{user}-after")
            service.reward("x", user, f"r-{user}")
            clock.now -= 500.0

    times = {row[0] for row in rows(path, "SELECT at FROM assignments UNION SELECT at FROM rewards")}
    assert times == {Clock().now}
    assert rows(path, "SELECT now FROM experiments") == [(Clock().now,)]


def test_the_story_of_somebody_without_a_variant_says_why_not(service: Service) -> None:
    service.create("small", rollout={"exposure": 0.0})
    service.create("draft", start=False)
    service.create("open")

    whys = [service.get(f"/experiments/{key}/users/u")["why"] for key in ("small", "draft", "open")]

    assert ["exposure" in whys[0], "draft" in whys[1], "never called" in whys[2]] == [True, True, True]
