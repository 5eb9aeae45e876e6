"""What is asked of a log: by an experiment file, or by options and what the log itself shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bandit.errors import InvalidExperiment, InvalidId, Problem
from bandit.experiment import Experiment, check_key, parse
from bandit.wording import listed, received, unknown_name
from simulations.logs.faults import refuse_log
from simulations.logs.log import Log
from simulations.logs.users import variants_in_order

CONTROLS = ("control", "baseline", "a")
"""Names of variants that are taken for control, in this order, whatever the case of their letters."""

_OPTION_OF = {
    "goal.metric": "--goal",
    "goal.better": "--better",
    "goal.mde": "--mde",
    "goal.per_user": "--per-user",
    "policy.alpha": "--alpha",
    "policy.split": "--split",
    "rewards.missing": "--missing",
    "rewards.window": "--window",
    "analysis.horizon_users": "--horizon-users",
    "analysis.min_days": "--min-days",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What options ask; None: not given.

    Attributes:
        control: Key of the control.
        goal: Column of the goal.
        better: "higher" or "lower".
        mde: Smallest relative effect that matters.
        missing: What a user without a goal value counts as.
        per_user: How a user's values make one outcome.
        window: Time from a user's first row in which rows count, as in an experiment file.
        split: Share of each variant, fixed over the whole log.
        alpha: Error bound.
        horizon_users: Users at which fixed-time numbers are final.
        one_look: Whether this is the one look that was planned beforehand.
        min_days: No "deploy" before.
    """

    control: str | None = None
    goal: str | None = None
    better: str | None = None
    mde: float | None = None
    missing: str | None = None
    per_user: str | None = None
    window: str | None = None
    split: Mapping[str, float] | None = None
    alpha: float | None = None
    horizon_users: int | None = None
    one_look: bool = False
    min_days: float | None = None


def experiment_of(log: Log, question: Question, path: Path) -> tuple[Experiment, list[str]]:
    """Return the experiment that a log shows, and what was assumed, one sentence each.

    Control is the first variant; the others are in the order in which they appear.

    Args:
        log: All its columns.
        question: What options say.
        path: The log; its name is that of the experiment.

    Raises:
        InvalidInput: The log leaves open what an option has to say, or an option does not fit.
    """
    variants = list(dict.fromkeys((*variants_in_order(log), *log.each, *(question.split or ()))))
    control, said_control = _control(variants, question.control)
    variants = [control, *(key for key in variants if key != control)]
    goal, said_goal = _goal(log, question.goal)
    values = log.metrics[goal]
    values = values[~np.isnan(values)]
    is_binary = question.per_user != "sum" and bool(((values == 0.0) | (values == 1.0)).all())
    kind = "binary" if is_binary else "numeric"
    document = {
        "key": _key(path),
        "variants": [{"key": key, "control": key == control} for key in variants],
        "goal": {"metric": goal, "kind": kind},
        "policy": {"kind": "fixed"},
    }
    experiment = with_options(document, question)
    why = "all its values are 0 or 1" if is_binary else "its values are numbers"
    outcome = f"a user's outcome is the {experiment.goal.per_user} of the values{_missing(experiment, log)}"
    size = f"an effect of {100 * experiment.goal.mde:g} % matters"
    said_kind = f"{said_goal}, {kind} as {why}; {experiment.goal.better} is better, {size}, and {outcome}."
    return experiment, [said_control, said_kind]


def with_options(document: Mapping[str, Any], question: Question) -> Experiment:
    """Return the experiment of a document with what options say instead.

    Raises:
        InvalidExperiment: An option does not fit; it is named.
    """
    parts: dict[str, dict[str, object]] = {
        "goal": {"better": question.better, "mde": question.mde, "per_user": question.per_user},
        "policy": {"alpha": question.alpha},
        "rewards": {"missing": question.missing, "window": question.window},
        "analysis": {"horizon_users": question.horizon_users, "min_days": question.min_days},
    }
    changed = {
        name: {**document.get(name, {}), **{key: value for key, value in part.items() if value is not None}}
        for name, part in parts.items()
    }
    if question.horizon_users is not None:
        changed["analysis"].pop("horizon_days", None)
    if question.split is not None:
        changed["policy"] |= {"kind": "fixed", "split": dict(question.split)}
    try:
        return parse({**document, **changed})
    except InvalidExperiment as error:
        problems = [
            Problem(_OPTION_OF.get(problem.field, problem.field), problem.message) for problem in error.problems
        ]
        raise InvalidExperiment(problems) from None


def _control(variants: Sequence[str], given: str | None) -> tuple[str, str]:
    """Return control, and how it was found."""
    if given is not None:
        if given not in variants:
            raise refuse_log("--control", f"received {received(given)}; {unknown_name(given, variants)}")
        return given, f"Control is {received(given)}, as --control says."
    for name in CONTROLS:
        found = [key for key in variants if key.lower() == name]
        if len(found) == 1:
            return found[0], f"Control is {received(found[0])}, by its name; --control names another one."
    names = ", ".join(CONTROLS[:-1])
    message = f"missing; no variant is called {names} or A. Allowed: one of {listed(variants)}"
    raise refuse_log("--control", message)


def _goal(log: Log, given: str | None) -> tuple[str, str]:
    """Return the column of the goal, and how it was found."""
    columns = [*log.metrics, *log.unread]
    if given is not None:
        if given not in log.metrics:
            raise refuse_log("--goal", _no_metric(log, given))
        return given, f"The goal is {received(given)}, as --goal says"
    if len(columns) > 1:
        raise refuse_log("--goal", f"missing; several columns hold numbers. Allowed: one of {listed(columns)}")
    if not columns:
        why = [f"{received(name)} ({reason})" for name, reason in log.texts.items()]
        found = f" Others: {', '.join(why)}." if why else ""
        raise refuse_log("", f"no column holds numbers, so there is no goal to compare variants on.{found}")
    return columns[0], f"The goal is {received(columns[0])}, the only column of numbers"


def _no_metric(log: Log, name: str) -> str:
    """Say why a column cannot be the goal."""
    for role, column in log.roles.column.items():
        if column == name:
            return f"received {received(name)}, the column that says the {role}; allowed: a column of outcomes"
    if name in log.roles.others:
        return f"received {received(name)}, a column without any value"
    return f"there is no column {received(name)}; {unknown_name(name, log.metrics)}"


def _missing(experiment: Experiment, log: Log) -> str:
    if not np.isnan(log.metrics[experiment.goal.metric]).any():
        return ""
    said = {"worst": "counts as the worst value", "ignore": "is left out", "zero": "counts as 0"}
    return f"; a user without one {said[experiment.missing]} (--missing)"


def _key(path: Path) -> str:
    """Return the name of a log without its endings, as the key of an experiment."""
    name = path.name.removesuffix(".gz").rpartition(".")[0]
    try:
        return check_key(name, "")
    except InvalidId:
        return "log"
