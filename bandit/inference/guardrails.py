"""Is a limit kept: certificates, and intervals to look at, from closed epochs.

The mirror of `breaches.py`: an e-value against "the limit is not kept". Which e-process gives it follows from what the
limit is about; see `rate_limit.py`, `mean_limit.py`, `ratio_limit.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment, Guardrail
from bandit.history import History
from bandit.inference.any_time import is_readable
from bandit.inference.confidence_sequence import half_width, one_sided_log_e_value, tuning
from bandit.inference.exact import log_wealths_above_ratio, log_wealths_below_ratio
from bandit.inference.mean_limit import Mean, log_wealths_below
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit, rate_interval
from bandit.inference.scores import Scores
from bandit.inference.shares import arm_shares, planned_pair_users, planned_users
from bandit.limits import Limit, limit_of
from bandit.measures import guardrail_measure, measures_of

LARGEST_FACTOR = 1e6
"""Certification that needs more than so many times the users is out of reach."""


Ends = tuple[FloatArray, FloatArray]
"""Lower and upper ends of an interval, each of shape (n_arms,)."""


@dataclass(frozen=True, slots=True)
class GuardrailEvidence:
    """What closed epochs say of each arm in favour of it; arrays of shape (n_arms,).

    Attributes:
        users: Users with a value.
        level: Their mean outcome; nan without users.
        log_ok: ln E against "the limit, tolerance included, is not kept".
        relative: Estimate of arm / control − 1 for a relative limit; nan otherwise, or where it may not be read.
        interval: Returns the lower and upper ends of the any-time interval: of the level, or for a relative limit of
            arm / control − 1; nan where it may not be read.
        exact_breach: Whether the error of a breach is bounded exactly; False: asymptotically.
        exact_ok: The same of a certificate.
        method: The test, in words.
        log_ok_with: `log_ok` if there were so many times the users, and all else as it is.
    """

    users: FloatArray
    level: FloatArray
    log_ok: FloatArray
    relative: FloatArray
    interval: Callable[[], Ends]
    exact_breach: bool
    exact_ok: bool
    method: str
    log_ok_with: Callable[[FloatArray], FloatArray]

    def users_needed(self, log_threshold: float) -> FloatArray:
        """Return the further users of each arm until its `log_ok` is there, if what is seen holds.

        Args:
            log_threshold: ln of the e-value that certifies.

        Returns:
            Shape (n_arms,); 0 where it is there, infinite where it is out of reach.
        """
        low, high = np.ones_like(self.users), np.full_like(self.users, LARGEST_FACTOR)
        reachable = (self.log_ok_with(high) >= log_threshold) & (self.users > 0)
        for _ in range(60):
            middle = np.sqrt(low * high)
            there = self.log_ok_with(middle) >= log_threshold
            low, high = np.where(there, low, middle), np.where(there, middle, high)
        further = np.where(reachable, np.ceil((high - 1.0) * self.users), np.inf)
        return np.where(self.log_ok >= log_threshold, 0.0, further)


def guardrail_evidence(
    experiment: Experiment, history: History, guardrail: Guardrail, observed: Observed, scores: Scores | None
) -> GuardrailEvidence | None:
    """Return the certificate of a guardrail; None where nothing can be said of it: relative, and no propensities.

    Args:
        experiment: Levels, control.
        history: What happened.
        guardrail: One of the experiment's.
        observed: Its measure.
        scores: Sums of the measure's scores after the last closed epoch; None without propensities.
    """
    limit = limit_of(guardrail)
    if limit.is_relative:
        return None if scores is None else _relative(experiment, history, limit, observed, scores)
    if limit.of == "rate":
        return _rate(experiment, history, limit, observed)
    return _mean(experiment, history, guardrail, limit, observed)


def contrast(experiment: Experiment, observed: Observed, scores: Scores, ratio: float, side: float) -> FloatArray:
    """Return side × (mean of the arm − ratio × mean of control) in standard errors; nan where it may not be read.

    Args:
        experiment: Its control.
        observed: A measure with closed epochs.
        scores: Its sums after the last one.
        ratio: Above 0.
        side: 1 or −1.

    Returns:
        Shape (n_arms,).
    """
    error = scores.standard_error(ratio)
    readable = is_readable(observed, experiment.control)[-1] & (error > 0.0)
    z = np.full(len(error), np.nan)
    return np.asarray(np.divide(side * scores.difference(ratio), error, out=z, where=readable))


def from_zero(observed: Observed) -> Observed:
    """Return a measure with 0 as its lower bound: a share of the way between bounds has the ratio of the means then.

    Args:
        observed: With bounds, none below 0.
    """
    assert observed.bounds is not None  # noqa: S101 (callers look)
    return replace(observed, bounds=(0.0, observed.bounds[1]))


def _rate(experiment: Experiment, history: History, limit: Limit, observed: Observed) -> GuardrailEvidence:
    n, s = observed.n.sum(axis=-2), observed.shares.sum(axis=-2)
    within = log_e_below_limit if not limit.above else log_e_above_limit

    def ok(factor: FloatArray) -> FloatArray:
        if limit.certified >= 1.0:  # no rate is above it
            return np.full_like(n, np.inf)
        return within(n * factor, s * factor, limit.certified)

    def interval() -> Ends:
        return rate_interval(n, s, arm_shares(experiment, history))

    return _evidence(observed, ok, interval, exact=(True, True), method="mixture e-process for a rate")


def _mean(
    experiment: Experiment, history: History, guardrail: Guardrail, limit: Limit, observed: Observed
) -> GuardrailEvidence:
    index = guardrail_measure(experiment, guardrail)
    measure, sums = measures_of(experiment)[index], history.readable.ledger.sums[index]
    alone, planned = Mean.of(observed), planned_users(experiment) / experiment.n_arms
    shares, capped = arm_shares(experiment, history), measure.cap is not None

    def ok(factor: FloatArray) -> FloatArray:
        if measure.cap is None:
            return alone.log_e_below(limit.certified, shares, planned, factor)
        if measure.cap <= limit.certified:  # no mean is above it
            return np.full_like(alone.n, np.inf)
        return log_mean(_last(log_wealths_below(measure, sums, guardrail.tolerance)) * factor)

    method = "betting e-process for a mean" if capped else "betting e-process; certified by a confidence sequence"
    return _evidence(observed, ok, lambda: alone.interval(shares, planned), exact=(True, capped), method=method)


def _relative(
    experiment: Experiment, history: History, limit: Limit, observed: Observed, scores: Scores
) -> GuardrailEvidence:
    control, planned = experiment.control, planned_pair_users(experiment)
    n_arms = observed.n.shape[-1]
    if observed.n.shape[-2] == 0:
        unread = np.full(n_arms, np.nan)
        return _evidence(observed, np.zeros_like, lambda: (unread, unread), exact=(True, True), method="no data yet")
    shares = arm_shares(experiment, history)
    readable = is_readable(observed, control)[-1] & (scores.standard_error() > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, low, high = scores.ratio(half_width(scores.t, tuning(shares, planned), shares))
    estimate = np.where(readable, ratio - 1.0, np.nan)
    ends = (np.where(readable, low - 1.0, np.nan), np.where(readable, high - 1.0, np.nan))
    if observed.bounds is not None and observed.bounds[0] >= 0.0:
        within = log_wealths_above_ratio if limit.above else log_wealths_below_ratio
        wealth = _last(within(from_zero(observed), control, limit.certified))
        return _evidence(
            observed,
            lambda factor: log_mean(wealth * factor),
            lambda: ends,
            exact=(observed.exact, observed.exact),
            method="e-process against control",
            relative=estimate,
        )
    z = contrast(experiment, observed, scores, limit.certified, 1.0 if limit.above else -1.0)

    def ok(factor: FloatArray) -> FloatArray:
        found = one_sided_log_e_value(np.nan_to_num(z) * np.sqrt(factor), scores.t * factor, tuning(shares, planned))
        return np.where(np.isnan(z), 0.0, found)

    return _evidence(
        observed,
        ok,
        lambda: ends,
        exact=(False, False),
        method="confidence sequence for a ratio of means",
        relative=estimate,
    )


def _evidence(
    observed: Observed,
    ok: Callable[[FloatArray], FloatArray],
    interval: Callable[[], Ends],
    *,
    exact: tuple[bool, bool],
    method: str,
    relative: FloatArray | None = None,
) -> GuardrailEvidence:
    n = observed.n.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = observed.z.sum(axis=-2) / n + observed.origin
    known = np.full_like(level, np.nan) if relative is None else relative
    return GuardrailEvidence(n, level, ok(np.ones_like(n)), known, interval, *exact, method, ok)


def _last(wealth: FloatArray) -> FloatArray:
    """Return the log-wealths of each bet after the last epoch, shape (n_bets, n_arms); 0 before the first."""
    return wealth[..., -1, :] if wealth.shape[-2] else np.zeros((*wealth.shape[:-2], wealth.shape[-1]))
