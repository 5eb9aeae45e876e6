"""`bandit-sim analyze`: the report on a log, and every way to ask wrongly."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bandit import Bandit
from bandit.report import build_report
from simulations.runner import run_users
from tests.bandit.making import make_experiment
from tests.simulations.analyzing import Analyze, ab_columns, analyze_in, written

EVEN = ("--split", "A=0.5,B=0.5")


@pytest.fixture
def analyze(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Analyze:
    return analyze_in(monkeypatch, capsys)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return written(tmp_path / "log.csv", ab_columns(lift=0.12))


def report_of(analyze: Analyze, *arguments: object, code: int = 0) -> dict[str, Any]:
    done = analyze(*arguments, "--json", "-")
    assert (done.code, done.err) == (code, "")
    document = json.loads(done.out)
    assert isinstance(document, dict)
    return document


def test_a_better_variant_of_a_declared_split_is_to_be_deployed(analyze: Analyze, log: Path) -> None:
    done = analyze(log, "--goal", "resolved", *EVEN, "--format", "md")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# log\n\n**log** · goal resolved (binary, higher is better) · 2,000 users over ")
    assert "**Deploy B: resolved is" in done.out
    assert "Users assigned against their probabilities: as expected." in done.out
    assert "- Control is 'A', by its name; --control names another one." in done.out
    assert "Further columns of numbers: 'latency'" in done.out
    assert "share now" not in done.out


@pytest.mark.parametrize("goal", ["resolved", "latency"])
def test_welch_is_that_of_scipy_on_the_rows_and_trusted_at_the_one_look(analyze: Analyze, log: Path, goal: str) -> None:
    columns = ab_columns(lift=0.12)
    values, treated = np.array(columns[goal], dtype=float), np.array(columns["variant"]) == "B"

    document = report_of(analyze, log, "--goal", goal, *EVEN, "--one-look")

    test = document["variants"][1]["welch"] if document["variants"][1]["key"] == "B" else None
    test = test or document["variants"][0]["welch"]
    expected = stats.ttest_ind(values[treated], values[~treated], equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert test["p_value"] == pytest.approx(expected.pvalue, rel=1e-8)
    assert test["interval"] == pytest.approx([low, high], rel=1e-8)
    assert test["trustworthy"]
    assert document["horizon"] == {"users": 2000, "days": None, "reached": True}
    assert any("one look planned beforehand (--one-look)" in note for note in document["notes"])


def test_several_rows_of_a_user_make_one_outcome(analyze: Analyze, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(400), 3)
    score = np.round(rng.normal(3.0, 1.0, 1200) + rng.normal(0.0, 1.0, 400)[user], 3)
    variant = ["B" if i % 2 else "A" for i in user]
    path = written(tmp_path / "calls.csv", {"user": user.tolist(), "variant": variant, "score": score})

    document = report_of(analyze, path, *EVEN)

    means = score.reshape(400, 3).mean(axis=1)
    expected = stats.ttest_ind(means[1::2], means[::2], equal_var=False)
    treated = next(each for each in document["variants"] if each["key"] == "B")
    assert treated["welch"]["p_value"] == pytest.approx(expected.pvalue, rel=1e-8)
    assert (document["unit"], document["assigned"], document["log"]["rows_counted"]) == ("user", 400, 1200)


def test_without_propensities_there_is_no_decision_but_a_cure(analyze: Analyze, log: Path) -> None:
    document = report_of(analyze, log, "--goal", "resolved")

    treated = next(each for each in document["variants"] if each["key"] == "B")
    assert (document["decision"]["verdict"], document["checks"]["assigned"]) == ("unknown", [])
    assert "--split" in document["decision"]["sentence"]
    assert not treated["welch"]["trustworthy"]
    assert any("there remain means and Welch's test" in note for note in document["notes"])


def test_a_bandits_log_gives_the_bandits_report(analyze: Analyze, tmp_path: Path) -> None:
    experiment = make_experiment(analysis={"horizon_users": 2000})
    bandit, rng = Bandit(experiment), np.random.default_rng(2)
    chance = {"A": 0.3, "B": 0.42}
    records = run_users(
        bandit, [f"u{i}" for i in range(2500)], lambda _, arm: {"resolved": float(rng.random() < chance[arm])}
    )
    columns: dict[str, Any] = {
        "user_id": [r.user_id for r in records],
        "variant": [r.arm for r in records],
        "propensity": [r.propensity for r in records],
        "epoch": [r.epoch for r in records],
        "resolved": [int(r.outcomes["resolved"]) for r in records],
    }
    file = tmp_path / "experiment.json"
    file.write_text(experiment.to_json(), encoding="utf-8")

    found = report_of(analyze, written(tmp_path / "log.csv", columns), "--experiment", file)

    bandit.stop()
    expected = build_report(experiment, bandit.history, "log").to_dict()
    assert found["decision"]["verdict"] == expected["decision"]["verdict"]
    for name in ("difference", "interval", "p_value"):
        for method in ("any_time", "fixed_time", "unweighted", "welch"):
            value, wanted = found["comparisons"][0][method][name], expected["comparisons"][0][method][name]
            assert value == pytest.approx(wanted, rel=1e-6), (method, name)
    assert found["comparisons"][0]["e_process"]["higher"] == pytest.approx(
        expected["comparisons"][0]["e_process"]["higher"], rel=1e-6
    )


def test_a_file_declares_guardrails_windows_and_the_split(analyze: Analyze, tmp_path: Path) -> None:
    experiment = make_experiment(
        guardrails=[
            {"metric": "slow", "field": "latency", "kind": "numeric", "quantile": 0.5, "max": 900},
            {"metric": "harmful", "kind": "binary", "max": 0.01},
        ],
        policy={"kind": "fixed", "split": {"A": 0.7, "B": 0.3}},
        rewards={"window": "1h"},
    )
    file = tmp_path / "experiment.json"
    file.write_text(experiment.to_json(), encoding="utf-8")
    path = written(tmp_path / "log.csv", ab_columns(users=3000, share=0.3))

    document = report_of(analyze, path, "--experiment", file)

    slow, harmful = document["guardrails"]
    assert [each["state"] for each in slow["states"]] == ["ok", "ok"]
    assert sum(slow["users"].values()) == document["assigned"] - document["pending"]
    assert sum(harmful["users"].values()) == 0
    assert document["checks"]["assigned"][1]["expected"] == pytest.approx(0.3 * 3000)
    assert document["pending"] > 0
    assert any("The log has no values of 'harmful'" in note for note in document["notes"])


def test_options_beside_a_file_are_said(analyze: Analyze, log: Path, tmp_path: Path) -> None:
    file = tmp_path / "experiment.json"
    file.write_text(make_experiment().to_json(), encoding="utf-8")

    document = report_of(analyze, log, "--experiment", file, *EVEN, "--alpha", "0.01", "--window", "2h")

    assert document["alpha"] == 0.01
    assert document["notes"][0] == (
        "Options were taken instead of what the experiment file says: --split, --window, --alpha."
    )


def test_what_was_left_out_is_said(analyze: Analyze, tmp_path: Path) -> None:
    columns = ab_columns(users=200)
    extra: dict[str, list[object]] = {
        "user_id": ["u0", "u1", "u1"],
        "variant": ["B" if columns["variant"][0] == "A" else "A", *[columns["variant"][1]] * 2],
        "time": [float(np.max(np.array(columns["time"], dtype=float)))] * 3,
        "resolved": [1, 1, 1],
        "latency": ["", "", "1e99"],
    }
    path = written(tmp_path / "log.csv", {name: [*columns[name], *extra[name]] for name in columns})

    document = report_of(analyze, path, "--goal", "resolved", "--window", "1h", *EVEN)

    assert document["log"] == {"rows_counted": 200, "late_rows": 2, "stray_rows": 1, "stray_users": 1}
    assert document["pending"] > 0
    notes = "\n".join(document["notes"])
    assert "1 users have rows of more than one variant" in notes
    assert "2 rows came after their user's window" in notes
    assert "Column 'latency' is left out: line 204 has '1e99', which is no number." in notes
    assert "users had not ended when the log ends" in notes


def test_rows_without_users_are_warned_of(analyze: Analyze, tmp_path: Path) -> None:
    columns = ab_columns(users=300)
    del columns["user_id"], columns["time"]

    document = report_of(analyze, written(tmp_path / "log.csv", columns), "--goal", "resolved", *EVEN)

    notes = "\n".join(document["notes"])
    assert document["unit"] == "row"
    assert "Rows of one user are no independent users" in notes
    assert "Nothing says the order in which users came (--time)" in notes


def test_missing_outcomes_count_as_asked_for(analyze: Analyze, tmp_path: Path) -> None:
    columns = ab_columns(users=300)
    columns["resolved"] = ["" if i % 3 == 0 else value for i, value in enumerate(columns["resolved"])]
    path = written(tmp_path / "log.csv", columns)

    worst = report_of(analyze, path, "--goal", "resolved", *EVEN)
    ignored = report_of(analyze, path, "--goal", "resolved", *EVEN, "--missing", "ignore")

    assert sum(each["users"] for each in worst["variants"]) == 300
    assert sum(each["users"] for each in ignored["variants"]) == 200
    assert any("a user without one counts as the worst value (--missing)" in note for note in worst["notes"])


def test_every_form_of_output_is_written(analyze: Analyze, log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    out = tmp_path / "report.json"

    done = analyze(packed, "--goal", "resolved", *EVEN, "--json", out)

    document = json.loads(out.read_text(encoding="utf-8"))
    assert (document["schema"], document["state"], document["experiment"]) == (3, "log", "packed")
    assert done.out.startswith("# packed\n")
    assert analyze(packed, "--goal", "resolved", *EVEN, "--json", "-").out.startswith("{")


def test_options_of_the_question_act(analyze: Analyze, log: Path) -> None:
    document = report_of(
        analyze, log, "--goal", "latency", "--control", "B", "--better", "lower", "--mde", "0.2", "--alpha", "0.1",
        "--per-user", "sum", "--horizon-users", "1000", "--split", "A=0.4,B=0.6",
    )  # fmt: skip

    assert [each["key"] for each in document["variants"] if each["control"]] == ["B"]
    goal = document["goal"]
    assert (goal["better"], goal["mde"], goal["per_user"], goal["missing"]) == ("lower", 0.2, "sum", "zero")
    assert (document["alpha"], document["horizon"]["users"]) == (0.1, 1000)
    assert document["checks"]["fix_first"] != []  # 1,000 of 2,000 users where 800 were declared


def test_a_sum_of_zeros_and_ones_is_a_number(analyze: Analyze, tmp_path: Path) -> None:
    columns: dict[str, Any] = {"user": ["u1", "u1", "u2"], "variant": ["A", "A", "B"], "clicks": [1, 1, 1]}

    document = report_of(analyze, written(tmp_path / "log.csv", columns), "--per-user", "sum")

    assert document["goal"]["kind"] == "numeric"
    assert [each["mean"] for each in document["variants"]] == [2.0, 1.0]


NOTHING_FITS = "user_id,variant,y\nu1,x,1\nu2,y,0\n"
SIMPLE = "user_id,variant,y\nu1,A,1\nu2,B,0\n"
TWO = "user_id,variant,y,z\nu1,A,1,2\nu2,B,0,3\n"
WRONG: list[tuple[str, list[str], str]] = [
    (NOTHING_FITS, [], "--control: missing; no variant is called control, baseline or A. Allowed: one of 'x', 'y'"),
    (SIMPLE, ["--control", "C"], "--control: received 'C'; allowed: 'A', 'B'"),
    (TWO, [], "--goal: missing; several columns hold numbers. Allowed: one of 'y', 'z'"),
    (TWO, ["--goal", "yy"], "--goal: there is no column 'yy'; did you mean 'y'?"),
    (TWO, ["--goal", "variant"], "no column says the variant"),
    (TWO, ["--goal", "user_id"], "line 2, column 'user_id': received 'u1', allowed: a number"),
    (TWO, ["--user", "y", "--goal", "y"], "--goal: received 'y', the column that says the user"),
    (TWO.replace(",2\n", ",\n").replace(",3\n", ",\n"), ["--goal", "z"], "received 'z', a column without any value"),
    (SIMPLE.replace(",0\n", ",nan\n"), [], "line 3, column 'y': received 'nan'"),
    (SIMPLE.replace(",1\n", ",yes\n"), [], "no column holds numbers, so there is no goal to compare variants on"),
    (SIMPLE, ["--split", "A=0.5,B=0.6"], "--split: "),
    (SIMPLE, ["--split", "A=1"], "--split: "),
    (SIMPLE, ["--alpha", "2"], "--alpha: received 2.0, allowed: a number above 0, at most 0.5"),
    (SIMPLE, ["--mde", "-1"], "--mde: received -1.0"),
    (SIMPLE, ["--horizon-users", "0"], "--horizon-users: received 0"),
    (SIMPLE, ["--min-days", "-1"], "--min-days: received -1.0"),
    (SIMPLE, ["--window", "1h"], "--window: received beside a log without times, allowed: with a column of times"),
    (SIMPLE, ["--window", "soon"], "--window: "),
    (SIMPLE, ["--user", "who"], "--user: there is no column 'who'"),
    (SIMPLE.replace(",0\n", ",2\n"), ["--per-user", "any"], "--per-user: received 'any'"),
    ("user_id,variant,y,time\nu1,A,1,1\nu2,B,0,2\n", ["--window", "1h", "--one-look"], "--one-look: no user's window"),
    (SIMPLE, ["--json", "/no/such/place.json"], "no directory"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "arguments", "message"), WRONG, ids=[w[2][:50] for w in WRONG])
def test_what_does_not_fit_is_refused_in_words(
    analyze: Analyze, tmp_path: Path, content: str, arguments: list[str], message: str
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(content, encoding="utf-8")

    done = analyze(path, *arguments)

    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert done.err.count(str(path)) <= done.err.count("\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--goal", "resolved"], "--goal: received beside --experiment"),
        (["--per-user", "any"], "--per-user: received beside --experiment"),
        (["--split", "A=0.9,B=0.1"], "--split: received"),
        (["--one-look", "--horizon-users", "5"], "--one-look: received beside --horizon-users"),
        (["--split", "A"], "--split"),
        (["--missing", "maybe"], "--missing"),
    ],
    ids=["goal", "per-user", "split", "one-look", "no number", "no such choice"],
)
def test_options_that_contradict_one_another_or_the_file_are_misuse(
    analyze: Analyze, log: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    file = tmp_path / "experiment.json"
    file.write_text(make_experiment(policy={"kind": "fixed"}).to_json(), encoding="utf-8")

    done = analyze(log, "--experiment", file, *arguments)

    assert done.code == 2
    assert message in " ".join(done.err.replace("│", " ").split())


VALUES: list[tuple[dict[str, Any], list[object], str]] = [
    ({"metric": "resolved", "kind": "binary"}, [0.5, 1], "line 2, column 'resolved': received 0.5, allowed: 0, 1"),
    ({"metric": "resolved", "kind": "numeric", "range": [1, 5]}, [3, 6], "received 6, allowed: a number from 1 to 5"),
    ({"metric": "resolved", "kind": "numeric", "cap": 5}, [3, -1], "received -1, allowed: a number from 0 to inf"),
    ({"metric": "score", "kind": "numeric"}, [3, 1], "there is no column 'score' with values, the goal of"),
]  # fmt: skip


@pytest.mark.parametrize(("goal", "values", "message"), VALUES, ids=["binary", "range", "cap", "absent"])
def test_values_that_the_file_does_not_allow_are_named(
    analyze: Analyze, tmp_path: Path, goal: dict[str, Any], values: list[object], message: str
) -> None:
    file = tmp_path / "experiment.json"
    document = make_experiment(goal=goal).to_dict()
    document["goal"] = goal
    file.write_text(json.dumps(document), encoding="utf-8")
    path = written(tmp_path / "log.csv", {"user_id": ["u1", "u2"], "variant": ["A", "B"], "resolved": values})

    done = analyze(path, "--experiment", file)

    assert (done.code, done.out) == (1, "")
    assert message in done.err


def test_a_column_has_one_role(analyze: Analyze, log: Path) -> None:
    done = analyze(log, "--goal", "resolved", "--epoch", "variant")

    assert done.code == 1
    assert "--epoch: received 'variant', the column that says the variant; allowed: another column" in done.err


def test_the_one_look_does_not_change_what_holds_at_any_look(analyze: Analyze, log: Path) -> None:
    """Its tuning has to be fixed beforehand."""
    plain, one_look = (report_of(analyze, log, "--goal", "resolved", *EVEN, *more) for more in ((), ("--one-look",)))

    assert plain["comparisons"][0]["any_time"] == one_look["comparisons"][0]["any_time"]
    assert (plain["comparisons"][0]["final"], one_look["comparisons"][0]["final"]) == (False, True)


def test_control_stands_first_whoever_came_first(analyze: Analyze, tmp_path: Path) -> None:
    columns = ab_columns()
    columns["variant"] = ["Z" if key == "A" else "control" for key in columns["variant"]]

    document = report_of(
        analyze, written(tmp_path / "log.csv", columns), "--goal", "resolved", *("--split", "control=0.5,Z=0.5")
    )

    assert [variant["key"] for variant in document["variants"]] == ["control", "Z"]
