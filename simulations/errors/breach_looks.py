"""The first look at which a limit is broken, in many runs of one arm at once.

Nearly all looks say nothing, and an exact e-value takes microseconds. So each is first bounded from above by something
cheap: an e-value that is a mixture over alternatives is at most the likelihood ratio, or the wealth, of the best one.
Only where the bound passes the threshold is it worked out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.inference.restarts import LogE, log_e_restarted

Screen = Callable[[FloatArray], FloatArray]
"""From additive sums, shape (..., width), to an upper bound of ln E, shape (...)."""


_BLOCK = 8
"""Looks of a run that are worked out at a time: those after the first breach need not be."""

_LARGEST = 600.0  # of ln E: its exponential is still a number


@dataclass(frozen=True, slots=True)
class ArmLooks:
    """One arm in many runs, look by look.

    Attributes:
        since: For the j-th start, from 0, the sums of users since then at each look, shape (n_runs, n_looks, width);
            looks before the start mean nothing.
        begins: Index of the first look after each start, shape (n_starts, n_runs).
        looks: Which looks are taken, shape (n_runs, n_looks).
    """

    since: Callable[[int], FloatArray]
    begins: IntArray
    looks: BoolArray

    def first(self, log_e: LogE, screen: Screen, threshold: float) -> IntArray:
        """Return the first look at which the restarted mixture reaches the threshold, shape (n_runs,).

        Args:
            log_e: The e-process.
            screen: Bounds it from above.
            threshold: ln of the e-value that breaks the limit, above 0.

        Returns:
            Index of the look; the number of looks where it never does.
        """
        n_looks = self.looks.shape[1]
        run, look = self._candidates(screen, threshold)
        first = np.full(len(self.looks), n_looks, dtype=np.int64)
        if not len(run):
            return first
        since = np.stack([self.since(start)[run, look] for start in range(len(self.begins))])
        n_starts = (self.begins[:, run] <= look).sum(axis=0)
        turn = np.arange(len(run)) - np.searchsorted(run, run)
        for block in range(0, int(turn.max()) + 1, _BLOCK):
            now = np.flatnonzero((turn >= block) & (turn < block + _BLOCK) & (first[run] == n_looks))
            reached = now[log_e_restarted(log_e, since[:, now], n_starts[now]) >= threshold]
            np.minimum.at(first, run[reached], look[reached])
        return first

    def _candidates(self, screen: Screen, threshold: float) -> tuple[IntArray, IntArray]:
        """Return the runs and looks at which the bound passes the threshold, run by run and in order."""
        numbers = np.arange(self.looks.shape[1])
        most = np.ones(self.looks.shape)  # the starts to come weigh less than 1
        for start, begins in enumerate(self.begins):
            bound = np.exp(np.minimum(screen(self.since(start)), _LARGEST)) / ((start + 1.0) * (start + 2.0))
            most += np.where(numbers >= begins[:, np.newaxis], bound, 0.0)
        run, look = np.nonzero((np.log(most) >= threshold) & self.looks)
        return run, look


def plain(looks: ArmLooks) -> ArmLooks:
    """Return the same looks with the first start alone: the e-process that never starts again."""
    return ArmLooks(looks.since, looks.begins[:1], looks.looks)


def most_of_rate(limit: float) -> Screen:
    """Return the bound for a rate: the likelihood ratio of the rate seen, n kl(s/n, limit) where it is above the limit.

    Args:
        limit: In (0, 1); columns are users and the sum of their outcomes.
    """

    def screen(sums: FloatArray) -> FloatArray:
        n, s = sums[..., 0], sums[..., 1]
        level = np.clip(np.divide(s, n, out=np.zeros_like(s), where=n > 0.0), 0.0, 1.0)
        ratio = n * (sc.rel_entr(level, limit) + sc.rel_entr(1.0 - level, 1.0 - limit))
        return np.asarray(np.where(level > limit, ratio, 0.0))

    return screen


def most_of_bets(wealth: FloatArray) -> FloatArray:
    """Return the bound for bets: the wealth of the best one."""
    return np.asarray(wealth.max(axis=-1))
