"""Interactions for an offline evaluation: those that teach something, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import Service, in_process
from tests.server.test_judge_runs import create
from tests.server.test_labels import command, judge_all, label, pages


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    with in_process(path) as running:
        create(running)
        yield running


def told(service: Service, user: str, **more: object) -> None:
    service.choose("x", user)
    body = {
        "experiment": "x", "user_id": user, "request_id": f"of-{user}", "user_input": f"question of {user}",
        "model_output": f"answer to {user}", "latency_ms": 100.0 + len(user), **more,
    }  # fmt: skip
    assert service.http.post("/interactions", json=body).status_code == 200


def chosen(service: Service, *arguments: str) -> list[dict[str, Any]]:
    done = command("export", "x", "--challenging", "--db", service.path, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_teaches_something_is_chosen_with_its_reasons_and_nobody_is_named(service: Service) -> None:
    for i in range(30):
        told(service, f"plain-{i:02}")
    told(service, "unsafe", safety_flag=True)
    told(service, "slow", latency_ms=90_000.0)
    told(service, "broken", failed=True, model_output=None)
    told(service, "both", safety_flag=True, latency_ms=90_000.0)

    found = chosen(service)

    reasons = {one["user_input"].removeprefix("question of "): one["reasons"] for one in found}
    assert reasons == {
        "unsafe": ["something in it is unsafe"],
        "slow": ["latency_ms is unusual"],
        "broken": ["there was no answer"],
        "both": ["something in it is unsafe", "latency_ms is unusual"],
    }
    assert not any(one.keys() & {"user_id", "request_id"} for one in found)
    assert {one["user_id"] for one in chosen(service, "--identity")} == {"unsafe", "slow", "broken", "both"}
    assert len(chosen(service, "--limit", "2")) == 2


def test_low_scores_and_people_who_disagree_are_reasons(service: Service) -> None:
    for i in range(4):
        told(service, f"u{i}")
    people = {one["number"]: [1.0, 3.0, 4.0, 4.0][i] for i, one in enumerate(pages(service))}
    judge_all(service, people)
    scored = {one["number"]: one["judgements"][0]["scores"]["helpfulness"] for one in pages(service)}
    far = next(n for n, score in scored.items() if score >= 3)
    labels = [{"number": n, "metric": "quality", "value": 1 if n == far else score} for n, score in scored.items()]
    assert label(service, labels).status_code == 200

    found = {one["number"]: one for one in chosen(service)}

    low = {n for n, score in scored.items() if score <= 2}
    assert low
    assert found.keys() == low | {far}
    assert found[far]["reasons"] == ["judge j and people disagree about quality"]
    assert found[far]["labels"] == {"quality": 1.0}
    assert all(found[n]["reasons"] == ["helpfulness is low"] for n in low)


def test_variants_take_turns_and_alike_texts_are_kept_once(service: Service) -> None:
    for i in range(40):
        told(service, f"u{i}", safety_flag=True)
    for i in range(40, 60):
        told(service, f"u{i}", safety_flag=True, user_input="The  SAME\nquestion", model_output="The same answer ")
        told(service, f"v{i}", safety_flag=True, user_input="the same question", model_output="the same answer")

    found = chosen(service, "--limit", "20")

    assert abs(Counter(one["variant"] for one in found)["A"] - 10) <= 1
    alike = [one for one in chosen(service) if "same" in one["user_input"].casefold()]
    assert len(alike) == 1


def test_what_cannot_be_asked_together_is_refused(service: Service, tmp_path: Path) -> None:
    for arguments in (("--format", "csv"), ("--what", "rewards"), ("--no-texts",)):
        done = command("export", "x", "--challenging", *arguments, "--db", service.path)
        assert (done.returncode, "--challenging" in done.stderr) == (2, True)
    out = tmp_path / "eval.jsonl"
    assert command("export", "y", "--challenging", "--out", out, "--db", service.path).returncode == 2
    assert not out.exists()
