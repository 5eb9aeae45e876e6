"""People label interactions, which shows how good a judge is and corrects what it says."""

from __future__ import annotations

import csv
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bandit.inference.prediction_powered import PredictionPowered, PredictionPoweredDifference, Refusal
from server.judge_quality import MetricQuality, judge_quality
from server.judgements import Claim, Settle, Verdict
from server.live import Reward
from server.verify import verify
from tests.server.running import JSON, Service, in_process, is_problem, rows
from tests.server.test_judge_runs import GOAL, JUDGE, UNSAFE, create, log, other_loop
from tests.server.test_variants import version

TRUTH = {"A": 3.0, "B": 3.6}
KIND = {"A": 0.0, "B": 0.8}
"""By how much the judge is too kind to a variant."""


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    with in_process(path) as running:
        yield running


def judge_all(service: Service, people: dict[int, float], seed: int = 1) -> None:
    """Let a judge score everything: people's own value, and how kind it is to the variant, and some noise."""
    rng = random.Random(seed)  # noqa: S311 - made-up people
    variants = {one["number"]: one for one in pages(service)}

    async def run() -> None:
        ask = service.writer.ask
        while True:
            claimed: Any = await ask(Claim("x", "j", "v", 500), 10.0)
            if not claimed.tasks:
                return
            for task in claimed.tasks:
                kind = KIND[variants[task.number]["variant"]]
                score = min(max(round(people[task.number] + kind + rng.gauss(0, 0.4)), 1), 5)
                scores = {"helpfulness": score, "clarity": 3, "safety": 5}
                verdict = Verdict(scores, "why", None, None, None, None, 1, "m")
                metrics = {"quality": float(score), "unsafe": 0.0}
                reward = Reward(task.user_id, f"judge:v:{task.number}", metrics, task.variant_id)
                await ask(Settle("x", "j", "v", task.number, verdict, reward), 10.0)

    other_loop(service, run)


def pages(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := service.get("/experiments/x/interactions", after=str(found[-1]["number"] if found else 0))[
        "interactions"
    ]:
        found += page
    return found


def crowd(service: Service, n: int = 500) -> dict[int, float]:
    """Let users come, be judged, and return what people would say of each interaction."""
    create(service)
    log(service, n)
    rng = random.Random(7)  # noqa: S311 - made-up people
    people = {
        one["number"]: min(max(round(rng.gauss(TRUTH[one["variant"]], 0.9)), 1), 5) * 1.0 for one in pages(service)
    }
    judge_all(service, people)
    return people


def label(service: Service, labels: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - a response
    return service.http.post("/experiments/x/labels", json={"labels": labels})


def found(service: Service) -> dict[str, MetricQuality]:
    with closing(sqlite3.connect(service.path)) as db:
        return {one.metric: one for one in judge_quality(db, "x")}


def test_labels_show_a_judge_that_is_kind_to_one_variant_and_correct_its_difference(
    service: Service, tmp_path: Path
) -> None:
    people = crowd(service)
    out = tmp_path / "label.csv"

    assert command("label", "x", "--out", out, "--each", "60", "--db", service.path).returncode == 0
    with out.open(newline="") as file:
        asked = list(csv.DictReader(file))
    assert {row["metric"] for row in asked} == {"quality", "unsafe"}
    assert not any("variant" in row or "B" in row["user_input"] for row in asked)
    for row in asked:
        row["value"] = str(people[int(row["number"])]) if row["metric"] == "quality" else ""
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asked[0]))
        writer.writeheader()
        writer.writerows(asked)
    done = command("label", "x", out, "--db", service.path)
    assert (done.returncode, done.stdout) == (0, "labels of 'x' stored: 120\n")

    quality = found(service)["quality"]
    assert quality.agreement is not None
    assert quality.agreement.n == 120
    assert 0.2 < quality.agreement.bias.mean < 0.6
    assert quality.bias_differs["B"].differs is True
    difference = quality.differences["B"]
    assert isinstance(difference, PredictionPoweredDifference)
    low, high = difference.corrected.interval
    variants = {one["number"]: one["variant"] for one in pages(service)}
    truth = {v: [people[n] for n, of in variants.items() if of == v] for v in "AB"}
    real = sum(truth["B"]) / len(truth["B"]) - sum(truth["A"]) / len(truth["A"])
    assert low < real < high
    assert difference.judge_only.interval[0] > real  # the judge alone is sure of what is not so
    mean = quality.means["A"]
    assert isinstance(mean, PredictionPowered)
    assert mean.effective_labels > 60
    assert isinstance(found(service)["unsafe"].means["A"], Refusal)
    shown = command("quality", "x", "--db", service.path)
    assert shown.returncode == 0, shown.stderr
    assert all(word in shown.stdout for word in ("120 labelled", "kappa", "corrected", "B − control", "differs"))
    assert "the length of the answer" in shown.stdout

    (reported,) = service.get("/experiments/x/report")["judged"]
    assert (reported["judge"], reported["metric"], reported["labelled"]) == (JUDGE["key"], "quality", 120)
    a, b, of_difference = reported["estimates"]
    assert (a["variant"], b["variant"], of_difference["variant"]) == ("A", "B", "B")
    assert [each["difference"] for each in (a, b, of_difference)] == [False, False, True]
    assert tuple(of_difference["corrected_interval"]) == difference.corrected.interval
    assert of_difference["judge_alone"] == difference.judge_only.value
    text = service.http.get("/experiments/x/report?format=md").text
    assert "## Judges beside people" in text
    assert f"{difference.corrected.value:.4g} ({low:.4g} to {high:.4g})" in text
    assert verify(service.path).differences == 0


def test_only_the_present_version_of_a_variant_is_read(service: Service) -> None:
    crowd(service, 60)
    before = found(service)["quality"].n_scored
    assert version(service, {"model": "other"}).status_code == 200

    left = found(service)["quality"].n_scored

    assert left == sum(one["variant"] == "A" for one in pages(service)) < before


@pytest.mark.parametrize(
    ("one", "field"),
    [
        ({"number": 99}, "labels[1].number"),
        ({"metric": "latency_ms"}, "labels[1].metric"),
        ({"value": 9}, "labels[1].value"),
        ({"metric": "unsafe", "value": 0.5}, "labels[1].value"),
        ({"number": 0}, "labels"),
        ({"value": "4"}, "labels"),
        ({"value": None}, "labels"),
        ({"labelled_by": "me"}, "labels"),
    ],
)
def test_a_label_that_cannot_be_refuses_all_of_them(service: Service, one: dict[str, Any], field: str) -> None:
    create(service)
    log(service, 2)
    good = {"number": 1, "metric": "quality", "value": 4}

    answer = is_problem(label(service, [good, {**good, "number": 2, **one}]), 422)

    assert [error["field"] for error in answer["errors"]] == [field]
    assert rows(service.path, "SELECT * FROM labels") == []


def test_a_label_is_replaced_by_the_next_one_and_binary_ones_are_0_or_1(service: Service) -> None:
    create(service)
    log(service, 1)
    for value in (2, 4):
        assert label(service, [{"number": 1, "metric": "quality", "value": value}]).json() == {
            "experiment": "x",
            "labels": 1,
        }
    assert label(service, [{"number": 1, "metric": "unsafe", "value": 1}]).status_code == 200
    assert rows(service.path, "SELECT metric, value FROM labels ORDER BY metric") == [("quality", 4.0), ("unsafe", 1.0)]
    is_problem(
        service.http.post("/experiments/y/labels", json={"labels": [{"number": 1, "metric": "m", "value": 1}]}), 404
    )
    is_problem(service.http.post("/experiments/x/labels", json={"labels": []}), 422)
    is_problem(service.http.post("/experiments/x/labels", content=b'{"labels": [', headers=JSON), 400)


def test_without_a_judge_there_is_nothing_to_label(service: Service) -> None:
    service.create("x", goal=GOAL, guardrails=[UNSAFE])
    service.choose("x", "u")
    assert (
        service.http.post("/interactions", json={"experiment": "x", "user_id": "u", "request_id": "r"}).status_code
        == 200
    )

    answer = is_problem(label(service, [{"number": 1, "metric": "quality", "value": 4}]), 422)

    assert "no judge" in answer["errors"][0]["message"]
    assert "no judge" in command("quality", "x", "--db", service.path).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("number,value\n1,4\n", "'metric'"),
        ("number,metric,value\none,quality,4\n", "line 2"),
        ("number,metric,value\n1,quality,good\n", "line 2"),
        ("number,metric,value\n1,quality,\n", "received 0"),
        ("number,metric,value\n77,quality,4\n", "77"),
        ("number,metric,value\n-1,quality,4\n", "labels[0].number"),
        (f"number,metric,value\n{10**30},quality,4\n", "labels[0].number"),
        ("number,metric,value\n1,quality,inf\n", "labels[0].value"),
        ("number,metric,value\n1,quality,4\n1,quality,5\n", "labels[1]: received what labels[0] says"),
        ("number,metric,value\n1,quality,\udcff\n", "UTF-8"),
        ("", "'number'"),
        ("number,metric,value\n1,quality,nan\n", "labels[0].value"),
    ],
)
def test_a_file_that_is_not_right_is_refused_with_its_place(
    service: Service, tmp_path: Path, text: str, words: str
) -> None:
    create(service)
    log(service, 1)
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode(errors="surrogateescape"))

    done = command("label", "x", file, "--db", service.path)

    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert rows(service.path, "SELECT * FROM labels") == []


def test_the_command_takes_a_file_or_writes_one(service: Service, tmp_path: Path) -> None:
    create(service)
    for arguments in ((), (tmp_path / "in.csv", "--out", tmp_path / "out.csv"), (tmp_path / "none.csv",)):
        assert command("label", "x", *arguments, "--db", service.path).returncode == 2
    assert command("label", "x", "--out", tmp_path / "out.csv", "--db", tmp_path / "none.db").returncode == 2
    assert not (tmp_path / "none.db").exists()
    assert JUDGE["key"] in command("quality", "x", "--db", service.path).stdout


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "server", *map(str, arguments)]
    environment = {"COLUMNS": "200", "PATH": "/usr/bin:/bin"}
    return subprocess.run(whole, check=False, capture_output=True, text=True, timeout=120, env=environment)


def test_erased_texts_are_left_out_of_means_since_nobody_could_label_them(service: Service) -> None:
    people = crowd(service, 400)
    whole = pages(service)
    erased = {one["number"] for one in whole if people[one["number"]] >= 4.0}
    shown = [one["number"] for one in whole if one["number"] not in erased]
    for one in whole:
        if one["number"] in erased:
            service.http.delete(f"/experiments/x/texts/{one['user_id']}")
    label(service, [{"number": n, "metric": "quality", "value": people[n]} for n in shown[:200]])
    label(service, [{"number": n, "metric": "quality", "value": people[n]} for n in list(erased)[:20]])

    mean = found(service)["quality"].means["A"]
    assert isinstance(mean, PredictionPowered)
    of_a = [people[one["number"]] for one in whole if one["variant"] == "A" and one["number"] not in erased]
    assert mean.n_users == len(of_a)
    assert mean.corrected.interval[0] < sum(of_a) / len(of_a) < mean.corrected.interval[1]
