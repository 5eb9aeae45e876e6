from __future__ import annotations

import re
from typing import Any

import pytest

from bandit.planning import Expectations
from simulations.plans.document import plan_document
from simulations.plans.sizing import sizing
from tests.bandit.making import NUMERIC, make_experiment

HARMFUL = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}
SECTIONS = ["Variants", "Goal", "Guardrails", "Sample size", "Traffic", "Decision rule", "End"]


def design(arms: int = 2, per_day: float = 5_000, options: dict[str, Any] | None = None, **parts: Any) -> str:  # noqa: ANN401 (tables of the experiment file)
    """Return the document of an experiment with a baseline of 0.3."""
    parts["goal"] = {"baseline": 0.3} | parts.get("goal", {})
    return plan_document(sizing(make_experiment(arms, **parts), per_day, **(options or {})))


def section(document: str, name: str) -> str:
    """Return the text under a heading."""
    return document.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def test_the_document_has_all_that_a_design_needs() -> None:
    document = design(
        hypothesis="Three steps help.",
        guardrails=[HARMFUL],
        policy={"epsilon": 0.2},
        options={"expectations": Expectations({"harmful": 0.002})},
        rewards={"window": "2d"},
        analysis={"horizon_users": 80_000},
    )

    assert re.findall(r"^#+ (.*)$", document, re.MULTILINE) == ["Experiment design: greeting", *SECTIONS, "Notes"]
    for line in (
        "**Hypothesis.** Three steps help.",
        "| A (control) | 50 % | 34,178 | – |",
        "| B | 50 % | 34,178 | 1 |",
        '- prompt: "A" → "B"',
        "| metric | resolved, binary; higher is better |",
        "| a user without a value | counts as the worst value, 0 |",
        "| reward window | 2d from a user's assignment |",
        "| smallest effect that matters (mde) | 5 %, to 31.5 % |",
        "| harmful | at most 1 % | 0.2 % | 983 | 3 |",
        "| one look | 14,857 | 29,714 | 8 | 2 |",
        "| looks at any time | 34,178 | 68,356 | 16 | 3 |",
        "- 100 % of users are in the experiment.",
    ):
        assert f"\n{line}\n" in document
    assert "- Horizon 80,000 users: what is not decided by then is inconclusive, and control is kept." in document
    (note,) = section(document, "Notes").strip().splitlines()
    assert note.startswith(r"- policy.epsilon acts only under kind 'epsilon\_greedy'")


def test_nothing_to_note_leaves_no_notes() -> None:
    """Guardrails and a ramp do what they say."""
    assert "## Notes" not in design(guardrails=[HARMFUL], rollout={"ramp": [0.1, 1.0]})


def test_the_decision_rule_is_five_steps_in_order() -> None:
    rule = section(design(guardrails=[HARMFUL]), "Decision rule")

    steps = re.findall(r"^(\d)\. \*\*(.*?)\*\*", rule, re.MULTILINE)
    assert steps == [
        ("1", "Do not deploy"),
        ("2", "Do not deploy"),
        ("3", "Deploy"),
        ("4", "Keep running"),
        ("5", "Keep running"),
    ]
    assert "if a guardrail is breached or the variant was suspended by hand" in rule
    assert "evidence that control is better has reached 50 to 1, or if a gain of 5 % or more is ruled out" in rule
    conditions = "every guardrail is certified, the experiment is at least 7 days old, and its last seven days do not"
    assert f"has reached 50 to 1, {conditions} point the other way." in rule
    assert "**inconclusive, keep control**" in rule
    assert "breaks a limit, is at most 2.5 %, over all looks." in rule
    assert "breached once the evidence that it is broken reaches 200 to 1" in rule  # 0.04 / 2 guardrails / 4


def test_the_decision_rule_speaks_of_what_is_declared_alone() -> None:
    plain = section(design(analysis={"min_days": 0}), "Decision rule")
    several = section(design(4, policy={"alpha": 0.1}), "Decision rule")

    assert "guardrail" not in plain
    assert "days old" not in plain
    assert "several" not in plain
    assert "steps for the variant;" in plain
    assert "has reached 50 to 1 and its last seven days" in plain
    assert "steps for each variant;" in several
    assert "evidence that the variant is better has reached 75 to 1, the" in several  # 0.8 × 0.1 / 3 / 2
    assert "deploy the one with the largest estimated gain" in several
    assert "is at most 5 %, over all variants and looks." in several


def test_more_than_one_difference_from_control_is_warned_of() -> None:
    configs = [
        {"model": "s", "p": {"v": 1}},
        {"model": "s", "p": {"v": 2}},
        {"model": "l", "p": {"v": 2}},
        {"model": "s"},
    ]
    variants = [
        {"key": key, "control": key == "A", "config": config} for key, config in zip("ABCD", configs, strict=True)
    ]

    shown = section(design(variants=[*variants, {"key": "E", "config": configs[0]}]), "Variants")

    assert "Warning: C differs from control in 2 keys, so nobody will know which of them made a difference." in shown
    assert shown.count("Warning") == 1
    assert "- p.v: 1 → 2" in shown
    assert '- p: {"v": 1} → (none)' in shown
    assert "- E has the same config as control: an A/A variant" in shown


def test_a_long_value_of_a_config_is_cut() -> None:
    variants = [{"key": "A", "control": True}, {"key": "B", "config": {"prompt": "x" * 500}}]

    assert f'- prompt: (none) → "{"x" * 78}…' in design(variants=variants)


def test_without_a_hypothesis_one_is_asked_for() -> None:
    better, lower = design(), design(goal={"better": "lower"})

    assert r"**Hypothesis.** None is declared. Write one: “If \<change\>, then resolved rises, because" in better
    assert "then resolved falls, because" in lower


def test_a_numeric_goal_shows_its_bounds() -> None:
    goal = NUMERIC | {"baseline": 3.8, "mde": 0.03, "range": [1, 5], "cap": 4.5, "per_user": "first"}

    shown = section(design(goal=goal, options={"sd": 1.1}, rewards={"window": "request"}), "Goal")

    for row in (
        "| metric | score, numeric; higher is better |",
        "| a user counts as | the user's first value |",
        "| a user without a value | is left out |",
        "| reward window | values come with the request, at the latest after 60s |",
        "| smallest effect that matters (mde) | 3 %, to 3.914 |",
        "| range | 1 to 5; values outside are refused |",
        "| cap | 4.5; outcomes are cut there |",
    ):
        assert row in shown


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            {"rollout": {"exposure": 0.2}},
            "20 % of users are in the experiment. The others get control and are not counted.",
        ),
        ({"rollout": {"ramp": [0.01, 0.25, 1.0]}}, "A ramp raises that share step by step: 1 % → 25 % → 100 %."),
        (
            {"rollout": {"ramp": [0.01, 0.25], "ramp_users": 1_000, "ramp_after": "2d"}},
            (
                "25 % of users are in the experiment. The others get control and are not counted. A ramp raises that "
                "share step by step: 1 % → 25 %. The next step comes once each treatment has 1,000 users on this one, "
                "after 2d at the earliest."
            ),
        ),
        (
            {"rollout": {"ramp": [0.01, 1.0]}, "guardrails": [HARMFUL]},
            "each treatment has 100 users with a value of every guardrail on this one, after 1h at the earliest.",
        ),
        ({"policy": {"kind": "fixed", "split": {"A": 0.8, "B": 0.2}}}, "Shares stay as they are: A 80 %, B 20 %."),
        ({"policy": {"warmup": 70}}, "Policy thompson: an equal split until each variant has 70 users"),
        ({"policy": {"floor": 0.15}}, "Least shares: A 20 %, B 15 %."),
        ({"policy": {"growth": 0.1, "min_batch": 7}}, "renewed after 10 % more users and at least 7, or after 1h."),
    ],
)
def test_traffic_is_told_as_declared(parts: dict[str, Any], sentence: str) -> None:
    assert sentence in section(design(**parts), "Traffic")
    assert sentence not in section(design(), "Traffic")


@pytest.mark.parametrize(
    ("analysis", "short"),
    [
        ({"horizon_users": 60_000}, True),
        ({"horizon_users": 70_000}, False),
        ({"horizon_days": 13.5}, True),
        ({"horizon_days": 14}, False),
    ],
)
def test_a_horizon_that_ends_before_the_plan_is_warned_of(analysis: dict[str, float], short: bool) -> None:
    end = section(design(rewards={"window": "request"}, analysis=analysis), "End")

    assert ("Warning: the horizon is shorter than the plan (68,356 users, 14 days)." in end) == short


def test_without_a_horizon_the_plan_is_one() -> None:
    end, never = section(design(), "End"), section(design(goal={"mde": 0.001}), "End")

    assert r"Declare analysis.horizon\_users = 68356 to end it as planned." in end
    assert "Declare" not in never


def test_no_guardrails_are_said_to_be_none() -> None:
    assert "None is declared: the goal alone decides." in section(design(), "Guardrails")


def test_warnings_stand_before_the_first_section() -> None:
    first = design(per_day=100).split("\n## ")[0]

    assert "- Warning: an effect of 5 % needs 684 days" in first


def test_texts_of_the_file_are_neither_markup_nor_rows() -> None:
    """Pipes, backticks, line breaks, HTML, links, lists: each stays text, in its own cell."""
    hostile = "a|b `c`\n# d <script>*e*</script> [f](http://g)"
    variants = [
        {"key": "A", "control": True, "config": {"x|y": hostile}},
        {"key": "B", "config": {"x|y": "|", "*z*": "<b>"}},
    ]
    goal = {"metric": "m|<i>`[n]"}

    document = design(
        hypothesis=f"- {hostile}",
        variants=variants,
        goal=goal,
        guardrails=[HARMFUL | {"metric": "|g<u>"}],
        policy={"epsilon": 0.2},
    )

    plain = document.replace(r"\\", "")
    for mark in ("|b", "`c`", "<script", "*e*", "[f]", "|y", "*z*", "<b>", "<i>", "|g", "<u>"):
        assert mark in plain.replace("\\", "")
        assert re.search(rf"(?<!\\){re.escape(mark)}", plain) is None
    headings = re.findall(r"^#+ (.*)$", document, re.MULTILINE)
    assert headings == ["Experiment design: greeting", *SECTIONS, "Notes"]
    rows = [line for line in plain.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3, 5, 6}
