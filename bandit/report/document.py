"""The report as a document: values only, each explained where it stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from bandit.guardrails import GuardrailVerdict
from bandit.inference.welch import Welch

SCHEMA = 3

Verdict = Literal["deploy", "keep_running", "do_not_deploy", "inconclusive", "unknown"]
"""What to do with a variant; `unknown`: the log does not say enough for any decision."""

Reason = Literal[
    "guardrail",
    "suspended",
    "data",
    "worse",
    "too_small",
    "better",
    "guardrail_unknown",
    "too_young",
    "novelty",
    "not_enough_data",
    "horizon",
    "stopped",
    "no_propensities",
]
"""Which rule decided: a broken guardrail; suspended by hand; data to be fixed first; worse than control; a gain too
small to matter; better, with every guardrail kept; better, but a guardrail is not certified, or the experiment is too
young, or the last seven days say otherwise; not enough data yet; the horizon was reached without a decision; stopped
before one; a log without propensities."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do.

    Attributes:
        verdict: One of `Verdict`.
        reason: Which rule decided: one of `Reason`.
        sentence: The same for people, with what it rests on.
        expected_users: Further users of the experiment until a decision can be expected; None: decided, or not to
            be told.
        expected_days: The same in days at the present traffic; None without traffic or a clock.
        assuming: What has to hold for the two: "the present estimate holds", "the true effect is 5 %"; empty
            without them.
    """

    verdict: Verdict
    reason: Reason
    sentence: str
    expected_users: int | None = None
    expected_days: float | None = None
    assuming: str = ""


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why a variant gets no users.

    Attributes:
        reason: In words; empty if a person suspended it and said nothing.
        broken: What it broke: metrics of guardrails, and "response" for users with an outcome far less often than under
            control; empty: a person suspended it.
        last_epoch: Number of the last epoch that gave it users; 0: none did.
    """

    reason: str
    broken: tuple[str, ...]
    last_epoch: int


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One variant on the goal.

    Attributes:
        key: Name of the variant.
        control: Whether it is the control.
        share: Its probability for new users now; None unless the experiment is running.
        assigned: Users assigned.
        moved: Users moved away from it.
        pending: Users of epochs that are not closed: not in the numbers below.
        with_outcome: Users of closed epochs with a goal value.
        missing: Users of closed epochs without one.
        users: Users in the numbers below: `with_outcome`, and the missing ones where they count as a value.
        mean: Mean outcome of these, in the goal's unit; None without users.
        interval: 95 % credible interval of the arm's mean.
        p_best: Posterior probability of being the best variant.
        expected_loss: Expected loss against the best variant if this one is served, in the goal's unit.
        unreliable: Why interval, p_best and expected_loss may mislead here; empty: nothing speaks against them.
        welch: Welch test against control on the goal; None for control, or where it cannot be made.
        decision: What to do with it; None for control.
        suspended: Why it gets no users; None: it gets some. Numbers on the goal end with the epochs that were closed
            before.
        generation: 0: as it was at the start; else the number of its latest generation: numbers are about its users.
    """

    key: str
    control: bool
    share: float | None
    assigned: int
    moved: int
    pending: int
    with_outcome: int
    missing: int
    users: int
    mean: float | None
    interval: tuple[float, float] | None
    p_best: float | None
    expected_loss: float | None
    unreliable: tuple[str, ...]
    welch: Welch | None
    decision: Decision | None
    suspended: Suspension | None
    generation: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference, the variant's mean minus control's, in the metric's unit.

    Attributes:
        difference: The estimate; None where there is none yet.
        interval: Confidence interval; None where it may not be read yet.
        level: Its level, e.g. 0.95.
        p_value: Two-sided, against no difference.
    """

    difference: float | None
    interval: tuple[float, float] | None
    level: float
    p_value: float | None


@dataclass(frozen=True, slots=True)
class EProcess:
    """Exact evidence at this look: the label e-process, joined by bounded bets where outcomes are numeric.

    An e-value of 20 is as rare as p = 0.05 at any look.

    Attributes:
        higher: E-value against "the variant's mean is at no time above control's".
        lower: E-value against "the variant's mean is at no time below control's".
        p_value: Any-time, two-sided: smallest so far.
        exact: Whether it is exact; False: propensities are corrected by estimated response rates.
    """

    higher: float
    lower: float
    p_value: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Lift:
    """The difference relative to control, as a fraction.

    Attributes:
        relative: mean(variant) / mean(control) − 1.
        interval: Any-time interval of it; None where control's mean cannot be told from 0, or not yet.
    """

    relative: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One variant against control on one metric.

    Attributes:
        metric: Name of the metric.
        role: "goal", "guardrail", or "response" (has a goal value: 1 or 0 per assigned user).
        statistic: What is compared, in words: "mean", "rate", "share of calls above 1500".
        better: "higher" or "lower" for the goal, else None.
        variant: Key of the variant.
        users: Its users in the comparison.
        control_users: Control's.
        mean: Its mean outcome; None without users.
        control_mean: Control's.
        welch: Welch's test; None where it cannot be made.
        fixed_time: Shared-weight AIPW estimate.
        final: Whether `fixed_time` and `welch` are read at the declared horizon: the one look they are valid for.
        doubts: Why no test of this metric may be trusted: what the checks of the data found. Empty: nothing.
        reasons: Why `fixed_time` may not be trusted here, `final` apart; these and more. Empty: nothing speaks against
            it.
        unweighted: The same with every user weighted alike: no bias from weighting, wider.
        last_seven_days: `fixed_time` over users assigned in the last seven days of the data.
        any_time: Any-time interval and p-value; asymptotic.
        e_process: Exact any-time evidence; None where outcomes are not bounded on both sides.
        lift: Relative difference; None where control's mean is 0 or there are no users.
    """

    metric: str
    role: str
    statistic: str
    better: str | None
    variant: str
    users: int
    control_users: int
    mean: float | None
    control_mean: float | None
    welch: Welch | None
    fixed_time: Estimate | None
    final: bool
    doubts: tuple[str, ...]
    reasons: tuple[str, ...]
    unweighted: Estimate | None
    last_seven_days: Estimate | None
    any_time: Estimate | None
    e_process: EProcess | None
    lift: Lift | None


@dataclass(frozen=True, slots=True)
class GuardrailState:
    """A variant on a guardrail: certified by closed epochs, broken by all that came in.

    Attributes:
        variant: Its key.
        state: "ok" (certified), "unknown" or "breached".
        since: Since when, seconds of the experiment's clock; None: since the start, or it became so just now.
        users: Users of closed epochs with a value.
        level: Their mean outcome (for a quantile: mean share of a user's calls above the limit); None without users.
        relative: level / control's − 1 for a limit relative to control; else None.
        interval: Any-time interval of `relative` if the limit is relative, else of the level; None where it may not
            be read yet.
        e_breach: E-value against "the limit is kept", with open epochs where the limit is an absolute `max`; breached
            from `threshold_breach` on. Of the window that says most: that of window d is divided by d(d + 1)/2.
        window: That window: 1 is the one after assignment, others are those in which users came back.
        e_ok: E-value against "the limit, tolerance included, is not kept"; certified from `threshold_ok` on.
        threshold_breach: See above.
        threshold_ok: See above.
        users_needed: Further users of the variant until it is certified if what is seen holds; None: certified,
            breached, or out of reach.
        exact: Whether the error of both is bounded exactly; False: that of the certificate or both asymptotically.
        method: How it was tested, in words.
    """

    variant: str
    state: GuardrailVerdict
    since: float | None
    users: int
    level: float | None
    relative: float | None
    interval: tuple[float, float] | None
    e_breach: float
    window: int
    e_ok: float
    threshold_breach: float
    threshold_ok: float
    users_needed: int | None
    exact: bool
    method: str


@dataclass(frozen=True, slots=True)
class GuardrailReport:
    """A guardrail: what users of closed epochs show.

    Attributes:
        metric: Its metric.
        limit: The limit in words.
        statistic: What is limited: "mean", "rate", "share of calls above 1500".
        enforced: Whether a breach keeps users away from a variant.
        users: Users with a value, per variant key.
        mean: Mean outcome per variant key (for a quantile: share above the limit); None without users.
        quantile: Which quantile is limited, in (0, 1); None: none is.
        calls: That quantile over all calls so far of the variant as it is now, per variant key, within 1 %; for
            display: what is tested is `mean`, as calls of one user go together. Absent where it is not known.
        states: One entry per variant; control's, where the limit is absolute, is an alarm. Empty where nothing can be
            said: a limit relative to control in a log without propensities.
    """

    metric: str
    limit: str
    statistic: str
    enforced: bool
    users: dict[str, int]
    mean: dict[str, float | None]
    quantile: float | None
    calls: dict[str, float]
    states: tuple[GuardrailState, ...]


@dataclass(frozen=True, slots=True)
class ArmCheck:
    """A count of users of one variant against what was to be expected.

    Attributes:
        variant: Its key.
        users: Users counted.
        expected: Users expected.
        e_value: Largest e-value so far against "as expected".
        flagged: Whether it is beyond what chance does.
    """

    variant: str
    users: int
    expected: float
    e_value: float
    flagged: bool


@dataclass(frozen=True, slots=True)
class Checks:
    """Whether the data are what they should be.

    Attributes:
        assigned: Users assigned against Σ propensities; empty without propensities.
        with_outcome: Users with a goal value against the same shares of all who have one; empty likewise.
        response: Users with a goal value against control's response, per treatment; empty likewise.
        response_matters: Whether unequal response spoils the comparison on the goal; it does not where a missing
            outcome counts as the worst.
        fix_first: What has to be put right before any variant is deployed, in words.
        drift: Variants whose mean moved over time.
    """

    assigned: tuple[ArmCheck, ...]
    with_outcome: tuple[ArmCheck, ...]
    response: tuple[ArmCheck, ...]
    response_matters: bool
    fix_first: tuple[str, ...]
    drift: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgedEstimate:
    """A variant's mean by people's measure, or its difference to control, from a judge's scores and people's labels.

    Users are the units, and those of all epochs are taken together. Intervals have level 0.95, for one look.

    Attributes:
        variant: Key.
        difference: Whether it is the variant's mean minus control's.
        judge_alone: Mean of the scores: right only as far as the judge is.
        judge_alone_interval: Its interval.
        labels_alone: Mean of the labels.
        labels_alone_interval: Its interval.
        corrected: The judge's mean, corrected by the labels: right whatever the judge is worth; None where there are
            too few labels.
        corrected_interval: Its interval.
        reasons: Why there is no estimate, or why its interval may not be relied on.
    """

    variant: str
    difference: bool
    judge_alone: float | None
    judge_alone_interval: tuple[float, float] | None
    labels_alone: float | None
    labels_alone_interval: tuple[float, float] | None
    corrected: float | None
    corrected_interval: tuple[float, float] | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge says of a metric, beside people's labels of some of it.

    Attributes:
        judge: Its key.
        version: Its version; scores of two versions are never put together.
        metric: Which metric its scores feed.
        scored: Interactions with scores, of the variants' present versions.
        labelled: Of them, those that people labelled.
        accuracy: Share of the labels with the judge's value.
        bias: Mean of judge − people.
        estimates: A mean per variant, then a difference per treatment.
    """

    judge: str
    version: str
    metric: str
    scored: int
    labelled: int
    accuracy: float
    bias: float
    estimates: tuple[JudgedEstimate, ...]


@dataclass(frozen=True, slots=True)
class Horizon:
    """When fixed-time numbers are final.

    Attributes:
        users: Declared users, or None.
        days: Declared days, or None.
        reached: Whether closed epochs reach it.
    """

    users: int | None
    days: float | None
    reached: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What an experiment says now. Learning and reporting read closed epochs, in order.

    Attributes:
        schema: Version of this document.
        experiment: Key.
        hypothesis: The declared hypothesis.
        state: draft, running, paused, stopped, or log.
        goal: Declared goal: metric, kind, direction, unit of analysis, rule for missing outcomes, mde.
        unit: What is counted: "user", or "row" in a log that does not name users.
        epochs: Epochs so far.
        closed_epochs: Epochs 1 to this one are closed and read.
        assigned: Users assigned.
        pending: Users of epochs not yet closed.
        age_days: Days since the first epoch began; None without a clock.
        users_per_day: Present traffic; None without a clock.
        alpha: Error bound over all variants.
        horizon: When fixed-time numbers are final.
        decision: What to do with the experiment.
        variants: One entry per variant, in file order.
        comparisons: One entry per metric and treatment: the goal first, then guardrails, then response.
        guardrails: One entry per guardrail, in file order.
        checks: Whether the data are what they should be.
        notes: What a reader has to know before using the numbers.
        judged: One entry per metric that a judge feeds and people labelled, in file order.
    """

    schema: int
    experiment: str
    hypothesis: str
    state: str
    goal: dict[str, Any]
    unit: str
    epochs: int
    closed_epochs: int
    assigned: int
    pending: int
    age_days: float | None
    users_per_day: float | None
    alpha: float
    horizon: Horizon
    decision: Decision
    variants: tuple[VariantReport, ...]
    comparisons: tuple[Comparison, ...]
    guardrails: tuple[GuardrailReport, ...]
    checks: Checks
    notes: tuple[str, ...]
    judged: tuple[Judged, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document as JSON types."""
        return asdict(self)
