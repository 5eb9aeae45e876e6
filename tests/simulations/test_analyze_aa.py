"""`bandit-sim analyze --aa`: a set-up without a fault passes, each kind of fault fails by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from simulations.logs.analysis import analyze_log
from simulations.logs.correlation import intra_user_correlation
from simulations.logs.question import Question
from tests.simulations.analyzing import Analyze, ab_columns, analyze_in, written

EVEN = ("--goal", "resolved", "--split", "A=0.5,B=0.5", "--aa")


@pytest.fixture
def analyze(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Analyze:
    return analyze_in(monkeypatch, capsys)


def outcomes(analyze: Analyze, path: Path, *arguments: object) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return the exit code, the outcome of each question that did not pass, and the whole document."""
    done = analyze(path, *(arguments or EVEN), "--json", "-")
    document = json.loads(done.out)
    items = document["setup_check"]["items"]
    return done.code, {each["name"]: each["outcome"] for each in items if each["outcome"] != "pass"}, document


def test_a_right_set_up_passes_and_says_what_stayed_hidden(analyze: Analyze, tmp_path: Path) -> None:
    path = written(tmp_path / "aa.csv", ab_columns(users=4000))

    code, odd, document = outcomes(analyze, path)

    assert (code, odd) == (0, {})
    assert document["decision"] is None
    assert all(variant["decision"] is None for variant in document["variants"])
    assert document["setup_check"]["passed"]
    found = {each["metric"]: each for each in document["setup_check"]["sensitivity"]}
    goal = next(each for each in document["comparisons"] if each["role"] == "goal")
    low, high = goal["any_time"]["interval"]
    assert found["resolved"]["half_width"] == pytest.approx((high - low) / 2)
    assert found["resolved"]["relative"] == pytest.approx((high - low) / 2 / goal["control_mean"])
    assert set(found) == {"resolved", "latency"}


def test_the_text_of_a_check_has_no_decision(analyze: Analyze, tmp_path: Path) -> None:
    done = analyze(written(tmp_path / "aa.csv", ab_columns(users=4000)), *EVEN)

    assert done.code == 0
    assert done.out.startswith("# A/A check of aa\n")
    assert "**The set-up passes.** A set-up without a fault fails with a probability of at most 10 %" in done.out
    assert "smaller ones stay hidden" in done.out
    assert "eploy" not in done.out


def test_lost_users_fail_the_sample_ratio(analyze: Analyze, tmp_path: Path) -> None:
    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", ab_columns(users=4000, share=0.44)))

    assert (code, odd) == (1, {"sample ratio": "fail", "response": "unknown"})


def test_outcomes_that_go_missing_by_variant_fail_the_response(analyze: Analyze, tmp_path: Path) -> None:
    columns, rng = ab_columns(users=4000), np.random.default_rng(2)
    kept = rng.random(4000) < np.where(np.array(columns["variant"]) == "B", 0.75, 0.9)
    columns["resolved"] = [value if k else "" for value, k in zip(columns["resolved"], kept, strict=True)]

    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", columns), *EVEN, "--missing", "ignore")

    assert (code, odd) == (1, {"response": "fail"})


def test_a_difference_on_the_goal_fails(analyze: Analyze, tmp_path: Path) -> None:
    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", ab_columns(users=4000, lift=0.12)))

    assert (code, odd) == (1, {"resolved of B": "fail"})


def test_a_difference_on_another_metric_fails(analyze: Analyze, tmp_path: Path) -> None:
    columns = ab_columns(users=4000)
    columns["latency"] = np.array(columns["latency"]) + 60.0 * (np.array(columns["variant"]) == "B")

    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", columns))

    assert (code, odd) == (1, {"latency of B": "fail"})


def test_users_who_change_variant_fail_if_they_are_many_and_are_noted_if_they_are_few(
    analyze: Analyze, tmp_path: Path
) -> None:
    columns = {name: list(cells) for name, cells in ab_columns(users=4000).items()}
    other = {"A": "B", "B": "A"}

    def doubled(users: int) -> Path:
        extra = {name: cells[-users:] for name, cells in columns.items()}
        extra["variant"] = [other[str(key)] for key in extra["variant"]]
        extra["time"] = [float(str(time)) + 60.0 for time in extra["time"]]
        return written(tmp_path / "aa.csv", {name: [*columns[name], *extra[name]] for name in columns})

    many, few = outcomes(analyze, doubled(100)), outcomes(analyze, doubled(10))

    assert many[:2] == (1, {"sticky users": "fail"})
    assert few[:2] == (0, {"sticky users": "warn"})


def test_a_mean_that_moved_is_noted_but_no_fault(analyze: Analyze, tmp_path: Path) -> None:
    columns, rng = ab_columns(users=4000), np.random.default_rng(4)
    columns["resolved"] = (rng.random(4000) < np.linspace(0.1, 0.5, 4000)).astype(int).tolist()

    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", columns))

    assert (code, odd) == (0, {"drift": "warn"})


def test_without_a_split_nothing_is_shown_to_be_right(analyze: Analyze, tmp_path: Path) -> None:
    path = written(tmp_path / "aa.csv", ab_columns(users=4000))

    code, odd, document = outcomes(analyze, path, "--goal", "resolved", "--aa")

    assert (code, odd["sample ratio"], odd["resolved of B"]) == (1, "unknown", "unknown")
    assert not document["setup_check"]["passed"]


def test_too_few_users_show_nothing(analyze: Analyze, tmp_path: Path) -> None:
    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", ab_columns(users=60)))

    assert code == 1
    assert odd == {"resolved of B": "unknown", "latency of B": "warn"}


def test_rows_without_users_and_times_are_noted(analyze: Analyze, tmp_path: Path) -> None:
    columns = ab_columns(users=4000)
    del columns["user_id"], columns["time"]

    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", columns))

    assert (code, odd) == (0, {"unit": "warn", "drift": "warn"})


def test_rows_of_a_user_that_resemble_one_another_are_measured(analyze: Analyze, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(1500), 4)
    score = rng.normal(3.0, 1.0, 6000) + rng.normal(0.0, 1.0, 1500)[user]
    variant = np.where(rng.random(1500) < 0.5, "A", "B")[user]
    path = written(
        tmp_path / "aa.csv", {"user": user.tolist(), "variant": variant.tolist(), "score": np.round(score, 3)}
    )

    code, _, document = outcomes(analyze, path, "--split", "A=0.5,B=0.5", "--aa")

    unit = next(each for each in document["setup_check"]["items"] if each["name"] == "unit")
    assert code == 0
    assert unit["sentence"].startswith("A user has 4 rows, with a correlation of 0.5")
    assert unit["sentence"].endswith("errors would be 1.6 times what they seem to be.")


def test_a_guardrail_of_a_file_is_one_of_the_metrics(analyze: Analyze, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(
        'key = "aa"\nvariants = [{key = "A", control = true}, {key = "B"}]\n'
        'goal = {metric = "resolved", kind = "binary"}\npolicy = {kind = "fixed"}\n'
        '[[guardrails]]\nmetric = "latency"\nkind = "numeric"\nquantile = 0.9\nmax = 500\n',
        encoding="utf-8",
    )
    columns = ab_columns(users=4000)
    columns["latency"] = np.array(columns["latency"]) + 60.0 * (np.array(columns["variant"]) == "B")

    code, odd, _ = outcomes(analyze, written(tmp_path / "aa.csv", columns), "--experiment", file, "--aa")

    assert (code, odd) == (1, {"latency of B": "fail"})


def test_right_set_ups_fail_no_more_often_than_they_say(tmp_path: Path) -> None:
    """Failures of 60 right ones against the bound of 0.1: beyond it by chance once in 10,000 times."""
    question = Question(goal="resolved", split={"A": 0.5, "B": 0.5})

    checks = [
        analyze_log(written(tmp_path / "aa.csv", ab_columns(users=600, seed=seed)), question, same=True).check
        for seed in range(60)
    ]

    assert sum(check is None or not check.passed for check in checks) <= stats.binom.isf(1e-4, 60, 0.1)


def test_intra_user_correlation_is_that_of_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(6)
    of = np.repeat(np.arange(4000), rng.integers(1, 6, 4000))
    values = rng.normal(size=len(of)) + rng.normal(0.0, 0.5, 4000)[of]
    values[::17] = np.nan

    found = intra_user_correlation(values, of)

    assert found == pytest.approx(0.2, abs=3.9 * 0.011)  # 0.25/1.25; its standard error at this size is about 0.011
    by_hand = intra_user_correlation(np.array([1.0, 3.0, 5.0, 4.0, 6.0, 8.0]), np.array([0, 0, 1, 2, 2, 2]))
    assert by_hand == pytest.approx((9.75 - 10 / 3) / (9.75 + (11 / 6 - 1) * 10 / 3))  # between 9.75, within 10/3
    assert intra_user_correlation(np.array([1.0, 2.0]), np.array([0, 1])) is None
    assert intra_user_correlation(np.array([1.0, 1.0, 1.0]), np.array([0, 0, 1])) is None
    assert intra_user_correlation(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1])) == pytest.approx(1.0)
