"""What reading answers, as the document describes it; `reading.py` makes these answers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from bandit import Report

State = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["draft", "running", "paused", "stopped"]})]
Time = Annotated[str | None, msgspec.Meta(description="RFC 3339 in UTC; null: has not happened")]
Definition = Annotated[dict[str, Any], msgspec.Meta(description="the declaration, defaults written out")]


class CurrentAllocation(msgspec.Struct, kw_only=True):
    """What new users are drawn from."""

    epoch: int
    probabilities: Annotated[dict[str, float], msgspec.Meta(description="by variant")]


class ExperimentAnswer(msgspec.Struct, kw_only=True):
    """An experiment with its live state."""

    key: str
    salt: str | None
    definition: Definition
    notes: Annotated[list[str], msgspec.Meta(description="what is legal but may not do what its author thinks")]
    state: State
    serve: Annotated[str | None, msgspec.Meta(description="what everybody gets after a stop; null before")]
    allocation: Annotated[CurrentAllocation | None, msgspec.Meta(description="null unless it is running")]
    users: int
    epochs: int
    closed_epochs: int
    created_at: Time
    started_at: Time
    stopped_at: Time


class DryRunAnswer(msgspec.Struct, kw_only=True):
    """An experiment that would be taken, and was not stored."""

    key: str
    salt: str | None
    definition: Definition
    notes: list[str]
    state: None
    dry_run: bool


class ListedExperiment(msgspec.Struct, kw_only=True):
    """One line of the list."""

    key: str
    state: State
    goal: Annotated[str | None, msgspec.Meta(description="metric; null if the stored definition cannot be read")]
    users: int
    created_at: Time


class ExperimentsAnswer(msgspec.Struct, kw_only=True):
    """All experiments, the oldest first."""

    experiments: list[ListedExperiment]


class UserAssignment(msgspec.Struct, kw_only=True):
    """Which variant a user has, and how it was drawn."""

    variant: str
    epoch: int
    propensity: float
    probabilities: Annotated[dict[str, float], msgspec.Meta(description="by variant, in that epoch")]
    at: Time


class UserOutcome(msgspec.Struct, kw_only=True):
    """One user's outcome on a measure."""

    metric: str
    per_user: str
    above: Annotated[float | None, msgspec.Meta(description="if calls above this value are counted")]
    calls: int
    value: float


class UserReward(msgspec.Struct, kw_only=True):
    """One stored value."""

    request_id: str
    metric: str
    revision: Annotated[int, msgspec.Meta(description="how often it was corrected before")]
    value: float
    at: Time
    epoch: int | None
    variant: Annotated[str | None, msgspec.Meta(description="whom it was credited to; null: nobody")]
    reason: Annotated[str | None, msgspec.Meta(description="why it was credited to nobody; null: it was credited")]


class UserAnswer(msgspec.Struct, kw_only=True):
    """Why a user has a variant, and what is stored of them."""

    experiment: str
    user_id: str
    state: State
    point: Annotated[float, msgspec.Meta(description="in [0, 1), compared with the variants' intervals")]
    enrolled: Annotated[bool, msgspec.Meta(description="whether the user belongs to the exposure")]
    assignment: UserAssignment | None
    why: str
    outcomes: list[UserOutcome]
    rewards: list[UserReward]


class ReadyAnswer(msgspec.Struct, kw_only=True):
    """The server can serve."""

    status: str
    unreadable: Annotated[
        list[str], msgspec.Meta(description="experiments whose rows cannot be loaded; absent if there are none")
    ] = []


ALL: tuple[type, ...] = (
    ExperimentAnswer,
    DryRunAnswer,
    ExperimentsAnswer,
    UserAnswer,
    Report,
    ReadyAnswer,
)
