"""Evidence on guardrails: is an arm's limit broken, is it kept, by closed epochs.

Two e-values per arm: against "the limit is kept", and, the mirror, against "the limit is not kept". Which e-process
gives them follows from what the limit is about; see `rate_limit.py`, `mean_limit.py`, `ratio_limit.py`.
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
from bandit.inference.mean_limit import Mean, log_wealths_above, log_wealths_below
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit, rate_interval
from bandit.inference.scores import Scores
from bandit.inference.shares import arm_share, breach_level, decision_level, planned_pair_users, planned_users
from bandit.limits import Limit, limit_of
from bandit.measures import guardrail_measure, measures_of

LARGEST_FACTOR = 1e6
"""Certification that needs more than so many times the users is out of reach."""


@dataclass(frozen=True, slots=True)
class GuardrailEvidence:
    """What closed epochs say of each arm; arrays of shape (n_arms,).

    Attributes:
        users: Users with a value.
        level: Their mean outcome; nan without users.
        log_breach: ln E against "the limit is kept".
        log_ok: ln E against "the limit, tolerance included, is not kept".
        relative: Estimate of arm / control − 1 for a relative limit; nan otherwise, or where it may not be read.
        low: Lower end of the any-time interval: of the level, or for a relative limit of arm / control − 1. nan where
            it may not be read.
        high: Upper end.
        exact_breach: Whether the error of a breach is bounded exactly; False: asymptotically.
        exact_ok: The same of a certificate.
        method: The test, in words.
        log_ok_with: `log_ok` if there were so many times the users, and all else as it is.
    """

    users: FloatArray
    level: FloatArray
    log_breach: FloatArray
    log_ok: FloatArray
    relative: FloatArray
    low: FloatArray
    high: FloatArray
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
    """Return the evidence on a guardrail; None where nothing can be said of it: relative, and no propensities.

    Args:
        experiment: Levels, control.
        history: What happened.
        guardrail: One of the experiment's.
        observed: Its measure.
        scores: Sums of the measure's scores after the last closed epoch; None without propensities.
    """
    limit = limit_of(guardrail)
    if limit.is_relative:
        return None if scores is None else _relative(experiment, limit, observed, scores)
    if limit.of == "rate":
        return _rate(experiment, history, guardrail, limit, observed)
    return _mean(experiment, history, guardrail, limit, observed)


def _rate(
    experiment: Experiment, history: History, guardrail: Guardrail, limit: Limit, observed: Observed
) -> GuardrailEvidence:
    n, s = observed.n.sum(axis=-2), observed.shares.sum(axis=-2)
    beyond, within = (log_e_below_limit, log_e_above_limit) if limit.above else (log_e_above_limit, log_e_below_limit)
    # A clean answer that comes later than the harm, or never, must not look like harm: all users assigned count.
    assigned = history.closed.ledger.assigned.sum(axis=0).astype(np.float64)
    at_risk = assigned if guardrail.per_user == "any" and not limit.above else n

    def ok(factor: FloatArray) -> FloatArray:
        if limit.certified >= 1.0:  # no rate is above it
            return np.full_like(n, np.inf)
        return within(n * factor, s * factor, limit.certified)

    low, high = rate_interval(n, s, arm_share(experiment))
    return _evidence(
        observed,
        beyond(at_risk, s, limit.declared),
        ok,
        (low, high),
        exact=(True, True),
        method="mixture e-process for a rate",
    )


def _mean(
    experiment: Experiment, history: History, guardrail: Guardrail, limit: Limit, observed: Observed
) -> GuardrailEvidence:
    index = guardrail_measure(experiment, guardrail)
    measure, sums = measures_of(experiment)[index], history.closed.ledger.sums[index]
    alone, planned = Mean.of(observed), planned_users(experiment) / experiment.n_arms
    level, capped = decision_level(experiment), measure.cap is not None

    def ok(factor: FloatArray) -> FloatArray:
        if measure.cap is None:
            return alone.log_e_below(limit.certified, 2.0 * level, planned, factor)
        if measure.cap <= limit.certified:  # no mean is above it
            return np.full_like(alone.n, np.inf)
        return log_mean(_last(log_wealths_below(measure, sums, guardrail.tolerance)) * factor)

    return _evidence(
        observed,
        log_mean(_last(log_wealths_above(sums))),
        ok,
        alone.interval(arm_share(experiment), planned),
        exact=(True, capped),
        method="betting e-process for a mean" if capped else "betting e-process; certified by a confidence sequence",
    )


def _relative(experiment: Experiment, limit: Limit, observed: Observed, scores: Scores) -> GuardrailEvidence:
    control, planned = experiment.control, planned_pair_users(experiment)
    n_arms = observed.n.shape[-1]
    if observed.n.shape[-2] == 0:
        nothing = np.zeros(n_arms)
        unread = np.full(n_arms, np.nan)
        return _evidence(observed, nothing, np.zeros_like, (unread, unread), exact=(True, True), method="no data yet")
    share = arm_share(experiment)
    readable = is_readable(observed, control)[-1] & (scores.standard_error() > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, low, high = scores.ratio(half_width(scores.t, tuning(share, planned), share))
    estimate = np.where(readable, ratio - 1.0, np.nan)
    interval = (np.where(readable, low - 1.0, np.nan), np.where(readable, high - 1.0, np.nan))
    if observed.bounds is not None and observed.bounds[0] >= 0.0:
        # A share of the way between the bounds has the ratio of the means only if the lower one is 0.
        scaled = replace(observed, bounds=(0.0, observed.bounds[1]))
        beyond, within = (
            (log_wealths_below_ratio, log_wealths_above_ratio)
            if limit.above
            else (log_wealths_above_ratio, log_wealths_below_ratio)
        )
        wealth = _last(within(scaled, control, limit.certified))
        return _evidence(
            observed,
            log_mean(_last(beyond(scaled, control, limit.declared))),
            lambda factor: log_mean(wealth * factor),
            interval,
            exact=(observed.exact, observed.exact),
            method="e-process against control",
            relative=estimate,
        )
    sign = 1.0 if limit.above else -1.0

    def log_e(ratio: float, side: float, level: float, factor: FloatArray) -> FloatArray:
        error = scores.standard_error(ratio)
        z = np.divide(side * scores.difference(ratio), error, out=np.zeros(n_arms), where=readable & (error > 0.0))
        found = one_sided_log_e_value(z * np.sqrt(factor), scores.t * factor, tuning(2.0 * level, planned))
        return np.where(readable, found, 0.0)

    return _evidence(
        observed,
        log_e(limit.declared, -sign, breach_level(experiment), np.ones(n_arms)),
        lambda factor: log_e(limit.certified, sign, decision_level(experiment), factor),
        interval,
        exact=(False, False),
        method="confidence sequence for a ratio of means",
        relative=estimate,
    )


def _evidence(
    observed: Observed,
    log_breach: FloatArray,
    ok: Callable[[FloatArray], FloatArray],
    interval: tuple[FloatArray, FloatArray],
    *,
    exact: tuple[bool, bool],
    method: str,
    relative: FloatArray | None = None,
) -> GuardrailEvidence:
    n = observed.n.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = observed.z.sum(axis=-2) / n + observed.origin
    known = np.full_like(level, np.nan) if relative is None else relative
    return GuardrailEvidence(n, level, log_breach, ok(np.ones_like(n)), known, *interval, *exact, method, ok)


def _last(wealth: FloatArray) -> FloatArray:
    """Return the log-wealths of each bet after the last epoch, shape (n_bets, n_arms); 0 before the first."""
    return wealth[..., -1, :] if wealth.shape[-2] else np.zeros((*wealth.shape[:-2], wealth.shape[-1]))
