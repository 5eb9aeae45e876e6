r"""Breaches of many runs at once, epoch by epoch: the evidence of `breaches.py` without keeping the epochs.

For runs in which every epoch is closed when it ends, nobody comes back, every user has a value of the goal and of each
measure that is looked at, and no arm begins anew. The numbers are those of `breaches.py` on the whole history; as
everybody answers, nothing is said of the response. Kept are sums at each start of the restarted mixtures, so memory
grows with the logarithm of the users. What an epoch adds to a limit relative to control depends on the epochs before
through their sums alone, so it is read off a history of two epochs: all before, and this one.

Whether a limit is broken is asked more often than how large the evidence is, and answered faster: for a rate, each E of
the mixture is a mean over rates θ beyond the limit t of likelihood ratios against t, and so is at most the largest one,

    E_j <= exp(n kl⁺(s/n, t)),      kl⁺ being that of two coins, and 0 where s/n is on the right side of t.

and for bets the mean wealth is at most the largest one. Only where these bounds reach the threshold the mixture itself
is worked out: no breach is missed and none is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import scipy.special as sc

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import Experiment, Guardrail
from bandit.inference.any_time import is_readable
from bandit.inference.breaches import (
    columns_of_limit,
    feasible_by_e,
    feasible_rate,
    log_e_of_bets,
    log_e_of_limit,
)
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.exact import log_wealths_above_ratio, log_wealths_below_ratio
from bandit.inference.guardrails import from_zero
from bandit.inference.observed import Observed
from bandit.inference.rate_limit import log_e_below_limit
from bandit.inference.restarts import LogE, log_e_restarted, next_start
from bandit.inference.scores import Scores, running_scores
from bandit.inference.shares import breach_level, planned_pair_users
from bandit.limits import Limit, limit_of
from bandit.measures import Z2, Z3, N, Z, first_origin, guardrail_measure, measures_of, outcome_bounds

_ROUNDING = 1e-6
"""By which a bound has to stay below a threshold to be read instead of what it bounds."""


class RunningBreaches:
    """Evidence against each limit in many runs, fed epoch by epoch.

    Args:
        experiment: Whose limits. All its arms are there from the start.
        n_runs: How many runs.
        origins: For each measure the origin of its sums; None: that from the start, or 0.

    Attributes:
        threshold: ln of the e-value from which a limit is broken; the same for all arms.
    """

    def __init__(self, experiment: Experiment, n_runs: int, origins: Sequence[float] | None = None) -> None:
        shape = (n_runs, experiment.n_arms)
        if origins is None:
            origins = [first_origin(experiment, index) or 0.0 for index in range(len(measures_of(experiment)))]
        self.threshold = float(-np.log(breach_level(experiment)))
        self._control = experiment.control
        self._starts = _Starts.none(shape)
        self._rows = [_row_of(experiment, rail, origins, shape) for rail in experiment.guardrails]

    def add(self, p: FloatArray, assigned: FloatArray | IntArray, sums: Sequence[FloatArray | None]) -> None:
        """Take in one more epoch of every run.

        Args:
            p: Probability of each arm, shape (n_runs, n_arms).
            assigned: Users assigned, same shape.
            sums: For each measure of the experiment its ledger rows, shape (n_runs, n_arms, width), at least 4 wide;
                None: the measure is not looked at, and its limits are never broken.
        """
        users = np.asarray(assigned, dtype=np.float64)
        begun = self._starts.begin()
        for row in self._rows:
            row.add(self._starts, begun, p, users, sums)
        self._starts.users += users

    @property
    def log_e(self) -> FloatArray:
        """Evidence ln E against each limit, shape (n_runs, n_guardrails + 1, n_arms); the last, the response, is 0."""
        response = np.zeros_like(self._starts.users)
        return np.stack([*(row.log_e(self._starts) for row in self._rows), response], axis=1)

    @property
    def feasible(self) -> FloatArray:
        """Chance that an arm keeps all its limits, relative to what the priors say, shape (n_runs, n_arms)."""
        product = np.ones_like(self._starts.users)
        for row in self._rows:
            product *= row.feasible()
        product[..., self._control] = 1.0
        return np.minimum(product, 1.0)

    def broken(self, among: BoolArray) -> BoolArray:
        """Return which arms break a limit.

        Args:
            among: The arms to look at, shape (n_runs, n_arms); False is the answer for the others.
        """
        found = np.zeros_like(among)
        for row in self._rows:
            found |= row.reaches(self.threshold, self._starts, among & ~found)
        return found

    def keep(self, runs: BoolArray) -> None:
        """Go on with some of the runs alone, shape (n_runs,)."""
        self._starts.keep(runs)
        for row in self._rows:
            row.keep(runs)


@dataclass(slots=True)
class _Starts:
    """Where arms have started; arrays of shape (n_runs, n_arms).

    Attributes:
        users: Users so far.
        due: Users at which an arm starts again.
        n: Starts so far.
    """

    users: FloatArray
    due: FloatArray
    n: IntArray

    @classmethod
    def none(cls, shape: tuple[int, int]) -> _Starts:
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64))

    def begin(self) -> BoolArray:
        """Start the arms that are due, before an epoch; return which these are."""
        begun = np.asarray(self.users >= self.due)
        self.due = np.where(begun, next_start(self.users), self.due)
        self.n = self.n + begun
        return begun

    def keep(self, runs: BoolArray) -> None:
        self.users, self.due, self.n = self.users[runs], self.due[runs], self.n[runs]


class _Row(Protocol):
    """The evidence against one limit; arrays of shape (n_runs, n_arms)."""

    def add(
        self, starts: _Starts, begun: BoolArray, p: FloatArray, users: FloatArray, sums: Sequence[FloatArray | None]
    ) -> None: ...

    def log_e(self, starts: _Starts) -> FloatArray: ...

    def feasible(self) -> FloatArray: ...

    def reaches(self, threshold: float, starts: _Starts, among: BoolArray) -> BoolArray: ...

    def keep(self, runs: BoolArray) -> None: ...


class _Reading(Protocol):
    """What a restarted mixture is of: columns that add up, and the e-process of their sums.

    Attributes:
        index: The measure that it reads.
        log_e: The e-process, from sums of the columns.
        bound: What `log_e` is at most, and faster.
        width: Number of columns.
    """

    index: int
    log_e: LogE
    bound: LogE
    width: int

    def columns(self, p: FloatArray, users: FloatArray, sums: FloatArray) -> FloatArray: ...

    def feasible(self, total: FloatArray) -> FloatArray: ...

    def keep(self, runs: BoolArray) -> None: ...


class _Restarted:
    """The restarted mixture of one limit.

    Args:
        reading: What it is of.
        shape: (n_runs, n_arms).
    """

    def __init__(self, reading: _Reading, shape: tuple[int, int]) -> None:
        self._reading = reading
        self._total = np.zeros((*shape, reading.width))
        self._before = np.zeros((0, *shape, reading.width))  # the sums at each start

    def add(
        self, starts: _Starts, begun: BoolArray, p: FloatArray, users: FloatArray, sums: Sequence[FloatArray | None]
    ) -> None:
        rows = sums[self._reading.index]
        if rows is None:
            return
        if starts.n.max() > len(self._before):
            self._before = np.concatenate([self._before, self._total[np.newaxis]])
        run, arm = np.nonzero(begun)
        self._before[starts.n[begun] - 1, run, arm] = self._total[begun]
        self._total = self._total + self._reading.columns(p, users, rows)

    def log_e(self, starts: _Starts) -> FloatArray:
        if not len(self._before):
            return np.zeros(starts.n.shape)
        return log_e_restarted(self._reading.log_e, self._total - self._before, starts.n)

    def feasible(self) -> FloatArray:
        return self._reading.feasible(self._total)

    def reaches(self, threshold: float, starts: _Starts, among: BoolArray) -> BoolArray:
        found = np.zeros_like(among)
        if not len(self._before):
            return found
        since, n = self._total[among] - self._before[:, among], starts.n[among]
        looked = _mixed(self._reading.bound(since), n) >= threshold - _ROUNDING
        over = np.zeros(len(n), dtype=bool)
        over[looked] = log_e_restarted(self._reading.log_e, since[:, looked], n[looked]) >= threshold
        found[among] = over
        return found

    def keep(self, runs: BoolArray) -> None:
        self._total, self._before = self._total[runs], self._before[:, runs]
        self._reading.keep(runs)


def _mixed(log_e: FloatArray, n_starts: IntArray) -> FloatArray:
    """Return what `log_e_restarted` does, from ln E of each start, cut where E is beyond all thresholds."""
    j = np.arange(1.0, len(log_e) + 1.0)[:, np.newaxis]
    each = np.where(j <= n_starts, np.exp(np.minimum(log_e, 500.0)) / (j * (j + 1.0)), 0.0)
    return np.asarray(np.log(each.sum(axis=0) + 1.0 / (n_starts + 1.0)))


class _Absolute:
    """An absolute limit: a rate from users and their sum, or a mean from log-wealths of bets."""

    def __init__(self, rail: Guardrail, index: int) -> None:
        limit = limit_of(rail)
        self.index = index
        self.width = 2
        self.bound: LogE = _largest
        self._rail, self._limit = rail, limit
        if limit.above:
            self.log_e: LogE = lambda sums: log_e_below_limit(sums[..., 0], sums[..., 1], limit.declared)
            self.bound = lambda sums: _most_log_e(sums[..., 0] - sums[..., 1], sums[..., 1], 1.0 - limit.declared)
        else:
            self.log_e = log_e_of_limit(limit)
            if limit.of == "rate":
                self.bound = lambda sums: _most_log_e(sums[..., 1], sums[..., 0] - sums[..., 1], limit.declared)
            else:
                self.width = columns_of_limit(rail, np.zeros(_WIDEST), np.zeros(())).shape[-1]

    def columns(self, p: FloatArray, users: FloatArray, sums: FloatArray) -> FloatArray:  # noqa: ARG002 - all are asked alike
        if not self._limit.above:
            return columns_of_limit(self._rail, sums, users)
        return np.stack([sums[..., N], np.clip(sums[..., Z], 0.0, sums[..., N])], axis=-1)

    def feasible(self, total: FloatArray) -> FloatArray:
        if self._limit.of == "mean":
            return feasible_by_e(self.log_e(total))
        n, s = total[..., 0], total[..., 1]
        if self._limit.above:
            return feasible_rate(n, n - s, 1.0 - self._limit.declared)
        return feasible_rate(n, s, self._limit.declared)

    def keep(self, runs: BoolArray) -> None: ...


def _largest(wealth: FloatArray) -> FloatArray:
    """Return the largest log-wealth of the bets on the last axis."""
    return np.asarray(wealth.max(axis=-1))


_WIDEST = 64  # more columns than any measure has


def _most_log_e(s: FloatArray, f: FloatArray, t: float) -> FloatArray:
    """Return n kl⁺(s/n, t) of s events and f others: the largest log likelihood ratio of a rate above t against t."""
    n = np.maximum(s + f, 1.0)
    most = sc.xlogy(s, s / (n * t)) + sc.xlogy(f, f / (n * (1.0 - t)))
    return np.asarray(np.where(s > n * t, most, 0.0))


@dataclass(frozen=True, slots=True)
class _Like:
    """How a measure is observed: the fields of `Observed` that are not sums."""

    origin: float
    bounds: tuple[float, float] | None
    fractional: bool = False

    @classmethod
    def of(cls, experiment: Experiment, index: int, origin: float) -> _Like:
        what = measures_of(experiment)[index]
        return cls(origin, outcome_bounds(experiment, index), what.kind == "numeric" and what.above is None)

    def observed(self, p: FloatArray, rows: FloatArray) -> Observed:
        """Return ledger rows of shape (..., n_epochs, n_arms, at least 4) as what inference reads."""
        n, z, z2, z3 = (rows[..., column] for column in (N, Z, Z2, Z3))
        return Observed(p, n, z, z2, z3, self.origin, self.bounds, True, self.fractional)


class _Ratio:
    """A limit relative to control, of an outcome with bounds: log-wealths of bets.

    Args:
        limit: The limit.
        index: The measure.
        like: How it is observed.
        control: Index of control.
        shape: (n_runs, n_arms).
    """

    def __init__(self, limit: Limit, index: int, like: _Like, control: int, shape: tuple[int, int]) -> None:
        beyond = log_wealths_below_ratio if limit.above else log_wealths_above_ratio
        self.index = index
        self.log_e: LogE = log_e_of_bets
        self.bound: LogE = _largest
        self._wealths: Callable[[Observed], FloatArray] = lambda two: beyond(two, control, limit.declared)
        self._like = like
        self._sums = np.zeros((*shape, 4))
        self.width = len(self._wealths(from_zero(_two(like, self._sums, self._sums, np.full(shape, 1.0 / shape[1])))))

    def columns(self, p: FloatArray, users: FloatArray, sums: FloatArray) -> FloatArray:  # noqa: ARG002 - all are asked alike
        rows = sums[..., :4]
        running = self._wealths(from_zero(_two(self._like, self._sums, rows, p)))
        self._sums = self._sums + rows
        return np.moveaxis(running[..., 1, :] - running[..., 0, :], 0, -1)

    def feasible(self, total: FloatArray) -> FloatArray:
        return feasible_by_e(log_e_of_bets(total))

    def keep(self, runs: BoolArray) -> None:
        self._sums = self._sums[runs]


def _two(like: _Like, before: FloatArray, rows: FloatArray, p: FloatArray) -> Observed:
    """Return a history of two epochs: all that came before, and this one.

    What the first was drawn with is of no matter to what the second adds.
    """
    return like.observed(np.stack([np.full_like(p, 1.0 / p.shape[-1]), p], axis=-2), np.stack([before, rows], axis=-3))


class _Contrast:
    """A limit relative to control, of a mean without bounds: a confidence sequence, which is plain and asymptotic."""

    def __init__(self, experiment: Experiment, limit: Limit, index: int, like: _Like, shape: tuple[int, int]) -> None:
        self._index = index
        self._like = like
        self._control = experiment.control
        self._ratio, self._side = limit.declared, -1.0 if limit.above else 1.0
        self._rho2 = tuning(2.0 * breach_level(experiment), planned_pair_users(experiment))
        self._sums = np.zeros((*shape, 4))
        self._scores: Scores | None = None

    def add(
        self,
        starts: _Starts,  # noqa: ARG002 - all are asked alike
        begun: BoolArray,  # noqa: ARG002 - all are asked alike
        p: FloatArray,
        users: FloatArray,  # noqa: ARG002 - all are asked alike
        sums: Sequence[FloatArray | None],
    ) -> None:
        found = sums[self._index]
        if found is None:
            return
        rows = found[..., :4]
        new = running_scores(_two(self._like, self._sums, rows, p), self._control).since(1)
        self._scores = new if self._scores is None else _each(lambda a, b: a + b, self._scores, new)
        self._sums = self._sums + rows

    def log_e(self, starts: _Starts | None = None) -> FloatArray:  # noqa: ARG002 - all are asked alike
        scores = self._scores
        if scores is None:
            return np.zeros(self._sums.shape[:-1])
        whole = self._sums[..., np.newaxis, :, :]
        observed = self._like.observed(np.ones(whole.shape[:-1]), whole)
        error = scores.standard_error(self._ratio)
        readable = is_readable(observed, self._control)[..., 0, :] & (error > 0.0)
        difference = self._side * scores.difference(self._ratio)
        z = np.divide(difference, error, out=np.zeros_like(error), where=readable)
        return np.asarray(np.where(readable, one_sided_log_e_value(z, scores.t, self._rho2), 0.0))

    def feasible(self) -> FloatArray:
        return feasible_by_e(self.log_e())

    def reaches(self, threshold: float, starts: _Starts, among: BoolArray) -> BoolArray:
        return among & (self.log_e(starts) >= threshold)

    def keep(self, runs: BoolArray) -> None:
        self._sums = self._sums[runs]
        if self._scores is not None:
            self._scores = _each(lambda sums: sums[runs], self._scores)


def _each(change: Callable[..., FloatArray], *scores: Scores) -> Scores:
    """Return scores with each sum made from those of the given ones."""
    names = [field.name for field in fields(Scores) if field.name != "origin"]
    return Scores(scores[0].origin, *(change(*(getattr(one, name) for one in scores)) for name in names))


def _row_of(experiment: Experiment, rail: Guardrail, origins: Sequence[float], shape: tuple[int, int]) -> _Row:
    limit, index = limit_of(rail), guardrail_measure(experiment, rail)
    if not limit.is_relative:
        return _Restarted(_Absolute(rail, index), shape)
    like = _Like.of(experiment, index, origins[index])
    if like.bounds is not None and like.bounds[0] >= 0.0:
        return _Restarted(_Ratio(limit, index, like, experiment.control, shape), shape)
    return _Contrast(experiment, limit, index, like, shape)
