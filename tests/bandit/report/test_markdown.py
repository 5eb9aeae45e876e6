from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit import Bandit, Report, markdown
from bandit.report.numbers import about, days, e_value, level, percent
from tests.bandit.making import Clock, make_experiment

HARMFUL = {"metric": "harmful", "kind": "binary", "max": 0.02}


def lived(users: int, rates: dict[str, float], **parts: object) -> Report:
    clock, rng = Clock(), np.random.default_rng(2)
    bandit = Bandit(make_experiment(len(rates), **parts), clock)
    for user in range(users):
        clock.now += 14 * 86_400.0 / users
        arm = bandit.choose(f"user-{user}").variant
        bandit.reward(f"user-{user}", {"resolved": bool(rng.random() < rates[arm])})
    clock.now += 86_400.0
    bandit.tick()
    return bandit.report()


def sections(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def test_what_to_do_comes_first_and_what_it_rests_on_below() -> None:
    text = markdown(lived(6000, {"A": 0.3, "B": 0.4}))

    assert sections(text) == [
        "# greeting",
        "## Decision",
        "## Variants",
        "## resolved against control",
        "## Are the data right?",
        "## Notes",
    ]
    assert "**Deploy B: resolved is" in text
    assert "| B | any-time interval, 96 % | +" in text
    assert "**no**: traffic moved; not at a horizon declared beforehand" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    text = markdown(lived(2000, {"A": 0.3, "B": 0.4, "C": 0.3}, guardrails=[HARMFUL]))

    tables: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    for rows in filter(None, tables):
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


def test_names_and_hypotheses_can_neither_break_a_table_nor_become_markup() -> None:
    report = lived(200, {"A": 0.3, "B": 0.4}, hypothesis="<script>|**x**\n# y")

    text = markdown(replace(report, experiment="a|b*c"))

    assert text.startswith("# a\\|b\\*c\n")
    assert "> \\<script\\>\\|\\*\\*x\\*\\* \\# y" in text


def test_a_horizon_makes_fixed_time_numbers_final() -> None:
    fixed = {"policy": {"kind": "fixed"}, "analysis": {"horizon_users": 1500}}
    before, after = (lived(users, {"A": 0.3, "B": 0.32}, **fixed) for users in (1000, 2000))

    assert "not final before the horizon" in markdown(before)
    assert "not final before the horizon" not in markdown(after)
    assert after.horizon.reached
    assert after.comparisons[0].final
    assert after.variants[1].welch is not None
    assert after.variants[1].welch.trustworthy
    assert after.decision.verdict == "inconclusive"
    assert "by 1,500 users. Keep A." in after.decision.sentence


def test_numbers_at_the_horizon_do_not_change_afterwards() -> None:
    parts = {"analysis": {"horizon_users": 1500}}
    first, later = (lived(users, {"A": 0.3, "B": 0.32}, **parts).comparisons[0] for users in (2000, 2000))
    experiment = make_experiment(2, **parts)
    clock, rng = Clock(), np.random.default_rng(2)
    bandit = Bandit(experiment, clock)
    seen = []
    for user in range(3000):
        clock.now += 600.0
        arm = bandit.choose(f"user-{user}").variant
        bandit.reward(f"user-{user}", {"resolved": bool(rng.random() < (0.3 if arm == "A" else 0.33))})
        if user % 250 == 249:
            found = bandit.report().comparisons[0]
            seen.append((found.final, found.fixed_time, found.welch and found.welch.p_value))

    final = [numbers for is_final, *numbers in seen if is_final]
    assert len(final) >= 4
    assert all(numbers == final[0] for numbers in final)
    assert first == later


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.0512), "5.12 %"),
        (level(0.3, is_share=True), "30 %"),
        (level(1234.5678, is_share=False), "1,235"),
        (level(0.0123456, is_share=False), "0.01235"),
        (level(123456.7, is_share=False), "123,457"),
        (level(None, is_share=True), "–"),
        (about(7.2), "8"),
        (about(1234.0), "1,300"),
        (about(129_999.0), "130,000"),
        (days(0.5), "12 hours"),
        (days(1 / 24), "1 hour"),
        (days(1e-5), "less than an hour"),
        (days(12.2), "13 days"),
        (f"{e_value(1e6):.3g}", "4.6e+299"),
    ],
)
def test_numbers_are_shown_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected
