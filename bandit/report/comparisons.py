"""Every variant against control on one metric, by all methods that the history allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.experiment import Experiment
from bandit.history import WEEK, History
from bandit.inference.any_time import FEWEST_EVENTS, AnyTime, any_time, is_readable
from bandit.inference.exact import log_e_higher, log_e_lower
from bandit.inference.fixed_time import FixedTime, fixed_time
from bandit.inference.observed import FEWEST_TO_RESPOND, Observed
from bandit.inference.scores import Scores, running_scores
from bandit.inference.shares import arm_shares, fixed_time_level, planned_pair_users
from bandit.inference.welch import Sample, Welch, sample_of, traffic_moved, welch
from bandit.measures import Measure
from bandit.report.document import Comparison, EProcess, Estimate, Lift
from bandit.report.numbers import e_value, ends, number


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and what inference reads of it.

    Attributes:
        name: Its name.
        role: "goal", "guardrail" or "response".
        statistic: What is compared, in words.
        better: "higher", "lower" or None.
        observed: Closed epochs.
    """

    name: str
    role: str
    statistic: str
    better: str | None
    observed: Observed


@dataclass(frozen=True, slots=True)
class Evidence:
    """The any-time evidence on a metric, for decisions.

    Attributes:
        scores: After each epoch; None without propensities.
        any_time: The same.
        log_higher: ln E of the exact e-process after each epoch, (n_epochs, n_arms); None without bounds or
            propensities.
        log_lower: The other side.
    """

    scores: Scores | None
    any_time: AnyTime | None
    log_higher: FloatArray | None
    log_lower: FloatArray | None


def evidence(experiment: Experiment, history: History, observed: Observed) -> Evidence:
    """Return the any-time evidence of a metric against control."""
    if history.probabilities is None or history.closed_epochs == 0:
        return Evidence(None, None, None, None)
    control = experiment.control
    scores = running_scores(observed, control)
    sequence = any_time(observed, scores, control, arm_shares(experiment, history), planned_pair_users(experiment))
    if observed.bounds is None:
        return Evidence(scores, sequence, None, None)
    return Evidence(scores, sequence, log_e_higher(observed, control), log_e_lower(observed, control))


def compare(
    experiment: Experiment,
    history: History,
    metric: Metric,
    found: Evidence,
    final_epochs: int | None,
    doubts: Sequence[str],
) -> tuple[Comparison, ...]:
    """Return one comparison per treatment.

    Args:
        experiment: Control, levels.
        history: Closed epochs and their times.
        metric: What is compared.
        found: From `evidence`.
        final_epochs: Epochs up to the declared horizon if it is reached, else None: fixed-time numbers are then read
            on all closed epochs and flagged.
        doubts: Reasons from the checks of the data why tests on this metric may not be trusted.
    """
    window = metric.observed if final_epochs is None else metric.observed.upto(final_epochs)
    fixed = _FixedTimes.of(experiment, history, metric.observed, found.scores, final_epochs)
    enough = _enough(window, experiment.control)
    lifts = _lifts(experiment, metric.observed, found)
    shares = arm_shares(experiment, history)
    return tuple(
        Comparison(
            metric=metric.name,
            role=metric.role,
            statistic=metric.statistic,
            better=metric.better,
            variant=key,
            users=int(metric.observed.n[:, arm].sum()),
            control_users=int(_beside(metric.observed, arm).n[:, experiment.control].sum()),
            mean=mean_of(metric.observed, arm),
            control_mean=mean_of(_beside(metric.observed, arm), experiment.control),
            welch=_welch(experiment, history, window, arm, _welch_reasons(window, enough[arm], doubts, final_epochs)),
            fixed_time=fixed.estimate(fixed.weighted, arm),
            final=final_epochs is not None,
            doubts=tuple(doubts),
            reasons=_fixed_reasons(window, enough[arm], doubts),
            unweighted=fixed.estimate(fixed.plain, arm),
            last_seven_days=fixed.estimate(fixed.recent, arm),
            any_time=_any_time(found, arm, 1.0 - float(shares[arm])),
            e_process=_e_process(metric.observed, found, arm),
            lift=lifts[arm],
        )
        for arm, key in enumerate(experiment.arms)
        if arm != experiment.control
    )


def statistic_of(measure: Measure) -> str:
    """Return what a measure's mean is, in words."""
    if measure.above is not None:
        return f"share of calls above {measure.above:g}"
    return "rate" if measure.kind == "binary" else "mean"


def mean_of(observed: Observed, arm: int) -> float | None:
    """Return the mean outcome of an arm, or None without users."""
    n = float(observed.n[:, arm].sum())
    return float(observed.z[:, arm].sum()) / n + observed.origin if n > 0 else None


@dataclass(frozen=True, slots=True)
class _FixedTimes:
    """The three fixed-time estimates; None where the history does not allow them."""

    alpha: float
    weighted: FixedTime | None
    plain: FixedTime | None
    recent: FixedTime | None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        history: History,
        observed: Observed,
        scores: Scores | None,
        final_epochs: int | None,
    ) -> _FixedTimes:
        alpha = fixed_time_level(experiment)
        if scores is None:
            return cls(alpha, None, None, None)
        last = -1 if final_epochs is None else final_epochs - 1
        plain = running_scores(observed, experiment.control, weighted=False)
        first = first_of_last_seven_days(history)
        recent = None if first is None else fixed_time(scores.since(first), alpha)
        return cls(alpha, fixed_time(scores.at(last), alpha), fixed_time(plain.at(last), alpha), recent)

    def estimate(self, result: FixedTime | None, arm: int) -> Estimate | None:
        if result is None or not math.isfinite(result.difference[arm]) or not result.standard_error[arm] > 0:
            return None
        interval = ends(result.low[arm], result.high[arm])
        return Estimate(number(result.difference[arm]), interval, 1.0 - self.alpha, number(result.p_value[arm]))


def first_of_last_seven_days(history: History) -> int | None:
    """Return the index of the first closed epoch of the last seven days of them; None if that is the first of all."""
    started = history.closed.started_at
    if started is None or len(started) == 0:
        return None
    first = int(np.searchsorted(started, started[-1] - WEEK, side="left"))
    return first or None


def _any_time(found: Evidence, arm: int, level: float) -> Estimate | None:
    sequence = found.any_time
    if sequence is None or not math.isfinite(sequence.difference[-1, arm]):
        return None
    interval = ends(sequence.low[-1, arm], sequence.high[-1, arm])
    return Estimate(number(sequence.difference[-1, arm]), interval, level, number(sequence.p_value[arm]))


def _e_process(observed: Observed, found: Evidence, arm: int) -> EProcess | None:
    higher, lower = found.log_higher, found.log_lower
    if higher is None or lower is None:
        return None
    both = np.logaddexp(higher[:, arm], lower[:, arm]) - math.log(2.0)  # against "no difference at any time"
    p_value = math.exp(-max(float(both.max()), 0.0))
    return EProcess(e_value(higher[-1, arm]), e_value(lower[-1, arm]), p_value, observed.exact)


def _lifts(experiment: Experiment, observed: Observed, found: Evidence) -> list[Lift | None]:
    """Return the relative difference of each arm; its interval holds the ratios that the any-time test accepts."""
    lifts = [_raw_lift(experiment, observed, arm) for arm in range(experiment.n_arms)]
    sequence, scores = found.any_time, found.scores
    if sequence is None or scores is None:
        return lifts
    last = scores.at(-1)
    half = (sequence.high[-1] - sequence.low[-1]) / 2.0
    with np.errstate(invalid="ignore"):
        ratio, low, high = last.ratio(half / last.standard_error())
    return [
        Lift(float(ratio[arm]) - 1.0, ends(low[arm] - 1.0, high[arm] - 1.0)) if readable and lifts[arm] else lifts[arm]
        for arm, readable in enumerate(sequence.readable[-1])
    ]


def _raw_lift(experiment: Experiment, observed: Observed, arm: int) -> Lift | None:
    mean, base = mean_of(observed, arm), mean_of(_beside(observed, arm), experiment.control)
    return None if mean is None or base is None or base == 0.0 else Lift(mean / base - 1.0, None)


def _beside(observed: Observed, arm: int) -> Observed:
    """Return the epochs in which an arm could be drawn: control's users of others are no comparison for it."""
    could = ~(observed.p[:, arm] == 0.0)  # unknown is not zero
    if could.all():
        return observed
    return observed.of_epochs(could)


def _enough(observed: Observed, control: int) -> BoolArray:
    if observed.n.shape[-2] == 0:
        return np.zeros(observed.n.shape[-1], dtype=bool)
    return np.asarray(is_readable(observed, control)[-1])


def _few(observed: Observed) -> str:
    if observed.bounds == (0.0, 1.0):
        return f"fewer than {FEWEST_EVENTS} events or non-events in an arm"
    return "too few users for so skewed a metric"


_MISSING = (
    f"outcomes are missing: probabilities are corrected by estimated response, known from {FEWEST_TO_RESPOND} earlier "
    "users of a variant on"
)


def _fixed_reasons(observed: Observed, enough: bool, doubts: Sequence[str]) -> tuple[str, ...]:
    few = () if enough else (_few(observed),)
    corrected = () if observed.exact else (_MISSING,)
    return (*few, *corrected, *doubts)


def _welch_reasons(
    observed: Observed, enough: bool, doubts: Sequence[str], final_epochs: int | None
) -> tuple[str, ...]:
    early = () if final_epochs is not None else ("not at a horizon declared beforehand",)
    return (*early, *(() if enough else (_few(observed),)), *doubts)


def _welch(
    experiment: Experiment, history: History, window: Observed, arm: int, reasons: Sequence[str]
) -> Welch | None:
    control = experiment.control
    if min(window.n[:, arm].sum(), window.n[:, control].sum()) < 2:
        return None
    moved: tuple[str, ...] = ()
    if history.unit != "user":
        reasons = ("rows of one user are no independent users", *reasons)
    if history.probabilities is None:
        moved = ("nobody knows whether traffic moved",)
    else:
        # An arm that joined later had no probability before: to compare it with all of control is to compare times.
        n_epochs, p = len(window.n), history.readable.probabilities
        assigned = history.readable.ledger.assigned[:n_epochs].astype(np.float64)
        if p is not None and traffic_moved(p[:n_epochs], assigned, arm, control):
            moved = ("traffic moved",)
    return welch(_sample(window, arm), _sample(window, control), fixed_time_level(experiment), (*moved, *reasons))


def _sample(observed: Observed, arm: int) -> Sample:
    sums = np.array([column[:, arm].sum() for column in (observed.n, observed.z, observed.z2)])
    return sample_of(sums, observed.origin)
