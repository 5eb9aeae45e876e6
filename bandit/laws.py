"""What `bandit.best_arm` asks of a family of posteriors."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.quadrature import Contenders, Resolution

REACH = 7.5
"""How far from the mode an arm is followed: standard deviations of a Gaussian, root of the deviance of a Beta."""


class Block(Protocol):
    """Some rows of posteriors as continuous laws on a line; point masses are at −inf there."""

    resolutions: ClassVar[tuple[Resolution, ...]]

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        """Points with hardly any mass below and above, (n_rows, n_arms)."""

    @property
    def mean(self) -> FloatArray:
        """Means in the unit of the metric, (n_rows, n_arms)."""

    def coarsest(self, able: BoolArray) -> IntArray:
        """Number of the resolution to begin with, for the arms able to win (n_rows, n_arms): shape (n_rows,)."""

    def contest(self, rows: IntArray, arms: IntArray, chance: FloatArray | None = None) -> Contest:
        """These arms, shape (n_picked_rows, n_picked_arms), of these rows.

        An arm takes part with its `chance` only, in (0, 1], same shape; else it is at −∞. None: all take part.
        """


class Contest(Contenders, Protocol):
    """Contenders that know their centre on the line of their block, and the metric there; shape (n_rows,)."""

    @property
    def centre(self) -> FloatArray:
        """Origin of x on the line of the block."""

    @property
    def centre_metric(self) -> FloatArray:
        """The metric at the centre."""


def edges(mode: FloatArray, *offsets: FloatArray) -> FloatArray:
    """Modes (n_rows, n_arms) and offsets from them (n_rows, n_arms, n_steps), as one list per row."""
    every = np.concatenate([mode[..., None], *(mode[..., None] + offset for offset in offsets)], axis=-1)
    return every.reshape(len(mode), -1)
