"""Is a limit broken: what all epochs so far say of each arm against each limit.

Harm does not wait for a window to end. An absolute `max` therefore reads open epochs as well: for an outcome that is
"any" all users assigned are at risk, so that a clean answer that comes late, or never, does not look like harm; else
the users with a value are. A `min` and a limit relative to control read closed epochs alone: the first would take an
unfinished user for a bad one, the second would compare users of an arm that answers fast with others of one that is
slow. Absolute `max` limits also look at users who come back (`windows.py`). Every test is a restarted mixture, except
that of an uncapped mean against control, which is asymptotic and plain.

One more limit is put on every arm: its users may not have an outcome half as often as control's. An arm that crashes
sends nothing, and would look clean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import Experiment, Guardrail
from bandit.history import History
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.exact import log_wealths_above_ratio, log_wealths_below_ratio
from bandit.inference.guardrails import contrast, from_zero
from bandit.inference.mean_limit import UPWARD
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed, observe, observe_response
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit
from bandit.inference.restarts import LogE, log_e_restarted, starts
from bandit.inference.scores import total_scores
from bandit.inference.shares import breach_levels, planned_pair_users
from bandit.inference.windows import log_price
from bandit.limits import Limit, limit_of
from bandit.measures import N, Z, guardrail_measure

LEAST_RESPONSE = 0.5
"""An arm whose users have an outcome less than this often, as a part of control's, is taken away."""

_MOST_REPORT = 0.5
"""Part of an arm's users who have to report on an "any" in their first window for those who come back to be read."""


@dataclass(frozen=True, slots=True)
class Breaches:
    """Evidence against each limit; rows are the guardrails in file order, then the response.

    Attributes:
        log_e: ln E against "the limit is kept", of the window that says most, made comparable with the first: less
            ln d(d+1)/2. Shape (n_guardrails + 1, n_arms).
        window: That window, same shape.
        feasible: Chance that an arm keeps all its limits, relative to what the priors say, shape (n_arms,): in [0, 1],
            1 without data and for control.
        users: Users read in that window, shape of `log_e`.
        level: Their mean outcome, unit of the metric, or the share at or beyond the limit of a quantile; nan without
            users.
    """

    log_e: FloatArray
    window: IntArray
    feasible: FloatArray
    users: FloatArray
    level: FloatArray


def breaches(experiment: Experiment, history: History) -> Breaches:
    """Return the evidence against each limit.

    Args:
        experiment: Whose limits.
        history: All epochs, open ones too. Without probabilities nothing is said of limits relative to control.
    """
    reading = _Reading.of(experiment, history)
    found = [reading.guardrail(rail) for rail in experiment.guardrails]
    found.append(reading.response())
    feasible = np.prod([each.feasible for each in found], axis=0)
    feasible[experiment.control] = 1.0
    log_e, window, users, total = (
        np.array([getattr(each, name) for each in found]) for name in ("log_e", "window", "users", "total")
    )
    level = np.divide(total, users, out=np.full(users.shape, np.nan), where=users > 0)
    return Breaches(log_e, window, np.minimum(feasible, 1.0), users, level)


def feasible_rate(n: FloatArray, s: FloatArray, limit: float) -> FloatArray:
    """Return min(1, P(rate <= limit | data) / P(rate <= limit)) under the prior Beta(1, 1/limit).

    Relative to the prior, so that an arm without data keeps its share: a flat prior takes a limit of 0.01 for broken
    before the first user.

    Args:
        n: Users, any shape.
        s: Sum of their outcomes in [0, 1], same shape.
        limit: In (0, 1).
    """
    prior = float(sc.betainc(1.0, 1.0 / limit, limit))
    return np.asarray(np.minimum(sc.betainc(1.0 + s, 1.0 / limit + n - s, limit) / prior, 1.0))


def feasible_by_e(log_e: FloatArray) -> FloatArray:
    """Return min(1, 2/(1 + E)): the same with an e-value as the Bayes factor, and odds that are even to begin with."""
    return np.asarray(np.minimum(2.0 * sc.expit(-log_e), 1.0))


def log_e_of_bets(wealth: FloatArray) -> FloatArray:
    """Return ln of the mean wealth of the bets on the last axis."""
    return log_mean(np.moveaxis(wealth, -1, 0))


def log_e_of_limit(limit: Limit) -> LogE:
    """Return the e-process of an absolute `max`: from users at risk and their sum, or from log-wealths of bets."""
    if limit.of == "mean":
        return log_e_of_bets

    def log_e(sums: FloatArray) -> FloatArray:
        return log_e_above_limit(sums[..., 0], sums[..., 1], limit.declared)

    return log_e


def columns_of_limit(rail: Guardrail, sums: FloatArray, at_risk: FloatArray) -> FloatArray:
    """Return what the e-process of an absolute `max` reads of ledger rows.

    Args:
        rail: The guardrail.
        sums: Rows of its measure, shape (..., width).
        at_risk: Users at risk where an outcome is "any", shape (...), at least those with a value; 0: not read.

    Returns:
        Shape (..., n_columns).
    """
    if limit_of(rail).of == "mean":
        return sums[..., UPWARD]
    n = at_risk if rail.per_user == "any" else sums[..., N]
    return np.stack([n, np.clip(sums[..., Z], 0.0, n)], axis=-1)  # the origin of a rate is 0


def at_risk_again(n: FloatArray, assigned: FloatArray, returned: FloatArray) -> FloatArray:
    """Return how many users are at risk of an "any" in a later window, of whom some have a value.

    Harm may be reported more often than its absence. In the first window all users assigned are at risk; how many of
    them have a value, three standard errors less, tells how many stand behind each value of a later one. Where that is
    not most of them it tells too little, and the later windows are not read: 0.

    Args:
        n: Users with a value in the first window, shape (...).
        assigned: Users assigned, same shape.
        returned: Users with a value in the later one, shape (n_epochs, ...).

    Returns:
        Shape of `returned`, at least as many as have a value, or 0.
    """
    users = np.maximum(assigned, 1.0)
    share = n / users
    share = share - 3.0 * np.sqrt(np.maximum(share * (1.0 - share), 0.0) / users)
    return np.asarray(np.divide(returned, share, out=np.zeros_like(returned), where=share >= _MOST_REPORT))


@dataclass(frozen=True, slots=True)
class _Found:
    """One row of `Breaches`."""

    log_e: FloatArray
    window: IntArray
    feasible: FloatArray
    users: FloatArray
    total: FloatArray


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is read, once for all limits.

    Attributes:
        assigned: Users of the arms' generations per epoch, open ones too, shape (n_epochs, n_arms).
        present: Whether a cell belongs to its arm's generation, same shape.
        starts: For each arm the epochs at which it starts again.
    """

    experiment: Experiment
    history: History
    assigned: FloatArray
    present: FloatArray
    starts: tuple[IntArray, ...]

    @classmethod
    def of(cls, experiment: Experiment, history: History) -> _Reading:
        generations = history.generations_of(experiment.n_arms)
        numbers = np.arange(1, history.ledger.n_epochs + 1)[:, np.newaxis]
        present = (np.array([generation.first_epoch for generation in generations]) <= numbers).astype(np.float64)
        assigned = history.ledger.assigned * present
        found = tuple(starts(assigned[:, g.arm], g.first_epoch - 1) for g in generations)
        return cls(experiment, history, assigned, present, found)

    def guardrail(self, rail: Guardrail) -> _Found:
        limit = limit_of(rail)
        index = guardrail_measure(self.experiment, rail)
        if limit.is_relative:
            return self._relative(limit, observe(self.experiment, self.history, index))
        if limit.above:
            return self._least_rate(limit, observe(self.experiment, self.history, index))
        return self._most(rail, limit, index)

    def response(self) -> _Found:
        observed = observe_response(self.history)
        if (observed.z == observed.n).all():  # everybody answered: nothing speaks against any arm
            return self._nothing(observed)
        return self._ratio(Limit("rate ratio", True, LEAST_RESPONSE, LEAST_RESPONSE), observed)

    def _most(self, rail: Guardrail, limit: Limit, index: int) -> _Found:
        log_e, first = log_e_of_limit(limit), self._sums(index)
        later = {
            window: sums * self.present[..., np.newaxis]
            for (of, window), sums in self.history.ledger.returning.items()
            if of == index
        }
        windows = [1, *sorted(later)]
        rows = [columns_of_limit(rail, first, self.assigned)]
        n, assigned = first[..., N].sum(axis=0), self.assigned.sum(axis=0)
        rows += [
            columns_of_limit(rail, sums, at_risk_again(n, assigned, sums[..., N]))
            for sums in (later[window] for window in windows[1:])
        ]
        total = rows[0].sum(axis=0)
        if limit.of == "mean":
            feasible = feasible_by_e(log_e(total))
        else:
            feasible = feasible_rate(total[..., 0], total[..., 1], limit.declared)
        less = log_price(np.array(windows)) - math.log(2.0)
        every = np.array([self._restarted(log_e, each) for each in rows]) - less[:, np.newaxis]
        best, arms = np.argmax(every, axis=0), np.arange(self.experiment.n_arms)
        read = np.array([sums.sum(axis=0) for sums in (first, *(later[window] for window in windows[1:]))])[best, arms]
        users = read[:, N] if rail.per_user != "any" else np.where(best == 0, self.assigned.sum(axis=0), read[:, N])
        origin = self.history.ledger.origins[index] or 0.0
        return _Found(
            every.max(axis=0),
            np.array(windows, dtype=np.int64)[best],
            feasible,
            users,
            read[:, Z] + origin * read[:, N],
        )

    def _least_rate(self, limit: Limit, observed: Observed) -> _Found:
        rows = np.stack([observed.n, observed.shares], axis=-1)
        total = rows.sum(axis=0)

        def log_e(sums: FloatArray) -> FloatArray:
            return log_e_below_limit(sums[..., 0], sums[..., 1], limit.declared)

        feasible = feasible_rate(total[..., 0], total[..., 0] - total[..., 1], 1.0 - limit.declared)
        return self._of_closed(observed, self._restarted(log_e, rows), feasible)

    def _relative(self, limit: Limit, observed: Observed) -> _Found:
        if observed.bounds is not None and observed.bounds[0] >= 0.0:
            return self._ratio(limit, from_zero(observed))
        if self.history.probabilities is None or not len(observed.n):
            return self._nothing(observed)
        scores = total_scores(observed, self.experiment.control)
        z = contrast(self.experiment, observed, scores, limit.declared, -1.0 if limit.above else 1.0)
        levels = breach_levels(self.experiment, self.history)
        rho2 = tuning(2.0 * levels, planned_pair_users(self.experiment))
        log_e = np.where(np.isnan(z), 0.0, one_sided_log_e_value(np.nan_to_num(z), scores.t, rho2))
        return self._of_closed(observed, log_e, feasible_by_e(log_e))

    def _ratio(self, limit: Limit, observed: Observed) -> _Found:
        if self.history.probabilities is None or not len(observed.n):
            return self._nothing(observed)
        beyond = log_wealths_below_ratio if limit.above else log_wealths_above_ratio
        running = np.moveaxis(beyond(observed, self.experiment.control, limit.declared), 0, -1)
        log_e = self._restarted(log_e_of_bets, np.diff(running, axis=0, prepend=0.0))
        return self._of_closed(observed, log_e, feasible_by_e(log_e_of_bets(running[-1])))

    def _nothing(self, observed: Observed) -> _Found:
        nothing = np.zeros(self.experiment.n_arms)
        return self._of_closed(observed, nothing, nothing + 1.0)

    def _of_closed(self, observed: Observed, log_e: FloatArray, feasible: FloatArray) -> _Found:
        n = observed.n.sum(axis=0)
        total = observed.z.sum(axis=0) + observed.origin * n
        return _Found(log_e, np.ones(len(log_e), dtype=np.int64), feasible, n, total)

    def _sums(self, index: int) -> FloatArray:
        return np.asarray(self.history.ledger.sums[index] * self.present[..., np.newaxis])

    def _restarted(self, log_e: LogE, rows: FloatArray) -> FloatArray:
        """Return ln E of each arm from additive sums per epoch, shape (n_epochs, n_arms, width)."""
        since = np.cumsum(rows[::-1], axis=0)[::-1]
        # Closed epochs alone may end before an arm's last start.
        own = [at[at < len(rows)] for at in self.starts]
        n_starts = np.array([len(at) for at in own])
        padded = np.zeros((n_starts.max(initial=0), *rows.shape[1:]))
        for arm, at in enumerate(own):
            padded[: len(at), arm] = since[at, arm]
        return log_e_restarted(log_e, padded, n_starts)


def breached(experiment: Experiment, history: History, found: Breaches) -> Sequence[tuple[int, int]]:
    """Return (row, arm) of every limit that is broken, control's too."""
    threshold = -np.log(breach_levels(experiment, history))
    return [(int(row), int(arm)) for row, arm in np.argwhere(found.log_e >= threshold)]
