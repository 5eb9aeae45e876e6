"""The tables of a world file that give it a clock: `[arrivals]` and `[answers]`.

[arrivals]
users_per_day = 2000
days = 28
weekdays = [1, 1, 1, 1, 1, 0.6, 0.5]     # weights of Monday to Sunday

[answers]
delay = "6h"                             # mean time from a visit to its reward
response = { A = 0.9, B = 0.8 }          # or one share for all: visits with a reward
returns = 0.5                            # further visits of a user, in the mean
gap = "1d"                               # mean time between them
alike = 0.3                              # chance that a further visit goes like the first
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from bandit.durations import seconds
from bandit.errors import Problem
from bandit.experiment import Experiment
from bandit.experiment_parts import Duration, NotNegative, Part, Positive, Share, must, refuse
from bandit.experiment_problems import problems
from bandit.wording import path, received, unknown_name
from simulations.calendar import Calendar

_T = TypeVar("_T", bound=Part)

MOST_VISITS = 50_000_000
"""Expected visits of a run, at most: each is drawn by itself."""


class ArrivalsTable(Part):
    """When users come.

    Attributes:
        users_per_day: New users on a day of weight 1.
        days: Length of a run, at most 3,660.
        weekdays: Weights of Monday to Sunday, not all 0.
    """

    users_per_day: Annotated[Positive, must(lambda x: x <= 1e9, "a number of users up to 1e9")] = Field(
        description="new users a day"
    )
    days: Annotated[Positive, must(lambda x: x <= 3660, "a number of days up to 3660")] = 28.0
    weekdays: list[Annotated[NotNegative, must(lambda x: x <= 1e6, "a weight up to 1e6")]] = [1.0] * 7

    @field_validator("weekdays")
    @classmethod
    def _seven(cls, weekdays: list[float]) -> list[float]:
        if len(weekdays) != 7 or not sum(weekdays) > 0.0:
            refuse("", f"received {received(weekdays)}, allowed: seven weights from Monday to Sunday, not all 0")
        return weekdays


class AnswersTable(Part):
    """What comes of a visit, and when.

    Attributes:
        delay: Mean time from a visit to its reward; default: rewards come at once.
        response: Share of visits with a reward, for all variants or by variant.
        returns: Mean number of further visits of a user, at most 1,000.
        gap: Mean time between visits of a user.
        alike: Chance that a further visit has the values of the first.
    """

    delay: Duration | None = None
    response: Share | dict[str, Share] = 1.0
    returns: Annotated[NotNegative, must(lambda x: x <= 1000, "a number up to 1000")] = 0.0
    gap: Duration = "1d"
    alike: Share = 0.0

    @field_validator("alike")
    @classmethod
    def _of_further_visits(cls, alike: float, info: ValidationInfo) -> float:
        if alike > 0.0 and info.data.get("returns") == 0.0:
            refuse("", f"received {alike:g} without further visits, allowed: with returns above 0")
        return alike


_ARRIVALS = {"": {name: field.description for name, field in ArrivalsTable.model_fields.items()}}
_ANSWERS = {"": {name: field.description for name, field in AnswersTable.model_fields.items()}}


def read_calendar(experiment: Experiment, arrivals: object, answers: object) -> tuple[Calendar | None, list[Problem]]:
    """Return the calendar of a world, None without `[arrivals]`, and what is wrong with its tables.

    Args:
        experiment: Its variants may have a response of their own.
        arrivals: The table, or None.
        answers: The table, or None.
    """
    if arrivals is None:
        fault = Problem("answers", "acts in a world with a clock alone; add [arrivals] with users_per_day")
        return None, [] if answers is None else [fault]
    found: list[Problem] = []
    come = _table(ArrivalsTable, arrivals, "arrivals", _ARRIVALS, found)
    said = AnswersTable() if answers is None else _table(AnswersTable, answers, "answers", _ANSWERS, found)
    if come is None or said is None:
        return None, found
    response = _response(experiment, said, found)
    calendar = Calendar(
        users_per_day=come.users_per_day, days=come.days, weekdays=tuple(come.weekdays),
        delay=0.0 if said.delay is None else seconds(said.delay), response=response, returns=said.returns,
        gap=seconds(said.gap), alike=said.alike,
    )  # fmt: skip
    visits = calendar.users * (1.0 + said.returns)
    if visits > MOST_VISITS:
        found.append(Problem("arrivals", f"received {visits:,.0f} visits of a run, allowed: at most {MOST_VISITS:,}"))
    return (None if found else calendar), found


def _table(
    kind: type[_T], given: object, name: str, keys: dict[str, dict[str, str | None]], found: list[Problem]
) -> _T | None:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults = problems(error.errors(include_url=False), keys)
        found += [Problem(path([name], problem.field), problem.message) for problem in faults]
    return None


def _response(experiment: Experiment, said: AnswersTable, found: list[Problem]) -> tuple[float, ...]:
    if not isinstance(said.response, dict):
        return (said.response,) * experiment.n_arms
    for arm in said.response:
        if arm not in experiment.arms:
            message = f"unknown variant; {unknown_name(arm, experiment.arms)}"
            found.append(Problem(path(["answers", "response", arm]), message))
    found += [
        Problem(path(["answers", "response", arm]), "missing; one for each variant, or one for all")
        for arm in experiment.arms
        if arm not in said.response
    ]
    return tuple(said.response.get(arm, 1.0) for arm in experiment.arms)
