"""Equal arms, and an operator who takes an arm away after a bad streak and lets it in again: what is said of the goal.

Failures are known at once, successes late, so an arm looks bad before its windows have ended: whoever is taken away
then leaves half an outcome behind. The product reads, of each generation of the arm, the epochs that were closed when
it ended. A reading that counts what was cut short shows why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import Experiment
from bandit.generations import Generation
from bandit.history import History
from bandit.inference.any_time import any_time
from bandit.inference.exact import log_e_higher
from bandit.inference.observed import observe
from bandit.inference.scores import running_scores
from bandit.inference.shares import planned_pair_users
from bandit.ledger import GOAL, Ledger
from bandit.measures import measures_of
from simulations.errors.records import epoch_ends
from simulations.records import stacked

TREATMENT = 1


@dataclass(frozen=True, slots=True)
class Operator:
    """When an arm is taken away and let in again.

    Attributes:
        rate: True rate of both arms.
        wait: Epochs until a success is known; also the window.
        after: Users of the arm's generation from which it is judged.
        behind: Standard errors behind control, by what is known so far, at which it is taken away.
        away: Epochs until it is let in again.
        most: Times that it is taken away.
    """

    rate: float = 0.5
    wait: int = 4
    after: int = 60
    behind: float = 1.0
    away: int = 3
    most: int = 4


@dataclass(frozen=True, slots=True)
class InterruptedRun:
    """One run.

    Attributes:
        p: Probability of each arm per epoch, shape (n_epochs, 2).
        assigned: Users assigned, same shape.
        whole: Successes of all users, whatever became of them, same shape.
        seen: Successes that were known before their users were taken away, same shape.
        generations: Of the treatment, in order.
    """

    p: FloatArray
    assigned: IntArray
    whole: IntArray
    seen: IntArray
    generations: tuple[Generation, ...]

    def histories(self, experiment: Experiment, *, whole: bool) -> Iterator[tuple[Generation, History]]:
        """Give each generation with the history in which it is read.

        Args:
            experiment: Whose measures they are.
            whole: As the product does. False: all its epochs are read, with what was known when it was taken away.
        """
        closed = len(self.p)
        # Control's outcomes are never cut short; those of the arm are, in epochs not closed when it was taken away.
        successes = self.whole.copy()
        successes[:, TREATMENT] = self.seen[:, TREATMENT]
        sums = np.stack([self.assigned, successes, successes, successes], axis=-1).astype(np.float64)
        (measure,) = measures_of(experiment)
        assert sums.shape[-1] == measure.width  # noqa: S101 (a binary goal alone)
        ledger = Ledger(self.assigned, np.zeros_like(self.assigned), (sums,), (0.0,))
        for one in self.generations:
            read = one if whole else replace(one, closed_epochs=one.last_epoch)
            yield one, History(ledger, closed, self.p, generations=(Generation(experiment.control, 0, 1), read))


def interrupted_runs(
    experiment: Experiment, operator: Operator, users: int, runs: int, rng: np.random.Generator
) -> list[InterruptedRun]:
    """Run an equal split many times under an operator, all users of an epoch at once.

    Args:
        experiment: Two arms, a binary goal; its schedule.
        operator: Takes the arm away.
        users: Of each run.
        runs: How many.
        rng: Source of luck.

    Returns:
        The runs.
    """
    sizes = np.diff(epoch_ends(experiment.policy, users), prepend=0)
    return [_run(operator, sizes, rng) for _ in range(runs)]


def _run(operator: Operator, sizes: IntArray, rng: np.random.Generator) -> InterruptedRun:
    n_epochs = len(sizes)
    p = np.zeros((n_epochs, 2))
    assigned, whole = np.zeros((n_epochs, 2), np.int64), np.zeros((n_epochs, 2), np.int64)
    known = np.zeros((operator.wait + 1, n_epochs, 2), np.int64)  # successes known so many epochs later
    seen = np.zeros((n_epochs, 2), np.int64)
    generations, first, away = [Generation(TREATMENT, 0, 1)], 0, 0
    for epoch, size in enumerate(sizes):
        if away:
            away -= 1
            if not away:
                first = epoch
                generations.append(Generation(TREATMENT, len(generations), epoch + 1))
        p[epoch] = (1.0, 0.0) if away else (0.5, 0.5)
        assigned[epoch] = rng.multinomial(size, p[epoch])
        whole[epoch] = rng.binomial(assigned[epoch], operator.rate)
        # Spread evenly over the window: a share of them is known after each further epoch.
        later = rng.multinomial(whole[epoch], np.full(operator.wait, 1.0 / operator.wait))
        known[1:, epoch] = np.cumsum(later, axis=-1).T
        if away:
            continue
        since = np.arange(first, epoch + 1)
        so_far = known[np.minimum(epoch - since, operator.wait), since]
        seen[since] = so_far
        if len(generations) <= operator.most and _is_behind(operator, assigned[since].sum(axis=0), so_far.sum(axis=0)):
            last, closed = epoch + 1, max(epoch + 1 - operator.wait, 0)
            one = generations[-1]
            generations[-1] = Generation(
                TREATMENT, one.number, one.first_epoch, last, max(closed, one.first_epoch - 1), "suspended"
            )
            away = operator.away + 1
    if generations[-1].last_epoch is None:  # the last one ends in peace: its windows end
        seen[first:] = whole[first:]
    return InterruptedRun(p, assigned, whole, seen, tuple(generations))


def _is_behind(operator: Operator, assigned: IntArray, successes: IntArray) -> bool:
    if assigned.min() < operator.after:
        return False
    rates = successes / assigned
    error = np.sqrt((rates * (1.0 - rates) / assigned).sum())
    return bool(rates[TREATMENT] < rates[0] - operator.behind * error)


def is_wrong(experiment: Experiment, runs: Sequence[InterruptedRun], *, whole: bool) -> BoolArray:
    """Return whether some generation is at some look said to be better, or its interval does not hold 0.

    Each at the level of its generation: half of its share for "better", all of it for the interval.

    Args:
        experiment: Levels.
        runs: Both arms are equal.
        whole: As for `InterruptedRun.histories`.

    Returns:
        Shape (n_runs,).
    """
    each = [(place, *one) for place, run in enumerate(runs) for one in run.histories(experiment, whole=whole)]
    observed = stacked([observe(experiment, history, GOAL) for _, _, history in each])
    share = np.array([generation.share(experiment) for _, generation, _ in each])[:, np.newaxis, np.newaxis]
    scores = running_scores(observed, experiment.control)
    sequence = any_time(observed, scores, experiment.control, share, planned_pair_users(experiment))
    said = log_e_higher(observed, experiment.control) >= -np.log(share / 2.0)
    said |= (sequence.low > 0.0) | (sequence.high < 0.0)
    wrong = np.zeros(len(runs), dtype=bool)
    np.logical_or.at(wrong, [place for place, _, _ in each], said[..., TREATMENT].any(axis=1))
    return wrong
