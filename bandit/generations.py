"""Generations of an arm: stretches of epochs that are one experiment on one thing.

A suspension ends the generation of its arm, and so does a new configuration; what comes after is another generation,
with its own users, its own evidence and its own share of alpha. Every change starts an epoch, so an (epoch, arm)
belongs to one generation only, and the ledger needs no column for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bandit.experiment import Experiment

AT_START = 0.8
"""Part of alpha for the treatments present at the start; the rest is for generations that join later."""

End = Literal["suspended", "changed"]
"""How a generation ended: its arm was taken away from users, or got another configuration."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of an arm.

    Attributes:
        arm: Index of the arm.
        number: 0: present at the start; j from 1: the j-th of all later ones of the experiment.
        first_epoch: Number of the first epoch that may give it users, from 1.
        last_epoch: Number of the last one; None: it goes on.
        closed_epochs: Epochs 1 to this one were closed when it ended. Outcomes of later ones were cut short, so
            nothing about the goal reads them. None: it goes on.
        ended: How it ended, or None.
        broken: The limits that it broke, as rows of `inference.breaches.Breaches`; empty where a person ended it.
        reason: Why it ended, in words.
    """

    arm: int
    number: int
    first_epoch: int
    last_epoch: int | None = None
    closed_epochs: int | None = None
    ended: End | None = None
    broken: tuple[int, ...] = ()
    reason: str = ""

    def has(self, epoch: int) -> bool:
        """Whether users of the epoch with this number belong to it, if they have its arm."""
        return self.first_epoch <= epoch and (self.last_epoch is None or epoch <= self.last_epoch)

    def reads(self, epoch: int) -> bool:
        """Whether the goal may be read in the epoch with this number, once it is closed."""
        return self.first_epoch <= epoch and (self.closed_epochs is None or epoch <= self.closed_epochs)

    def share(self, experiment: Experiment) -> float:
        """Return its share of alpha: fixed when it joins, whatever happens later.

        Treatments present at the start share 0.8 alpha equally, the j-th later generation gets 0.2 alpha / (j(j + 1)).
        """
        alpha = experiment.policy.alpha
        if self.number == 0:
            return AT_START * alpha / (experiment.n_arms - 1)
        return (1.0 - AT_START) * alpha / (self.number * (self.number + 1))


def at_start(experiment: Experiment) -> tuple[Generation, ...]:
    """Return the generations of the arms before anything has ended, one per arm."""
    return tuple(Generation(arm, 0, 1) for arm in range(experiment.n_arms))


def current(generations: Sequence[Generation], n_arms: int) -> tuple[Generation, ...]:
    """Return the latest generation of each arm, from all of them in the order in which they began."""
    latest: dict[int, Generation] = {generation.arm: generation for generation in generations}
    return tuple(latest[arm] for arm in range(n_arms))
