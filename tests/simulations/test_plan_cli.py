from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bandit.planning.certificates import users_for_ratio
from simulations.__main__ import main

Run = Callable[..., tuple[int, str, str]]

SUPPORT: dict[str, Any] = {
    "key": "support",
    "variants": [{"key": "A", "control": True}, {"key": "B", "config": {"prompt": "v2"}}],
    "goal": {"metric": "resolved", "kind": "binary", "baseline": 0.3},
    "guardrails": [
        {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01},
        {"metric": "seconds", "kind": "numeric", "max": 2.0},
        {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2, "cap": 1.0},
    ],
}
SCORED = SUPPORT | {"goal": {"metric": "score", "kind": "numeric", "baseline": 4.0, "range": [1, 5]}}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`bandit-sim plan` of a declared experiment, in this process: exit code, standard output, standard error."""

    def run(declared: dict[str, Any], *options: object) -> tuple[int, str, str]:
        path = tmp_path / "experiment.json"
        path.write_text(json.dumps(declared), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["bandit-sim", "plan", str(path), *map(str, options)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def words(text: str) -> str:
    """Return a text without the line breaks of a narrow screen."""
    return " ".join(text.split())


def test_the_text_begins_with_what_to_plan_for(plan: Run) -> None:
    code, out, err = plan(SUPPORT, "--users-per-day", 2000, "--expect", "harmful=0.002")

    assert (code, err) == (0, "")
    assert words(out).startswith("Plan for 35 days (5 whole weeks) and 68,356 users. By then, a variant that moves")
    assert "14,857 users per variant find 0.3 → 0.315 with power 0.8" in words(out)
    assert "harmful at most 1 % 0.2 %" in words(out)


def test_every_option_changes_what_it_says(plan: Run) -> None:
    options: dict[str, tuple[object, ...]] = {
        "power": ("--power", 0.9),
        "baseline": ("--baseline", 0.4),
        "split": ("--split", "A=0.8,B=0.2"),
        "margin": ("--non-inferiority", 0.1),
        "expect": ("--expect", "harmful=0.004", "--expect", "cost_usd=0.1"),
        "base": ("--base", "cost_usd=0.02"),
        "sd-of": ("--sd-of", "seconds=0.4"),
        "max-days": ("--max-days", 3),
    }
    plans = {name: plan(SUPPORT, "--users-per-day", 5000, "--json", "-", *given) for name, given in options.items()}
    _, plain, _ = plan(SUPPORT, "--users-per-day", 5000, "--json", "-")

    assert {code for code, _, _ in plans.values()} == {0}
    assert len({plain, *(out for _, out, _ in plans.values())}) == len(options) + 1
    read = {name: json.loads(out) for name, (_, out, _) in plans.items()}
    assert read["power"]["power"] == 0.9
    assert read["baseline"]["target"] == pytest.approx(0.42)
    assert read["split"]["split"] == {"A": 0.8, "B": 0.2}
    assert read["margin"]["sizes"]["not_worse"]["sides"] == 1
    assert [row["expected"] for row in read["expect"]["guardrails"]] == pytest.approx([0.004, 1.6, 1.1])
    assert read["base"]["guardrails"][2]["base"] == 0.02
    assert read["sd-of"]["guardrails"][1]["sd"] == 0.4
    assert read["max-days"]["reach"]["out_of_reach"]


def test_a_quantile_relative_to_control_is_planned(plan: Run) -> None:
    rail = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max_increase": 0.5, "at": 1200}
    declared = SUPPORT | {"guardrails": [rail]}
    options = ("--users-per-day", 2000, "--expect", "latency_ms=0.1", "--base", "latency_ms=0.04")

    _, text, _ = plan(declared, *options)
    _, json_text, _ = plan(declared, *options, "--json", "-")
    code, _, error = plan(SUPPORT | {"guardrails": [rail | {"at": None}]}, "--users-per-day", 2000)

    assert "calls above 1200 at most 50 % more often than control" in words(text)
    (found,) = json.loads(json_text)["guardrails"]
    assert (found["kind"], found["limit"], found["base"]) == ("rate ratio", 1.5, 0.04)
    assert found["expected"] == pytest.approx(1.1)
    assert found["users"] == users_for_ratio(1.1, 1.5, 0.04, 0.5, 0.02)
    assert code == 1
    assert "guardrails[0].at: missing" in error


def test_a_numeric_goal_needs_its_standard_deviation(plan: Run) -> None:
    code, out, _ = plan(SCORED, "--users-per-day", 500, "--sd", 0.9, "--response-rate", 0.5)
    missing, nothing, message = plan(SCORED, "--users-per-day", 500)

    assert (code, missing, nothing) == (0, 1, "")
    assert "a variant that moves score from 4 to 4.2" in words(out)
    assert "50 % of the users have a value of score" in words(out)
    assert message == "error: sd: missing: a numeric goal needs the standard deviation of a user's outcome (--sd)\n"


def test_json_alone_goes_to_standard_output_in_either_format(plan: Run) -> None:
    _, text, _ = plan(SUPPORT, "--users-per-day", 500, "--json", "-")
    _, md, _ = plan(SUPPORT, "--users-per-day", 500, "--json", "-", "--format", "md")

    assert text == md
    assert json.loads(text)["schema"] == 1


def test_json_in_a_file_goes_beside_the_document(plan: Run, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"

    _, out, _ = plan(SUPPORT, "--users-per-day", 500, "--format", "md", "--json", path)

    assert out.startswith("# Experiment design: support\n")
    assert json.loads(path.read_text(encoding="utf-8"))["users_per_variant"] == 14_857


def test_help_names_every_option_and_an_example(plan: Run) -> None:
    code, out, _ = plan(SUPPORT, "--help")

    names = ("users-per-day", "baseline", "sd", "power", "split", "expect", "base", "sd-of", "non-inferiority")
    assert code == 0
    assert [name for name in (*names, "response-rate", "max-days", "format", "json") if f"--{name}" not in out] == []
    assert "Example: bandit-sim plan experiment.toml" in words(out)


WRONG = [
    *[(("--power", value), "power") for value in ("0", "1", "nan", "inf", "-1", "0.05")],
    *[(("--baseline", value), "baseline") for value in ("0", "1", "nan", "-0.2", "1e300")],
    (("--baseline", "0.99"), "goal.mde"),
    (("--sd", "1"), "sd"),
    *[(("--max-days", value), "max-days") for value in ("0", "nan", "inf", "-3")],
    *[(("--response-rate", value), "response-rate") for value in ("0", "1.5", "nan", "-1")],
    *[(("--non-inferiority", value), "non-inferiority") for value in ("0", "nan", "inf", "-0.1", "1e9", "1e-30")],
    (("--split", "A=0.5,B=0.6"), "split"),
    (("--split", "A=1"), "split"),
    (("--split", "A=1,B=0"), "split"),
    (("--split", "A=0.5,C=0.5"), "split"),
    (("--split", "A=1e300,B=0.5"), "split"),
    (("--expect", "harmfull=0.1"), "expect"),
    (("--expect", "resolved=0.1"), "expect"),
    (("--expect", "harmful=1e300"), "expect"),
    (("--expect", "harmful=-0.1"), "expect"),
    (("--base", "harmful=0.1"), "base"),
    (("--base", "cost_usd=2"), "base"),
    (("--sd-of", "harmful=0.1"), "sd-of"),
    (("--sd-of", "seconds=0"), "sd-of"),
    (("--json", "/no/such/place.json"), "/no/such/place.json"),
]


@pytest.mark.parametrize(("options", "field"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_a_number_that_cannot_be_is_refused_by_its_name(plan: Run, options: tuple[str, str], field: str) -> None:
    code, out, err = plan(SUPPORT, "--users-per-day", 500, *options)

    assert (code, out) == (1, "")
    assert {line.startswith(f"error: {field}") for line in err.splitlines()} == {True}


@pytest.mark.parametrize("value", ["1e-300", "5e-324"])
def test_hardly_any_user_is_no_plan(plan: Run, value: str) -> None:
    code, out, err = plan(SUPPORT, "--users-per-day", value)

    assert (code, out) == (1, "")
    assert err.startswith("error: users-per-day: received ")


MISUSE = [
    *[(("--users-per-day", value), "--users-per-day") for value in ("0", "-5", "nan", "inf", "many", "")],
    *[((option, value), option) for option in ("--expect", "--base", "--sd-of") for value in ("", "harmful", "=1")],
    *[(("--expect", f"harmful={value}"), "--expect") for value in ("", "x", "nan", "inf")],
    (("--expect", "harmful=0.1", "--expect", "harmful=0.2"), "each once"),
    *[(("--split", value), "--split") for value in ("", "A", "A=0.5,", "A=x,B=1", "A=0.5,A=0.5")],
    (("--sd", "x"), "--sd"),
    (("--power", ""), "--power"),
    (("--format", "pdf"), "--format"),
    (("--nonsense", "1"), "--nonsense"),
]


@pytest.mark.parametrize(("options", "message"), MISUSE, ids=[" ".join(case[0]) for case in MISUSE])
def test_an_option_that_cannot_be_read_is_misuse(plan: Run, options: tuple[str, ...], message: str) -> None:
    given = options if options[0] == "--users-per-day" else ("--users-per-day", "500", *options)

    code, out, err = plan(SUPPORT, *given)

    assert (code, out) == (2, "")
    assert message in words(err)
    assert "Traceback" not in err


def test_every_wrong_expectation_stands_on_a_line_of_its_own(plan: Run) -> None:
    _, _, err = plan(SUPPORT, "--users-per-day", 500, "--expect", "harmfull=0.1", "--base", "seconds=1")

    assert len(err.splitlines()) == 2
    assert "did you mean 'harmful'" in err


def test_huge_numbers_are_planned_too(plan: Run) -> None:
    code, out, _ = plan(SUPPORT, "--users-per-day", "1e300", "--max-days", "1e300")

    assert code == 0
    assert words(out).startswith("Plan for 7 days (1 whole week)")
