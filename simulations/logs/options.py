"""Options of `bandit-sim analyze` that cannot stand beside one another."""

from __future__ import annotations

import typer

from bandit.experiment import Experiment
from bandit.wording import received
from simulations.logs.question import Question

_OF_THE_FILE = ("control", "goal", "better", "mde", "missing", "per_user")


def refuse_contradictions(question: Question, experiment: Experiment | None) -> None:
    """Refuse options that contradict one another or the experiment file.

    Raises:
        typer.BadParameter: Some do.
    """
    if question.one_look and question.horizon_users is not None:
        message = "received beside --horizon-users, allowed: one of the two; it makes the log's users the horizon"
        raise typer.BadParameter(message, param_hint="--one-look")
    if experiment is None:
        return
    for name in _OF_THE_FILE:
        if getattr(question, name) is not None:
            message = (
                "received beside --experiment, allowed: without it; the file says this, and it may not be asked twice"
            )
            raise typer.BadParameter(message, param_hint=f"--{name.replace('_', '-')}")
    declared = dict(zip(experiment.arms, experiment.split, strict=True))
    if question.split is not None and experiment.policy.kind == "fixed" and dict(question.split) != declared:
        shares = ",".join(f"{key}={share:g}" for key, share in declared.items())
        message = f"received {received(dict(question.split))}, allowed beside --experiment: {shares}, as the file says"
        raise typer.BadParameter(message, param_hint="--split")
