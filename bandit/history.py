"""What happened, epoch by epoch: all that a report reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bandit.arrays import FloatArray
from bandit.errors import InvalidInput, Problem
from bandit.generations import Generation
from bandit.ledger import Ledger
from bandit.measures import N

DAY = 86_400.0
"""Seconds."""

WEEK = 7.0 * DAY


@dataclass(frozen=True)
class History:
    """Epochs in the order of assignment, with what became of their users.

    Attributes:
        ledger: Sums of all epochs, closed or not.
        closed_epochs: Epochs 1 to this one are closed: the only ones that numbers are about.
        probabilities: Probability of each arm in each epoch, shape (n_epochs, n_arms), rows summing to 1; None:
            not known, as in a log made elsewhere. Whatever needs a propensity is then left out.
        started_at: When each epoch began, seconds of the experiment's clock, shape (n_epochs,); None: there was
            no clock.
        now: The latest time known, same clock, or None.
        generations: The latest generation of each arm, in the order of the arms; None: nothing has ended yet, and
            every arm has been there from the start.
        unit: What a count of the ledger counts: "user", or "row" where nobody knows which rows are one user's.
    """

    ledger: Ledger
    closed_epochs: int
    probabilities: FloatArray | None
    started_at: FloatArray | None = None
    now: float | None = None
    unit: str = "user"
    generations: tuple[Generation, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot have happened.

        Raises:
            InvalidInput: With every fault.
        """
        problems = [*_ledger_problems(self.ledger), *_probability_problems(self), *_time_problems(self)]
        if not 0 <= self.closed_epochs <= self.ledger.n_epochs:
            message = f"received {self.closed_epochs}, allowed: 0 to {self.ledger.n_epochs}, the epochs of the ledger"
            problems.append(Problem("closed_epochs", message))
        if problems:
            raise InvalidInput(problems)

    @cached_property
    def closed(self) -> History:
        """The closed epochs alone, with every user of them."""
        return self.upto(self.closed_epochs)

    @cached_property
    def readable(self) -> History:
        """The closed epochs with the users of the arms' latest generations alone, outcomes cut short left out.

        The others are taken out as if they had never been drawn: an arm that joined later has probability 0 before,
        and the probabilities of the other arms are those given that the user got one of them.
        """
        closed = self.closed
        if self.generations is None or all(g.first_epoch == 1 and g.ended is None for g in self.generations):
            return closed
        numbers = np.arange(1, closed.ledger.n_epochs + 1)[:, np.newaxis]
        first = np.array([generation.first_epoch for generation in self.generations])
        last = np.array([np.inf if g.closed_epochs is None else g.closed_epochs for g in self.generations])
        kept = (first <= numbers) & (numbers <= last)
        p = closed.probabilities
        if p is not None:
            among = (p * kept).sum(axis=1, keepdims=True)
            # An epoch that none of them could be drawn in has no users left: any probabilities will do.
            p = np.where(among > 0.0, p * kept / np.where(among > 0.0, among, 1.0), 1.0 / p.shape[1])
        return replace(closed, ledger=closed.ledger.kept(kept), probabilities=p)

    def generations_of(self, n_arms: int) -> tuple[Generation, ...]:
        """Return the latest generation of each arm."""
        return self.generations or tuple(Generation(arm, 0, 1) for arm in range(n_arms))

    @property
    def latest_probabilities(self) -> FloatArray | None:
        """Probability of each arm in the latest epoch, shape (n_arms,); None: not known, or no epoch yet."""
        return None if self.probabilities is None or not len(self.probabilities) else self.probabilities[-1]

    def upto(self, n_epochs: int) -> History:
        """Return the first epochs alone."""
        n = n_epochs
        return History(
            self.ledger.upto(n),
            min(self.closed_epochs, n),
            None if self.probabilities is None else self.probabilities[:n],
            None if self.started_at is None else self.started_at[:n],
            self.now,
            self.unit,
            self.generations,
        )

    @property
    def users(self) -> FloatArray:
        """Users assigned in each epoch, shape (n_epochs,)."""
        return np.asarray(self.ledger.assigned.sum(axis=1), dtype=np.float64)


def _ledger_problems(ledger: Ledger) -> list[Problem]:
    found = []
    shape = ledger.assigned.shape
    if len(shape) != 2 or ledger.moved.shape != shape or any(sums.shape[:2] != shape for sums in ledger.sums):
        shapes = [ledger.assigned.shape, ledger.moved.shape, *(sums.shape for sums in ledger.sums)]
        return [Problem("ledger", f"received shapes {shapes}, allowed: the same epochs and arms in all")]
    if not ((ledger.moved >= 0) & (ledger.moved <= ledger.assigned)).all():
        found.append(Problem("ledger", "received a cell with moved users below 0 or above its assigned ones"))
    for index, sums in enumerate(ledger.sums):
        if not np.isfinite(sums).all():
            found.append(Problem(f"ledger.sums[{index}]", "received a sum that is no finite number"))
        elif not ((sums[..., N] >= 0.0) & (sums[..., N] <= ledger.assigned)).all():
            message = "received a cell with users below 0 or above its assigned ones"
            found.append(Problem(f"ledger.sums[{index}]", message))
    return found


def _probability_problems(history: History) -> list[Problem]:
    p, shape = history.probabilities, history.ledger.assigned.shape
    if p is None:
        return []
    if p.shape != shape:
        return [Problem("probabilities", f"received shape {p.shape}, allowed: {shape}, that of the ledger")]
    if not ((p >= 0.0) & (p <= 1.0)).all() or not np.allclose(p.sum(axis=1), 1.0, rtol=0.0, atol=1e-6):
        return [Problem("probabilities", "received a row that is none, allowed: numbers from 0 to 1 that sum to 1")]
    if (history.ledger.assigned[p == 0.0] > 0).any():
        return [Problem("probabilities", "received 0 for an arm that users of the epoch have, allowed: above 0")]
    return []


def _time_problems(history: History) -> list[Problem]:
    started = history.started_at
    if started is None:
        return []
    if started.shape != (history.ledger.n_epochs,):
        message = f"received shape {started.shape}, allowed: ({history.ledger.n_epochs},), a time for each epoch"
        return [Problem("started_at", message)]
    if not np.isfinite(started).all() or (np.diff(started) < 0.0).any():
        return [Problem("started_at", "received times that are not finite or go back, allowed: times in order")]
    return []
