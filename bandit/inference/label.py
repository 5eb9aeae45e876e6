r"""Label e-process: does an arm beat control, exactly, at any time, whatever the base rate does.

Setting. Users i = 1, 2, … of the pair (arm k, control c), in the order of assignment. Given the past F_{i-1}, user i
has label k with a known probability π_i, drawn independently of what the user would do under either arm; the
outcome y_i is final, one per user, in [0, 1], with mean θ_k(i) under k and θ_c(i) under c, both unknown, both free to
drift. Fix, from the past, two numbers r₁ >= 1 >= r₀ > 0. Put D_j = 1 − π + π r_j and let the wealth be multiplied by

    f = r₁^y r₀^(1−y) / (D₁^y D₀^(1−y))   for label k,          f = 1 / (D₁^y D₀^(1−y))   for label c.

Claim. If θ_k(i) <= θ_c(i) for every i, then E[f | F_{i-1}] <= 1, so the wealth is a non-negative supermartingale from
1, and reaches 1/b at any time with probability at most b (Ville 1939).

Proof. (1) For either label f = u^y v^(1−y) with constants u, v > 0. This is convex in y, hence on [0, 1] at most its
chord y u + (1−y) v, whose mean depends on y through θ alone: it suffices to take y ∈ {0, 1}.
(2) Then E f = Σ_j [π P_k(j) r_j + (1−π) P_c(j)] / D_j with P(1) = θ, P(0) = 1 − θ.
(3) If θ_k = θ_c, then P_k = P_c = P and E f = Σ_j P(j) (π r_j + 1 − π)/D_j = Σ_j P(j) = 1.
(4) In θ_k, E f is linear with slope π (r₁/D₁ − r₀/D₀), which is >= 0 since r/(1 − π + π r) grows with r. Lowering θ_k
from θ_c therefore lowers E f. ∎  (π = 0 or 1 gives f = 1 or <= 1: nothing is bet.)

Mixing over several (r₁, r₀) keeps the property. Conditions that a user has to grant: π is the law really used, outcomes
are final and one per user, and no user's outcome depends on another's arm. The claim rejected is "k is never better
than c", not "k is not better on average": an arm that was better for one day refutes it.
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import FloatArray
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed, earlier, pair_shares

BETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Differences of means that the mixture is tuned to, in standard deviations √(q(1−q)) of an outcome."""

_LARGEST_SHIFT = 10.0  # of log odds: where events are rarer than one in a million, no larger factor is bet on


def log_e_higher(observed: Observed, control: int) -> FloatArray:
    """Return ln E against "the arm's mean is at no time above control's", after each epoch.

    Args:
        observed: A measure with bounds.
        control: Index of control.

    Returns:
        Shape (..., n_epochs, n_arms); control's own column means nothing.
    """
    return log_mean(log_wealths_higher(observed, control))


def log_e_lower(observed: Observed, control: int) -> FloatArray:
    """Return ln E against "the arm's mean is at no time below control's". As `log_e_higher`."""
    return log_mean(log_wealths_lower(observed, control))


def log_wealths_higher(observed: Observed, control: int) -> FloatArray:
    """Return the log-wealths of the bets behind `log_e_higher`, shape (n_bets, ..., n_epochs, n_arms)."""
    return _log_wealths(_Labels.of(observed, control))


def log_wealths_lower(observed: Observed, control: int) -> FloatArray:
    """Return the log-wealths of the bets behind `log_e_lower`, same shape."""
    return _log_wealths(_Labels.of(observed, control).exchanged())


class _Labels:
    """Events and non-events of both labels, per epoch; the first label is the one said to be higher."""

    __slots__ = ("events", "events_c", "others", "others_c", "pi")

    def __init__(
        self, pi: FloatArray, events: FloatArray, others: FloatArray, events_c: FloatArray, others_c: FloatArray
    ) -> None:
        self.pi = pi
        self.events = events
        self.others = others
        self.events_c = events_c
        self.others_c = others_c

    @classmethod
    def of(cls, observed: Observed, control: int) -> _Labels:
        observed = observed.with_known_p
        events = observed.shares
        others = observed.n - events
        pi = pair_shares(observed.p, control)
        shape = pi.shape
        return cls(
            pi,
            events,
            others,
            np.broadcast_to(events[..., [control]], shape),
            np.broadcast_to(others[..., [control]], shape),
        )

    def exchanged(self) -> _Labels:
        return _Labels(1.0 - self.pi, self.events_c, self.others_c, self.events, self.others)


def _log_wealths(labels: _Labels) -> FloatArray:
    """Return the log-wealth of each bet; q, the level that they are tuned to, is from earlier epochs.

    With o = q/(1−q) and a shift d of the log odds, r₀ = (1 + o e^−d)/(1 + o e^d) and r₁ = e^2d r₀.
    """
    events, others = labels.events + labels.events_c, labels.others + labels.others_c
    before, before_others = earlier(events) + 1.0, earlier(others) + 1.0
    odds, rest = before / before_others, 1.0 - labels.pi
    unit = (np.sqrt(odds) + np.sqrt(1.0 / odds)) / 2.0  # 1/√(q(1−q)) / 2
    wealth = np.empty((len(BETS), *odds.shape))
    for place, bet in enumerate(BETS):
        shift = np.minimum(bet * unit, _LARGEST_SHIFT)
        factor = np.exp(shift)
        up, down = odds * factor, odds / factor
        log_ratio_0 = np.log1p(down) - np.log1p(up)
        ratio_0 = (1.0 + down) / (1.0 + up)
        wealth[place] = (
            labels.events * (log_ratio_0 + 2.0 * shift)
            + labels.others * log_ratio_0
            - events * np.log(rest + labels.pi * factor * factor * ratio_0)
            - others * np.log(rest + labels.pi * ratio_0)
        )
    return np.asarray(np.cumsum(wealth, axis=-2, out=wealth))
