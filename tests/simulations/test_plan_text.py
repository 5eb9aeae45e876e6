from __future__ import annotations

from typing import Any

import pytest
from rich.table import Table

from bandit.planning import Expectations
from simulations.plans.sizing import Sizing, sizing
from simulations.plans.text import plan_parts, size_cells, summary, warnings
from tests.bandit.making import NUMERIC, make_experiment

HARMFUL = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}
ALL = [
    HARMFUL,
    {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
    {"metric": "seconds", "kind": "numeric", "max": 2.0, "cap": 10.0},
    {"metric": "safe", "kind": "binary", "max_decrease": 0.01},
    {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2, "tolerance": 0.05},
]
P95_OF_CONTROL = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max_increase": 0.1, "at": 1200}


def sized(arms: int = 2, options: dict[str, Any] | None = None, per_day: float = 5_000, **parts: Any) -> Sizing:  # noqa: ANN401 (tables of the experiment file)
    """Return the plan of an experiment with a baseline of 0.3."""
    parts["goal"] = {"baseline": 0.3} | parts.get("goal", {})
    return sizing(make_experiment(arms, **parts), per_day, **(options or {}))


def told(found: Sizing) -> str:
    """Return all sentences of a plan."""
    return "\n".join(part for part in plan_parts(found) if isinstance(part, str))


def tables(found: Sizing) -> list[list[list[str]]]:
    """Return the tables of a plan as rows of cells."""
    shown = [part for part in plan_parts(found) if isinstance(part, Table)]
    return [[list(row) for row in zip(*(column.cells for column in table.columns), strict=True)] for table in shown]


def test_the_first_sentence_says_how_long_and_how_many() -> None:
    (sentence,) = summary(sized())

    assert sentence == (
        "Plan for 14 days (2 whole weeks) and 68,356 users. By then, a variant that moves resolved from 30 % to 31.5 % "
        "is found to be better in at least 80 of 100 experiments, however often you look."
    )
    assert "each guardrail is certified in 5 to 6 of 10" in summary(sized(guardrails=[HARMFUL]))[0]


def test_two_variants_are_told_nothing_of_several() -> None:
    text = told(sized(guardrails=ALL))

    assert [noise for noise in ("variants are compared", "fewer variants", "split as planned") if noise in text] == []
    assert [row[0] for row in size_cells(sized())] == ["one look", "looks at any time"]


def test_several_variants_are_told_what_comparing_them_costs() -> None:
    found = sized(4, {"split": {"A": 0.4, "B": 0.3, "C": 0.2, "D": 0.1}, "margin": 0.05})

    assert "3 variants are compared with control, so each is tested at alpha 0.05/3." in told(found)
    assert [row[0] for row in size_cells(found)] == [
        "one look, as for two variants",
        "one look, 3 variants against control",
        "one look, split as planned",
        "looks at any time, split as planned",
        "one look, not worse by 5 %",
    ]


def test_an_unequal_split_shows_the_users_of_control_apart() -> None:
    two, three = sized(2, {"split": {"A": 0.8, "B": 0.2}}), sized(3, {"split": {"A": 0.5, "B": 0.3, "C": 0.2}})

    (a, b), (control, more, fewer) = (found.rows["split"].size.users for found in (two, three))
    assert size_cells(two)[1][1] == f"{b:,}, control {a:,}"
    assert size_cells(three)[2][1] == f"{fewer:,} to {more:,}, control {control:,}"


def test_a_policy_that_moves_traffic_is_told_what_the_sizes_are_not() -> None:
    moving, fixed = told(sized()), told(sized(policy={"kind": "fixed"}))

    assert "The policy thompson moves them toward better variants" in moving
    assert "B has, after 834 users in all, the 25 events and 25 non-events that an interval needs." in moving
    assert "policy" not in fixed
    assert "B may never have the 25 events" in told(sized(policy={"floor": 0.0}))


def test_guardrails_are_told_in_the_unit_of_their_limit() -> None:
    found = sized(guardrails=ALL, options={"expectations": Expectations({"safe": 0.01, "cost_usd": -0.1})})

    cells = tables(found)[1]
    assert [row[:3] for row in cells] == [
        ["harmful", "at most 1 %", "0.5 % (assumed)"],
        ["latency_ms", "at most 5 % of calls above 1500", "2.5 % (assumed)"],
        ["seconds", "at most 2", "1.6 (assumed)"],
        ["safe", "at most 1 % below control", "1 % above control (assumed)"],
        ["cost_usd", "at most 20 % above control (certified below 26 % above control)", "10 % below control (assumed)"],
    ]
    assert cells[0][3] == "3,332"  # a rate's size is exact, the others are approximations
    assert all(row[3].startswith("about ") for row in cells[2:])


def test_a_relative_quantile_is_told_as_a_share_of_calls() -> None:
    found = sized(guardrails=[P95_OF_CONTROL], options={"expectations": Expectations({"latency_ms": -0.2})})

    ((metric, limit, expected, users, _),) = tables(found)[1]
    assert (metric, limit, expected) == (
        "latency_ms",
        "calls above 1200 at most 10 % more often than control",
        "20 % below control (assumed)",
    )
    assert users == f"about {found.guardrails[0].certification.users:,}"
    assert "Assumed for latency_ms: control's share of calls above 1200 is 0.05 (--base)." in told(found)


def test_what_was_not_given_is_named_with_its_option() -> None:
    text = told(sized(guardrails=ALL))

    for sentence in (
        "Assumed for harmful: half of the limit (--expect).",
        (
            "Assumed for seconds: 80 % of the limit (--expect); "
            "spread between users (standard deviation) as large as the expected mean (--sd-of)."
        ),
        "Assumed for safe: no change against control (--expect); control's rate 0.9 (--base).",
    ):
        assert sentence in text
    known = Expectations({"harmful": 0.001})
    assert "ssumed" not in told(sized(guardrails=[HARMFUL], options={"expectations": known}))


@pytest.mark.parametrize(
    ("parts", "options", "sentence"),
    [
        (
            {"rewards": {"window": "2d"}},
            {},
            "Days: at 5,000 users a day; the last user's reward window of 2d is included.",
        ),
        ({"rewards": {"window": "request"}}, {}, "rewards come with the request, so no waiting time is added."),
        ({"rollout": {"exposure": 0.2}}, {}, "Days: at 5,000 users a day, 20 % of them in the experiment;"),
        ({"analysis": {"min_days": 3}}, {}, "weekdays and weekends differ; at least 3 days (analysis.min_days)."),
        ({"analysis": {"min_days": 0}}, {}, "Weeks: end on a whole week, since weekdays and weekends differ."),
        ({"rollout": {"ramp": [0.01, 1.0]}}, {}, "Ramp (1 %, 100 %): the time of its steps comes on top"),
        ({"rollout": {"ramp": [0.1, 0.5]}}, {}, "the days are those at 50 %."),
        (
            {"rollout": {"ramp": [0.01, 0.1, 1.0]}},
            {},
            "With 100 users of each treatment and 1h on a step, those before the last take at least 4.4 days at",
        ),
        (
            {"rollout": {"ramp": [0.25, 0.5, 1.0], "ramp_users": 9, "ramp_after": "12h"}},
            {},
            "With 9 users of each treatment and 12h on a step, those before the last take at least 1 day at this",
        ),
        ({"rollout": {"ramp": [0.1, 0.25, 1.0], "exposure": 0.25}}, {}, "Ramp (10 %, 25 %): "),
        (
            {},
            {"response_rate": 0.5},
            "counts as the worst value, so the response rate changes no size; the baseline of 30 %",
        ),
        ({"rewards": {"missing": "zero"}}, {"response_rate": 0.5}, "A user without resolved counts as 0, so"),
        (
            {"rewards": {"missing": "ignore"}},
            {},
            "Every user is taken to have a value of resolved; if not, give --resp",
        ),
        ({"rewards": {"missing": "ignore"}}, {"response_rate": 0.5}, "50 % of the users have a value of resolved:"),
        ({}, {"margin": 0.1}, "in 80 of 100 experiments, to lose less than 10 % of control's 30 %."),
    ],
)
def test_the_calendar_says_what_is_in_it(parts: dict[str, Any], options: dict[str, Any], sentence: str) -> None:
    assert sentence in told(sized(options=options, **parts))
    assert sentence not in told(sized())


def test_a_ramp_of_one_step_is_none() -> None:
    assert "Ramp" not in told(sized(rollout={"exposure": 0.2, "ramp": [0.5, 1.0]}))


def test_a_plan_within_the_days_allowed_has_no_warning() -> None:
    assert warnings(sized(guardrails=[HARMFUL])) == []


def test_an_effect_out_of_reach_is_told_what_is_within_it() -> None:
    (sentence,) = warnings(sized(per_day=500, goal={"mde": 0.04}))

    assert sentence == (
        "Warning: an effect of 4 % needs 208 days with looks at any time (93 days with one look). Within 90 days "
        "(--max-days) this traffic finds an effect of 6.11 % or more with looks at any time, and an effect of 4.06 % "
        "or more with one look. What helps: more traffic, a larger mde, or a goal that varies less between users."
    )
    assert "fewer variants" in warnings(sized(3, per_day=100))[0]


def test_traffic_that_finds_nothing_in_time_is_told_so() -> None:
    assert "finds no effect, however large, with looks at any time" in warnings(sized(per_day=0.01))[0]


def test_an_effect_too_small_for_looks_at_any_time_is_told_so() -> None:
    found = sized(goal={"mde": 0.001})

    assert summary(found)[0].endswith("to a decision to deploy a variant that moves resolved from 30 % to 30.03 %.")
    assert "is too small for looks at any time, whatever the traffic" in warnings(found)[0]
    assert warnings(found)[0].endswith("What helps: a larger mde.")
    assert size_cells(found)[1] == ("looks at any time", "never", "–", "–", "–")


def test_a_guardrail_at_its_limit_stands_in_the_way() -> None:
    found = sized(guardrails=[HARMFUL], options={"expectations": Expectations({"harmful": 0.01})})

    (sentence,) = warnings(found)
    assert sentence == (
        "Warning: no variant can be deployed, as harmful cannot be certified: expected at the limit or above it: a "
        "variant there can never be certified."
    )
    assert summary(found)[0].startswith("No plan leads to a decision")
    assert tables(found)[1][0][3:] == ["never", "–"]


def test_guardrails_that_take_longer_than_allowed_are_named() -> None:
    found = sized(guardrails=[HARMFUL, ALL[1]], options={"expectations": Expectations({"harmful": 0.0095})})

    late = [sentence for sentence in warnings(found) if "these guardrails" in sentence]
    assert late == [
        "Warning: these guardrails need more than 90 days (--max-days) to be certified: harmful (246 days)."
    ]


def test_means_are_told_as_they_are() -> None:
    found = sized(goal=NUMERIC | {"baseline": 4.0}, options={"sd": 0.9})

    assert "a variant that moves score from 4 to 4.2 is" in summary(found)[0]
    assert "Cohen" not in told(found)
    assert "Every variant is taken to vary as control does (--sd)" in told(found)
    assert "to vary as control" not in told(sized())
    assert "events" not in told(found)
