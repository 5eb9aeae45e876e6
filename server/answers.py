"""What reading answers, as the document describes it; `reading.py` makes these answers."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import msgspec

from bandit import Report
from bandit.events import EventKind

State = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["draft", "running", "paused", "stopped"]})]
Time = Annotated[str | None, msgspec.Meta(description="RFC 3339 in UTC; null: has not happened")]
Definition = Annotated[dict[str, Any], msgspec.Meta(description="the declaration as it is now, defaults written out")]


class CurrentAllocation(msgspec.Struct, kw_only=True):
    """What new users are drawn from."""

    epoch: int
    probabilities: Annotated[dict[str, float], msgspec.Meta(description="by variant")]


class Suspended(msgspec.Struct, kw_only=True):
    """A variant is kept away from users."""

    reason: str
    since_epoch: Annotated[int, msgspec.Meta(description="the first epoch without it")]


class GuardrailOfVariant(msgspec.Struct, kw_only=True):
    """What a guardrail says of a variant."""

    metric: str
    limit: str
    state: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["ok", "unknown", "breached"]})]
    since: Time


class VariantState(msgspec.Struct, kw_only=True):
    """Whether a variant may get users."""

    variant: str
    suspended: Annotated[Suspended | None, msgspec.Meta(description="null: it gets users")]
    generation: Annotated[
        int, msgspec.Meta(description="0: present at the start; j: the j-th later beginning of any variant")
    ]
    version: Annotated[int, msgspec.Meta(description="number of its present config, from 1")]
    config_hash: Annotated[str, msgspec.Meta(description="of the config: another one whenever it is another")]
    guardrails: list[GuardrailOfVariant]


class VariantAnswer(VariantState, kw_only=True):
    """A variant of an experiment after it was suspended or resumed."""

    experiment: str


class VersionAnswer(VariantAnswer, kw_only=True):
    """A variant with its present version."""

    config: Annotated[dict[str, Any], msgspec.Meta(description="what the application gets")]


class RampState(msgspec.Struct, kw_only=True):
    """Where an experiment is on its ramp."""

    steps: Annotated[list[float], msgspec.Meta(description="shares of users, as declared")]
    step: Annotated[int, msgspec.Meta(description="index of the present step, from 0")]
    since: Time
    by_hand: Annotated[float | None, msgspec.Meta(description="share that was set by hand instead; null: none")]
    held: Annotated[str | None, msgspec.Meta(description="why the next step is not taken; null: there is none")]


class ExperimentAnswer(msgspec.Struct, kw_only=True):
    """An experiment with its live state."""

    key: str
    salt: str | None
    definition: Definition
    notes: Annotated[list[str], msgspec.Meta(description="what is legal but may not do what its author thinks")]
    state: State
    serve: Annotated[str | None, msgspec.Meta(description="what everybody gets after a stop; null before")]
    allocation: Annotated[CurrentAllocation | None, msgspec.Meta(description="null unless it is running")]
    exposure: Annotated[float, msgspec.Meta(description="share of users that is let in now")]
    ramp: Annotated[RampState | None, msgspec.Meta(description="null without a ramp")]
    variants: list[VariantState]
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
    moved_at: Annotated[
        Time,
        msgspec.Meta(description="when the user first got control or another config instead"),
    ]


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
    reason: Annotated[
        str | None,
        msgspec.Meta(description="why it was credited to nobody; null: it was credited; returned: to guardrails alone"),
    ]


class UserAnswer(msgspec.Struct, kw_only=True):
    """Why a user has a variant, and what is stored of them."""

    experiment: str
    user_id: str
    state: State
    point: Annotated[float, msgspec.Meta(description="in [0, 1), compared with the variants' intervals")]
    enrolled: Annotated[bool, msgspec.Meta(description="whether the user belongs to the exposure")]
    forced: Annotated[str | None, msgspec.Meta(description="variant that was given by hand; null: none")]
    assignment: UserAssignment | None
    why: str
    outcomes: list[UserOutcome]
    rewards: list[UserReward]


class Judgement(msgspec.Struct, kw_only=True):
    """What a judge said of an interaction."""

    judge: str
    version: Annotated[str, msgspec.Meta(description="another one whenever model, rubric or scale are others")]
    at: Time
    scores: Annotated[dict[str, int] | None, msgspec.Meta(description="by name; null: there are none, see reason")]
    reasoning: str | None
    reason: Annotated[str | None, msgspec.Meta(description="why there are no scores")]
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None


class LoggedInteraction(msgspec.Struct, kw_only=True):
    """A stored interaction."""

    number: Annotated[int, msgspec.Meta(description="from 1 in the order of coming; it never changes")]
    experiment: str
    request_id: str
    user_id: str
    created_at: Time
    variant: Annotated[str | None, msgspec.Meta(description="whom it counts for; null: no variant")]
    epoch: Annotated[int | None, msgspec.Meta(description="the user's; null if it counts for no variant")]
    propensity: Annotated[float | None, msgspec.Meta(description="the user's; null if it counts for no variant")]
    version: Annotated[int | None, msgspec.Meta(description="of the variant's config; null if it counts for none")]
    reason: Annotated[str | None, msgspec.Meta(description="why it counts for none")]
    variant_id: Annotated[str | None, msgspec.Meta(description="what was really served, as it was told")]
    model_name: str | None
    system_prompt_version: str | None
    latency_ms: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    safety_flag: bool | None
    user_feedback_score: float | None
    cost_usd: Annotated[float | None, msgspec.Meta(description="by the server's price table")]
    failed: bool | None
    user_input: str | None
    model_output: str | None
    erased_at: Annotated[Time, msgspec.Meta(description="when its texts were erased")]
    judgements: list[Judgement]


class InteractionsAnswer(msgspec.Struct, kw_only=True):
    """Interactions, in the order of coming."""

    experiment: str
    interactions: list[LoggedInteraction]
    next: Annotated[int, msgspec.Meta(description="`after` of the next call: nothing is left out and nothing repeated")]


class HappenedEvent(msgspec.Struct, kw_only=True):
    """One change."""

    number: Annotated[int, msgspec.Meta(description="from 1 in the order of events, without gaps; it never changes")]
    at: Time
    kind: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["allocation", *get_args(EventKind)]})]
    actor: Annotated[str, msgspec.Meta(description="api: over HTTP; server: at its start; system: the engine")]
    variant: Annotated[str | None, msgspec.Meta(description="which it is about; null: the experiment")]
    epoch: Annotated[int, msgspec.Meta(description="the one that was current, for an allocation the one that began")]
    reason: str
    evidence: Annotated[dict[str, Any], msgspec.Meta(description="what it rests on, by name")]


class EventsAnswer(msgspec.Struct, kw_only=True):
    """What changed, in order."""

    experiment: str
    events: list[HappenedEvent]
    next: Annotated[int, msgspec.Meta(description="`after` of the next call: nothing is left out and nothing repeated")]


class ReadyAnswer(msgspec.Struct, kw_only=True):
    """The server can serve."""

    status: str
    unreadable: Annotated[
        list[str], msgspec.Meta(description="experiments whose rows cannot be loaded; absent if there are none")
    ] = []


ALL: tuple[type, ...] = (
    ExperimentAnswer,
    VariantAnswer,
    VersionAnswer,
    EventsAnswer,
    InteractionsAnswer,
    DryRunAnswer,
    ExperimentsAnswer,
    UserAnswer,
    Report,
    ReadyAnswer,
)
