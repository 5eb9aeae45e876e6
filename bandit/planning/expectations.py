"""What is expected of guardrails before the start, checked against what they limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bandit.errors import Problem
from bandit.experiment import Experiment, Guardrail
from bandit.experiment_parts import LARGEST_VALUE
from bandit.limits import LimitOf, limit_of
from bandit.wording import listed, received, unknown_name

Option = Literal["expect", "base", "sd-of"]

_CHANGE = (-1.0, LARGEST_VALUE, "a change relative to control from -1 on, such as 0.05 for 5 % more")
_LEVELS: dict[LimitOf, tuple[float, float, str]] = {
    "rate": (0.0, 1.0, "a share from 0 to 1"),
    "mean": (0.0, LARGEST_VALUE, "a mean from 0 to 1e15"),
    "rate ratio": _CHANGE,
    "mean ratio": _CHANGE,
}


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is expected of guardrails, by metric or, where a metric has several, by place: `guardrails[1]`.

    Attributes:
        level: Rate (of a quantile: share of calls above the limit), mean, or change relative to control: 0.05 is
            5 % above it.
        base: Control's rate (of a quantile: share of calls above `at`) or mean, for a limit relative to control.
        sd: Standard deviation of a user's outcome, for a mean.
    """

    level: Mapping[str, float] = field(default_factory=dict)
    base: Mapping[str, float] = field(default_factory=dict)
    sd: Mapping[str, float] = field(default_factory=dict)


def expected_of(experiment: Experiment, given: Expectations) -> tuple[list[dict[Option, float]], list[Problem]]:
    """Return the numbers given for each guardrail, in file order, and every fault of them."""
    problems: list[Problem] = []
    numbers: list[dict[Option, float]] = [{} for _ in experiment.guardrails]
    tables: tuple[tuple[Option, Mapping[str, float]], ...] = (
        ("expect", given.level),
        ("base", given.base),
        ("sd-of", given.sd),
    )
    for option, table in tables:
        for name, value in table.items():
            place = _place(experiment, option, name, problems)
            if place is None:
                continue
            if option in numbers[place]:
                message = f"received guardrails[{place}] twice, allowed: each guardrail once"
                problems.append(Problem(option, message))
            numbers[place][option] = value
    for guardrail, known in zip(experiment.guardrails, numbers, strict=True):
        problems += _faults(guardrail, known)
    return numbers, problems


def _place(experiment: Experiment, option: Option, name: str, problems: list[Problem]) -> int | None:
    """Return the place of the one guardrail of this name."""
    places = range(len(experiment.guardrails))
    meant = [place for place in places if name in {experiment.guardrails[place].metric, f"guardrails[{place}]"}]
    if len(meant) == 1:
        return meant[0]
    if meant:
        names = listed(f"guardrails[{place}]" for place in meant)
        problems.append(Problem(option, f"received {received(name)}, which has several limits; allowed: {names}"))
    elif places:
        metrics = dict.fromkeys(guardrail.metric for guardrail in experiment.guardrails)
        problems.append(Problem(option, f"no guardrail is called {received(name)}; {unknown_name(name, metrics)}"))
    else:
        problems.append(Problem(option, f"received {received(name)}, but the experiment has no guardrails"))
    return None


def _faults(guardrail: Guardrail, numbers: Mapping[Option, float]) -> list[Problem]:
    """Return what is out of range, or given where it has no meaning."""
    kind, found = limit_of(guardrail).of, []
    for option, value in numbers.items():
        allowed = _allowed(guardrail, kind, option)
        if isinstance(allowed, str):
            found.append(Problem(option, f"not allowed for {received(guardrail.metric)}: {allowed}"))
        elif not allowed[0] <= value <= allowed[1]:
            message = f"received {value:g} for {received(guardrail.metric)}, allowed: {allowed[2]}"
            found.append(Problem(option, message))
    most = 1.0 if kind == "rate ratio" else guardrail.cap
    if not found and "base" in numbers and most is not None:
        level = numbers["base"] * (1.0 + numbers.get("expect", 0.0))
        if level > most:
            message = f"leads to {level:g} for {received(guardrail.metric)}, allowed: at most {most:g}"
            found.append(Problem("expect", message))
    return found


def _allowed(guardrail: Guardrail, kind: LimitOf, option: Option) -> tuple[float, float, str] | str:
    """Return the least and the largest number of an option, and both in words; or why there is none."""
    if option == "expect":
        return _LEVELS[kind]
    if option == "base":
        most = LARGEST_VALUE if guardrail.cap is None else guardrail.cap
        of_mean = (1e-15, most, f"control's mean, from 1e-15 to {most:g}")
        rate = "rate" if guardrail.at is None else f"share of calls above {guardrail.at:g}"
        of_rate = (1e-12, 1.0 - 1e-12, f"control's {rate}, above 0 and below 1")
        unfit = "it belongs to a limit relative to control"
        return of_mean if kind == "mean ratio" else of_rate if kind == "rate ratio" else unfit
    if kind in {"mean", "mean ratio"}:
        return 1e-15, LARGEST_VALUE, "a number above 0, from 1e-15 to 1e15"
    return "its size does not depend on a standard deviation"
