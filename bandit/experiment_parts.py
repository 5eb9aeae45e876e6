"""The tables of an experiment file: variants, goal, guardrails, policy, rollout, rewards, analysis.

Frozen and valid from birth. Every rule is checked where its field is declared, with the fields
declared above it (pydantic gives a check only those that are right), so the order of the fields is
part of the rules, and a fault in one field does not hide those in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from bandit.durations import seconds
from bandit.errors import InvalidExperiment, Problem
from bandit.ids import check_id, check_key
from bandit.json_values import json_object
from bandit.wording import received

Kind = Literal["binary", "numeric"]
PerUser = Literal["mean", "first", "any", "sum"]

INTERACTION_FIELDS = (
    "latency_ms", "prompt_tokens", "completion_tokens", "cost_usd", "safety_flag", "user_feedback_score",
)  # fmt: skip
"""Fields of the interaction log that can feed a metric."""

PolicyKind = Literal["fixed", "thompson", "top_two", "epsilon_greedy", "ucb", "explore_then_commit"]

LimitKind = Literal["max_increase", "max_decrease", "min", "max"]
LIMIT_KINDS: tuple[LimitKind, ...] = ("max_increase", "max_decrease", "min", "max")
"""Keys of which a guardrail has exactly one, in the order in which they are checked."""

FAILED = "failed"
"""Built-in binary metric: the interaction failed (time-out, crash)."""

_LONGEST_LIST = 1000  # beyond it nobody wants to read what is wrong with each value
_T = TypeVar("_T")


def refuse(field: str, message: str) -> NoReturn:
    """Refuse a value; `field` is relative to the field being checked, empty for itself."""
    raise InvalidExperiment([Problem(field, message)])


_LIMITS_OF_QUANTILE = "max, or max_increase and at"

LARGEST_VALUE = 1e15
"""Values of metrics beyond ±1e15 are refused: their third powers would drown every other user's."""

SMALLEST_LIMIT = 1e-15
"""Limits on a mean are at least this: an outcome is measured against them as a ratio."""


def must(test: Callable[[Any], bool], allowed: str) -> AfterValidator:
    """A check of one value, with the words that say what is allowed."""

    def check(value: _T) -> _T:
        if not test(value):
            refuse("", f"received {received(value)}, allowed: {allowed}")
        return value

    return AfterValidator(check)


_POSITIVE_COUNT = "a whole number from 1 to 10^15"


def _is_positive_count(n: int) -> bool:
    return 1 <= n <= 10**15


def _duration(value: object) -> object:
    seconds(value)
    return value


def _duration_or(value: object, otherwise: str) -> object:
    """A duration; the refusal of anything else says what would do as well."""
    try:
        seconds(value)
    except ValueError as error:
        msg = f"{error}, or {otherwise}"
        raise ValueError(msg) from None
    return value


def _window(value: object) -> object:
    return value if value == "request" else _duration_or(value, '"request"')


def _half_life(value: object) -> object:
    is_count = isinstance(value, int) and not isinstance(value, bool) and _is_positive_count(value)
    return value if is_count else _duration_or(value, f"a number of users, {_POSITIVE_COUNT}")


def _pair(value: object) -> object:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        refuse("", f"received {received(value)}, allowed: two numbers [low, high], low below high")
    return tuple(value)


def _listed(value: object) -> object:
    if isinstance(value, (list, tuple)) and len(value) > _LONGEST_LIST:
        refuse("", f"received a list of {len(value)} values, allowed: far fewer than {_LONGEST_LIST}")
    return tuple(value) if isinstance(value, list) else value


Id = Annotated[str, AfterValidator(lambda value: check_id(value, ""))]
Key = Annotated[str, AfterValidator(lambda value: check_key(value, ""))]
Duration = Annotated[str, BeforeValidator(_duration)]
Listed = BeforeValidator(_listed)
Value = Annotated[float, must(lambda x: abs(x) <= LARGEST_VALUE, "a number from -1e15 to 1e15")]
PositiveValue = Annotated[
    float, must(lambda x: SMALLEST_LIMIT <= x <= LARGEST_VALUE, "a number above 0, from 1e-15 to 1e15")
]
Share = Annotated[float, must(lambda x: 0 <= x <= 1, "a number from 0 to 1")]
NotNegative = Annotated[float, must(lambda x: x >= 0, "a number of 0 or more")]
Positive = Annotated[float, must(lambda x: x > 0, "a number above 0")]
InsideUnit = Annotated[float, must(lambda x: 0 < x < 1, "a number above 0 and below 1")]
Count = Annotated[int, must(lambda n: 0 <= n <= 10**15, "a whole number from 0 to 10^15")]
PositiveCount = Annotated[int, must(_is_positive_count, _POSITIVE_COUNT)]


class Part(BaseModel):
    """Frozen, no unknown keys, nothing converted; defaults are checked too.

    Make a changed copy with `Experiment.with_policy` or `parse`: pydantic's `model_copy` checks nothing.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def _check_per_user(per_user: str, kind: str | None) -> None:
    """`any` of numbers and `sum` of yes and no are not outcomes of their kind."""
    if per_user == "any" and kind == "numeric":
        refuse("", "received 'any', allowed for kind 'numeric': 'mean', 'first', 'sum'")
    if per_user == "sum" and kind == "binary":
        refuse("", "received 'sum', allowed for kind 'binary': 'mean', 'first', 'any'")


def _only_numeric(value: object, info: ValidationInfo) -> None:
    """Refuse a setting of a binary metric that only numbers can have."""
    if value is not None and info.data.get("kind") == "binary":
        refuse("", f"received {received(value)}, allowed only for kind 'numeric'")


def _refuse_beside(limit: float | None, info: ValidationInfo, others: Sequence[str]) -> None:
    """Refuse a limit of a guardrail beside another one."""
    for other in others:
        if limit is not None and info.data.get(other) is not None:
            refuse("", f"received {limit:g} beside {other}, allowed: exactly one of {', '.join(LIMIT_KINDS)}")


def _instead_of_max(kind: str | None, of_quantile: bool) -> str:
    """Say what a guardrail may have instead of max."""
    if of_quantile:
        return "a quantile needs it, or max_increase and at, relative to control"
    rate = "" if kind == "numeric" else "min, or "
    return f"or give {rate}max_increase or max_decrease, relative to control"


class Variant(Part):
    """One option: a versioned bundle of model, prompt version and parameters.

    Attributes:
        key: Its name, an id that can stand in a URL.
        control: Whether the others are compared with it; true for exactly one variant.
        config: JSON values that the application gets when a user is assigned to it.
    """

    key: Key = Field(description="the name of the variant")
    control: bool = False
    config: dict[str, Any] = {}

    @field_validator("config", mode="plain")
    @classmethod
    def _config_is_json(cls, config: object) -> dict[str, Any]:
        return json_object(config)


class Goal(Part):
    """The metric that the policy learns from and the decision rests on.

    Attributes:
        metric: Its name in rewards.
        kind: `binary` (0, 1, true, false) or `numeric`.
        better: Whether higher or lower outcomes are better.
        per_user: How the values of one user become one outcome; any: binary, sum: numeric only.
        mde: Smallest relative effect that matters, above 0.
        range: Numeric: values outside [low, high] are refused.
        cap: Numeric: outcomes above are cut to it; without a range it is above 0, and no value is negative.
        baseline: Expected level of control, in the unit of the metric.
    """

    metric: Id = Field(description="the name of the metric that is to improve")
    kind: Kind = Field(description="'binary' (0, 1, true, false) or 'numeric'")
    better: Literal["higher", "lower"] = "higher"
    per_user: PerUser = "mean"
    mde: Positive = 0.05
    range: Annotated[tuple[Value, Value], BeforeValidator(_pair)] | None = None
    cap: Value | None = None
    baseline: Value | None = None

    @field_validator("metric")
    @classmethod
    def _metric_is_not_built_in(cls, metric: str) -> str:
        if metric == FAILED:
            refuse(
                "",
                f"received '{FAILED}', a built-in metric; allowed: any other name (a guardrail may use it)",
            )
        return metric

    @field_validator("per_user")
    @classmethod
    def _per_user_fits_kind(cls, per_user: str, info: ValidationInfo) -> str:
        _check_per_user(per_user, info.data.get("kind"))
        return per_user

    @field_validator("range")
    @classmethod
    def _range_is_an_interval(
        cls, limits: tuple[float, float] | None, info: ValidationInfo
    ) -> tuple[float, float] | None:
        _only_numeric(limits, info)
        if limits is not None and not limits[0] < limits[1]:
            refuse("", f"received {received(limits)}, allowed: [low, high], low below high")
        return limits

    @field_validator("cap")
    @classmethod
    def _cap_is_above_range(cls, cap: float | None, info: ValidationInfo) -> float | None:
        _only_numeric(cap, info)
        limits = info.data.get("range")
        if cap is not None and limits is not None and cap <= limits[0]:
            refuse("", f"received {cap:g}, allowed: more than {limits[0]:g}, the low end of goal.range")
        if cap is not None and "range" in info.data and limits is None and cap <= 0:
            refuse("", f"received {cap:g}, allowed without goal.range: more than 0 (values are then not negative)")
        return cap

    @field_validator("baseline")
    @classmethod
    def _baseline_is_possible(cls, baseline: float | None, info: ValidationInfo) -> float | None:
        if baseline is None:
            return None
        limits, cap = info.data.get("range"), info.data.get("cap")
        if info.data.get("kind") == "binary" and not 0 < baseline < 1:
            refuse("", f"received {baseline:g}, allowed for a binary goal: a number above 0 and below 1")
        if limits is not None and not limits[0] <= baseline <= limits[1]:
            refuse("", f"received {baseline:g}, allowed: inside goal.range, {limits[0]:g} to {limits[1]:g}")
        if cap is not None and baseline > cap:
            refuse("", f"received {baseline:g}, allowed: at most goal.cap, {cap:g}")
        if cap is not None and limits is None and baseline < 0:
            refuse("", f"received {baseline:g}, allowed with goal.cap and no goal.range: 0 or more")
        return baseline


class Guardrail(Part):
    """A metric with a limit that an arm must keep to get users; exactly one of the four limits.

    A quantile limits a share of calls, absolutely or relative to control. With `max`, the share above `max` may be at
    most 1 − quantile. With `max_increase`, the share above `at` may be at most (1 + max_increase) × control's: a
    quantile that control shows is itself an estimate, so a ratio of quantiles would have no exact test.

    Attributes:
        metric: Its name.
        field: Field of the interaction log that feeds it; default: the metric's name (`field_name`).
        kind: `binary` or `numeric`.
        quantile: Numeric: level in (0, 1) of the quantile that is limited; without it the mean.
        per_user: How the values of one user become one outcome.
        max_increase: At most (1 + max_increase) × control, 0 or more: 0.20 is 20 % above. A quantile also needs `at`.
        max_decrease: At least (1 − max_decrease) × control, 0 or more and below 1: 0.01 is 1 % below.
        min: Binary: the rate is at least this, in (0, 1).
        max: At most this, in the unit of the metric; a binary one's rate, in (0, 1).
        at: Quantile with max_increase, needed there: the value that calls are compared with, in the unit of the metric,
            such as what the quantile was before the experiment.
        cap: Mean of a numeric metric: outcomes are cut to it, and values are not negative; above 0 and above `max`.
        tolerance: Non-inferiority, 0 or more: what is certified is a limit moved by this part of it, max × (1 +
            tolerance) or min × (1 − tolerance); for a quantile the share of calls above may be that much larger.
    """

    metric: Id = Field(description="the name of the metric that is limited")
    field: Id | None = None
    kind: Kind = Field(description="'binary' (0, 1, true, false) or 'numeric'")
    quantile: InsideUnit | None = None
    per_user: PerUser = "mean"
    max_increase: NotNegative | None = None
    max_decrease: Annotated[float, must(lambda x: 0 <= x < 1, "a number from 0, below 1")] | None = None
    min: Value | None = None
    max: Value | None = None
    at: Value | None = None
    cap: PositiveValue | None = None
    tolerance: NotNegative = 0.0

    @property
    def limit_kind(self) -> LimitKind:
        """Which of the four limits it has."""
        return next(kind for kind in LIMIT_KINDS if getattr(self, kind) is not None)

    @property
    def is_relative(self) -> bool:
        """Whether its limit is relative to control."""
        return self.limit_kind in {"max_increase", "max_decrease"}

    @property
    def field_name(self) -> str:
        """The interaction field that feeds the metric."""
        return self.metric if self.field is None else self.field

    @field_validator("kind")
    @classmethod
    def _failed_is_binary(cls, kind: str, info: ValidationInfo) -> str:
        if info.data.get("metric") == FAILED and kind != "binary":
            refuse("", f"received {received(kind)}, allowed: 'binary' (the built-in metric '{FAILED}' is)")
        return kind

    @field_validator("quantile")
    @classmethod
    def _quantile_is_numeric(cls, quantile: float | None, info: ValidationInfo) -> float | None:
        _only_numeric(quantile, info)
        return quantile

    @field_validator("per_user")
    @classmethod
    def _per_user_fits(cls, per_user: str, info: ValidationInfo) -> str:
        _check_per_user(per_user, info.data.get("kind"))
        if per_user == "sum" and info.data.get("quantile") is not None:
            refuse("", "received 'sum', allowed with quantile: 'mean', 'first'")
        return per_user

    @field_validator("max_increase", "max_decrease")
    @classmethod
    def _quantile_has_no_decrease(cls, change: float | None, info: ValidationInfo) -> float | None:
        of_quantile = info.data.get("quantile") is not None
        if change is not None and of_quantile and info.field_name == "max_decrease":
            refuse("", f"received {change:g}, allowed with quantile: {_LIMITS_OF_QUANTILE}")
        _refuse_beside(change, info, LIMIT_KINDS[: LIMIT_KINDS.index(str(info.field_name))])
        return change

    @field_validator("min")
    @classmethod
    def _min_is_of_a_rate(cls, limit: float | None, info: ValidationInfo) -> float | None:
        if limit is None:
            return None
        if info.data.get("kind") == "numeric":
            of_quantile = info.data.get("quantile") is not None
            others = f"a quantile has {_LIMITS_OF_QUANTILE}" if of_quantile else "a mean has max or max_decrease"
            refuse("", f"received {limit:g}, allowed only for kind 'binary'; {others}")
        _refuse_beside(limit, info, ("max_increase", "max_decrease"))
        if not 0 < limit < 1:
            refuse("", f"received {limit:g}, allowed: a share above 0 and below 1")
        return limit

    @field_validator("max")
    @classmethod
    def _one_limit(cls, limit: float | None, info: ValidationInfo) -> float | None:
        kind, of_quantile = info.data.get("kind"), info.data.get("quantile") is not None
        if limit is None:
            given = any(info.data.get(other, 0.0) is not None for other in LIMIT_KINDS[:-1])
            if not given:
                refuse("", f"missing; the limit in the unit of the metric ({_instead_of_max(kind, of_quantile)})")
            return None
        _refuse_beside(limit, info, LIMIT_KINDS[:-1])
        if kind == "binary" and not 0 < limit < 1:
            refuse("", f"received {limit:g}, allowed for a binary guardrail: a share above 0 and below 1")
        if kind == "numeric" and "quantile" in info.data and not of_quantile and limit < SMALLEST_LIMIT:
            refuse("", f"received {limit:g}, allowed for a mean: a number above 0 ({SMALLEST_LIMIT:g} or more)")
        return limit

    @field_validator("at")
    @classmethod
    def _at_is_of_a_relative_quantile(cls, at: float | None, info: ValidationInfo) -> float | None:
        right = info.data  # without what was refused already
        if at is None:
            relative = right.get("quantile") is not None and right.get("max_increase") is not None
            if relative and "max" in right:
                refuse("", "missing; max_increase of a quantile compares shares of calls above a value: give it as at")
            return None
        if "quantile" in right and right["quantile"] is None:
            refuse("", f"received {at:g}, allowed only with quantile and max_increase")
        if right.get("max") is not None:
            refuse("", f"received {at:g} beside max, allowed only with max_increase; a quantile has one of the two")
        return at

    @field_validator("cap")
    @classmethod
    def _cap_is_above_limit(cls, cap: float | None, info: ValidationInfo) -> float | None:
        _only_numeric(cap, info)
        limit = info.data.get("max")
        if cap is not None and info.data.get("quantile") is not None:
            refuse("", f"received {cap:g}, allowed with quantile: none")
        if cap is not None and limit is not None and cap <= limit:
            refuse("", f"received {cap:g}, allowed: more than max, {limit:g}")
        return cap

    @field_validator("tolerance")
    @classmethod
    def _tolerance_leaves_a_limit(cls, tolerance: float, info: ValidationInfo) -> float:
        lower = next((kind for kind in ("min", "max_decrease") if info.data.get(kind) is not None), None)
        if lower is not None and tolerance >= 1:
            refuse("", f"received {tolerance:g}, allowed with {lower}: below 1, else nothing could break the limit")
        return tolerance


class PolicySettings(Part):
    """How traffic moves.

    Attributes:
        kind: The policy.
        floor: Least share of each eligible arm, in [0, 1]; default: see `Experiment.floors`.
        control_floor: Least share of control, in [0, 1].
        growth: An epoch ends when the users assigned in it reach this share of all before, in [0, 10] …
        min_batch: … and at least this many users, 1 or more …
        max_epoch: … or after this time, if anything happened in it.
        warmup: Users per arm on an equal split before the policy takes over, 0 or more.
        alpha: Error bound of decisions and suspensions, in (0, 0.5].
        split: `fixed`: share of each variant, summing to 1; default: equal.
        epsilon: `epsilon_greedy`: share that explores, in [0, 1].
        explore_users: `explore_then_commit`: users before it commits, 1 or more.
        beta: `top_two`: share of the leader, in (0, 1).
        half_life: What past epochs show weighs half after this time, or after so many further users (a whole number
            from 1); default: nothing is forgotten. `fixed` and `explore_then_commit` never forget.
    """

    kind: PolicyKind = "thompson"
    floor: Share | None = None
    control_floor: Share = 0.20
    growth: Annotated[float, must(lambda x: 0 <= x <= 10, "a number from 0 to 10")] = 0.02
    min_batch: PositiveCount = 50
    max_epoch: Duration = "1h"
    warmup: Count = 50
    alpha: Annotated[float, must(lambda x: 0 < x <= 0.5, "a number above 0, at most 0.5")] = 0.05
    split: dict[str, NotNegative] | None = None
    epsilon: Share = 0.1
    explore_users: PositiveCount = 1000
    beta: InsideUnit = 0.5
    half_life: Annotated[str | int, BeforeValidator(_half_life)] | None = None


class Rollout(Part):
    """Who is in the experiment.

    Attributes:
        exposure: Share of users that are enrolled, in [0, 1]; the rest get control and are not counted.
        ramp: Steps of a canary: increasing shares in (0, 1]; on each, min(exposure, share) of users is enrolled.
        ramp_users: With a ramp: users with a value of every guardrail that each treatment needs on a step before the
            next one, 1 or more.
        ramp_after: With a ramp: least time on a step.
    """

    exposure: Share = 1.0
    ramp: Annotated[tuple[float, ...], Listed] | None = None
    ramp_users: PositiveCount = 100
    ramp_after: Duration = "1h"

    @property
    def steps(self) -> tuple[float, ...]:
        """Share of users that is enrolled on each step of the ramp, in [0, 1]; without a ramp `exposure` alone."""
        return tuple(min(self.exposure, share) for share in self.ramp or (1.0,))

    @field_validator("ramp")
    @classmethod
    def _ramp_climbs(cls, ramp: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if ramp is not None:
            climbs = all(low < high for low, high in zip((0.0, *ramp), ramp, strict=False))
            if not ramp or not climbs or ramp[-1] > 1:
                refuse("", f"received {received(list(ramp))}, allowed: increasing shares above 0, at most 1")
        return ramp


class Rewards(Part):
    """Which rewards count.

    Attributes:
        window: Time from a user's assignment in which rewards are learned; `request`: they come with
            the request.
        missing: What a user without a goal value counts as; default: see `Experiment.missing`.
        request_timeout: With `request`: after this time a user without a goal value is missing.
    """

    window: Annotated[str, BeforeValidator(_window)] = "1h"
    missing: Literal["worst", "ignore", "zero"] | None = None
    request_timeout: Duration = "60s"


class Analysis(Part):
    """When numbers are final.

    Attributes:
        horizon_users: Users at which the fixed-time interval is final, or …
        horizon_days: … days, above 0; at most one of the two.
        min_days: No "deploy" before, 0 or more.
    """

    horizon_users: PositiveCount | None = None
    horizon_days: Positive | None = None
    min_days: NotNegative = 7.0

    @field_validator("horizon_days")
    @classmethod
    def _one_horizon(cls, days: float | None, info: ValidationInfo) -> float | None:
        if days is not None and info.data.get("horizon_users") is not None:
            refuse("", f"received {days:g} beside horizon_users, allowed: at most one of the two")
        return days
