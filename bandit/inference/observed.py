"""What inference reads of one measure: counts, sums and propensities per closed epoch and arm.

Epochs are in the order of assignment, so whatever an estimator needs "from earlier data" is a sum over earlier
rows. In that order each user's arm is drawn with a known probability that depends on earlier users only, although the
outcomes of earlier users may have arrived later: a plug-in from all earlier epochs is as valid as one from those that
were closed when the allocation was made, and there is one from the second epoch on, also under a long window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.learning import complete
from bandit.ledger import GOAL, Ledger
from bandit.measures import Z2, Z3, N, Z, measures_of, outcome_bounds

FEWEST_TO_RESPOND = 50
"""Earlier users of an arm from which its response is known well enough to correct a probability."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One measure, one row per epoch.

    Attributes:
        p: Probability of each arm for the users counted in `n`, shape (..., n_epochs, n_arms); only ratios
            between arms are used.
        n: Users with an outcome, or whose missing outcome has a defined value, same shape.
        z: Sum of z = y − origin, same shape.
        z2: Sum of z², same shape.
        z3: Sum of z³, same shape.
        origin: Origin of z, unit of the metric.
        bounds: Least and largest outcome possible; None where nothing bounds it on both sides.
        exact: Whether `p` is the law really used; False: it is corrected by estimated response rates.
        fractional: Whether outcomes inside the bounds are what the metric is about, as in ratings and costs.
        whole: Sums n, z and z² over all users of an epoch, also of arms' generations that are not read any more,
            shape (3, ..., n_epochs, 1): what was known then, whatever became of an arm later. None: those above.
    """

    p: FloatArray
    n: FloatArray
    z: FloatArray
    z2: FloatArray
    z3: FloatArray
    origin: float
    bounds: tuple[float, float] | None
    exact: bool
    fractional: bool = False
    whole: FloatArray | None = None

    @property
    def squared_shares(self) -> FloatArray:
        """Sum of squared outcomes scaled to [0, 1] by their bounds, shape of `n`; only with bounds."""
        assert self.bounds is not None  # noqa: S101 (callers look)
        low, high = self.bounds
        shift = self.origin - low
        squares = (self.z2 + 2.0 * shift * self.z + shift * shift * self.n) / (high - low) ** 2
        return np.clip(squares, 0.0, self.shares)

    @property
    def shares(self) -> FloatArray:
        """Sum of outcomes scaled to [0, 1] by their bounds, shape of `n`; only with bounds."""
        assert self.bounds is not None  # noqa: S101 (callers look)
        low, high = self.bounds
        s = (self.z + self.n * (self.origin - low)) / (high - low)
        return np.clip(s, 0.0, self.n)  # sums moved by difference may be off by a rounding error

    def upto(self, n_epochs: int) -> Observed:
        """Return the first epochs alone."""
        return self.of_epochs(slice(None, n_epochs))

    def of_epochs(self, epochs: slice | BoolArray) -> Observed:
        """Return some of the epochs alone."""
        cut = (..., epochs, slice(None))
        whole = None if self.whole is None else self.whole[cut]
        return replace(self, p=self.p[cut], n=self.n[cut], z=self.z[cut], z2=self.z2[cut], z3=self.z3[cut], whole=whole)

    @property
    def with_known_p(self) -> Observed:
        """The same without the users of cells whose probability is 0: it is not known how they were drawn.

        Where `p` is the law really used, nobody is in such a cell.
        """
        if self.exact:
            return self
        known = self.p > 0.0
        return replace(self, n=self.n * known, z=self.z * known, z2=self.z2 * known, z3=self.z3 * known)


def earlier(sums: FloatArray) -> FloatArray:
    """Return for each epoch the sum over all epochs before it; axis −2 is the epochs."""
    before = np.zeros_like(sums)
    np.cumsum(sums[..., :-1, :], axis=-2, out=before[..., 1:, :])  # no digit of an epoch's own sums is in it
    return before


def pair_shares(p: FloatArray, control: int) -> FloatArray:
    """Return the probability of each arm within the pair of it and control, 0.5 for control itself.

    Args:
        p: Propensities, shape (..., n_arms).
        control: Index of control.

    Returns:
        Same shape; 0 where neither of the pair could be drawn.
    """
    both = p + p[..., [control]]
    return np.asarray(np.divide(p, both, out=np.zeros_like(both), where=both > 0))


def given_response(p: FloatArray, assigned: FloatArray, n: FloatArray) -> FloatArray:
    """Return the probability of each arm given that the user has an outcome, up to a factor per epoch.

    p_a ρ_a, with ρ_a how much more often the arm responded in earlier epochs than users of all arms in the same epochs,
    shrunk by one user toward 1, so that it changes nothing where everybody responds alike. Answers are compared with
    those expected epoch by epoch: a response that moves while traffic moves would else look like one that differs by
    arm. What is expected of an epoch counts with its mix of arms, by the ρ known before.

    0 while fewer than `FEWEST_TO_RESPOND` users of the arm came earlier: read with a guess of ρ, a large first epoch of
    arms that respond differently is evidence of nothing but that. Valid as far as ρ is right: asymptotically, and if
    the response is a factor of the arm times one of the epoch.

    Args:
        p: Propensities at assignment, shape (..., n_epochs, n_arms).
        assigned: Users assigned, same shape.
        n: Users with an outcome, same shape.

    Reference:
        Indirect standardisation, as in Breslow, Day (1987), Statistical Methods in Cancer Research, vol. II.
    """
    users, answers = earlier(assigned), earlier(n)
    factor = np.ones_like(p)
    for _ in range(2):
        mix = (assigned * factor).sum(axis=-1, keepdims=True)
        rate = np.divide(n.sum(axis=-1, keepdims=True), mix, out=np.zeros_like(mix), where=mix > 0.0)
        factor = (answers + 1.0) / (earlier(assigned * rate) + 1.0)
    return np.asarray(p * factor * (users >= FEWEST_TO_RESPOND))


def observe(experiment: Experiment, history: History, measure: int) -> Observed:
    """Return one measure of an experiment over its closed epochs, users of the arms' latest generations alone.

    The goal's missing outcomes count as declared. Where users without an outcome are left out, propensities are
    corrected for the arms' response.

    Args:
        experiment: Whose measures they are.
        history: What happened. Without probabilities `p` is nan and only `n`, `z`, `z2`, `z3` mean something.
        measure: Index among `measures_of(experiment)`.
    """
    closed, readable, what = history.closed, history.readable, measures_of(experiment)[measure]
    ledger = readable.ledger
    origin = ledger.origins[measure] or 0.0
    sums = _completed(experiment, ledger, measure)
    n = np.asarray(sums[..., N])
    assigned = ledger.assigned.astype(np.float64)
    answered = bool((n == assigned).all())
    p = np.full(n.shape, np.nan) if readable.probabilities is None else readable.probabilities
    return Observed(
        p if answered else given_response(p, assigned, n),
        n,
        np.asarray(sums[..., Z]),
        np.asarray(sums[..., Z2]),
        np.asarray(sums[..., Z3]),
        origin,
        outcome_bounds(experiment, measure),
        answered,
        fractional=what.kind == "numeric" and what.above is None,
        whole=None if readable is closed else _all_users(_completed(experiment, closed.ledger, measure)),
    )


def _completed(experiment: Experiment, ledger: Ledger, measure: int) -> FloatArray:
    """Return the first four sums of a measure, the goal's missing outcomes as declared."""
    sums = ledger.sums[measure][..., :4]
    if measure != GOAL:
        return sums
    return complete(experiment, ledger.assigned, sums, ledger.origins[measure] or 0.0)


def _all_users(sums: FloatArray) -> FloatArray:
    """Return n, z and z² summed over the arms, shape (3, ..., n_epochs, 1)."""
    return np.moveaxis(sums[..., [N, Z, Z2]].sum(axis=-2, keepdims=True), -1, 0)


def observe_response(history: History) -> Observed:
    """Return "has a goal value" as a measure: 1 or 0 for every user assigned in a closed epoch."""
    readable = history.readable
    assigned = readable.ledger.assigned.astype(np.float64)
    answers = np.asarray(readable.ledger.sums[GOAL][..., N])
    p = np.full(assigned.shape, np.nan) if readable.probabilities is None else readable.probabilities
    return Observed(p, assigned, answers, answers, answers, 0.0, (0.0, 1.0), True)
