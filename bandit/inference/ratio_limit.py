r"""Ratio e-process: is an arm's mean above or below a multiple of control's, exactly, whatever the base rate does.

Setting as in `label.py`: given the past, a user of the pair (arm k, control c) has label k with the known probability
π, and an outcome y in [0, 1] of mean θ_k or θ_c, unknown and free to drift. To be rejected is "θ_k(i) <= r θ_c(i) for
every i" (or >=), for a fixed r > 0. That is a convex set H of points (θ_k, θ_c) in the unit square.

Fix, from the past, a guess (a, b) outside H of where the arms are, and let (a*, b*) be the point of H that is nearest
in π kl(a, ·) + (1−π) kl(b, ·), kl being that of two coins. Multiply the wealth by

    f = (a/a*)^y ((1−a)/(1−a*))^(1−y) for label k,      f = (b/b*)^y ((1−b)/(1−b*))^(1−y) for label c.

Claim. In H, E[f | past] <= 1, so the wealth reaches 1/α at any time with probability at most α (Ville 1939).

Proof. (1) f is u^y v^(1−y), convex in y, hence at most its chord on [0, 1], whose mean depends on the law of y through
θ alone: it suffices to take y ∈ {0, 1}.
(2) Then (label, y) has four values; write P for their probabilities at a point of H, P* at (a*, b*) and Q at (a, b), so
f = Q/P*. P is linear in the point, so all P of H form a convex set, and P + s (P* − P) belongs to it.
(3) P* minimises KL(Q‖·) over the set, as the label has the same law everywhere. So toward any P of it the derivative
Σ −Q (P − P*)/P* = 1 − Σ P Q/P* = 1 − E_P f is not negative. ∎

The nearest point is on the line θ_k = r θ_c. There, with A = πa + (1−π)b, the derivative in θ_c vanishes where

    r θ² − B θ + A = 0,      B = A (1 + r) + C r + D,      C = π(1−a), D = (1−π)(1−b);

the smaller root is b*, and a* = r b*. For r = 1 this gives a* = b* = A, the label e-process of `label.py`; for rare
events it is the bet on events alone, whose stake does not depend on the level. Where events are common it gains from
users without one as well: a fall of 0.99 to 0.97 is a threefold rise of failures.

Sources: Turner, Ly, Grünwald (2024), Generic e-variables for exact sequential k-sample tests, for streams of fixed
sizes; Grünwald, de Heide, Koolen (2024) for (3). Here the label is drawn with an allocation that moves, and the level
that bets are tuned to is learned from earlier epochs.
"""

from __future__ import annotations

import math

import numpy as np

from bandit.arrays import FloatArray
from bandit.inference.observed import Observed, earlier, pair_shares

BETS = (0.01, 0.03, 0.1, 0.32)
"""Distances from the limit that the mixture is tuned to: of log odds, in units of 1/√(q(1−q)) at the level q."""

_LARGEST_SHIFT = 5.0  # of log odds: where events are very rare, a 150-fold rate is bet on and not more


def log_wealths_above_ratio(observed: Observed, control: int, ratio: float) -> FloatArray:
    """Return the log-wealths of bets against "the arm's mean is at no time above ratio × control's".

    Args:
        observed: A measure with bounds, the lower one 0: a ratio of means has a meaning there only.
        control: Index of control.
        ratio: Above 0; 1.2 allows 20 % more than control.

    Returns:
        After each epoch, shape (n_bets, ..., n_epochs, n_arms); their `log_mean` is ln E. Control's own column means
        nothing.
    """
    return _log_wealths(observed, control, ratio, 1.0)


def log_wealths_below_ratio(observed: Observed, control: int, ratio: float) -> FloatArray:
    """Return the log-wealths of bets against "the arm's mean is at no time below ratio × control's"; else as above."""
    return _log_wealths(observed, control, ratio, -1.0)


def nearest_on_line(
    pi: FloatArray, odds: FloatArray, odds_c: FloatArray, ratio: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the point (ratio × θ, θ) nearest in π kl(a, ·) + (1−π) kl(b, ·) to a guess (a, b).

    Args:
        pi: Probability of the arm's label, any shape.
        odds: a/(1−a), finite, same shape.
        odds_c: b/(1−b).
        ratio: Above 0.

    Returns:
        θ, 1 − θ and 1 − ratio × θ, each without cancellation.
    """
    c, d = pi / (1.0 + odds), (1.0 - pi) / (1.0 + odds_c)
    a = c * odds + d * odds_c
    # B² − 4rA is w² + 4rCD; the smaller of √… ± w follows from their product.
    w, product = (1.0 - ratio) - (c - ratio * d), 4.0 * ratio * c * d
    root = np.sqrt(w * w + product)
    large = root + np.abs(w)
    small = np.divide(product, large, out=np.zeros_like(large), where=large > 0)
    minus, plus = np.where(w > 0, small, large), np.where(w > 0, large, small)
    level = 2.0 * a / (a * (1.0 + ratio) + c * ratio + d + root)
    return level, (minus + 2.0 * ratio * d) / (2.0 * ratio), (plus + 2.0 * c) / 2.0


def _log_wealths(observed: Observed, control: int, ratio: float, side: float) -> FloatArray:
    observed = observed.with_known_p
    pi = pair_shares(observed.p, control)
    events, n = observed.shares, observed.n
    others = n - events
    events_c, others_c = events[..., [control]], others[..., [control]]

    level, rest, rest_k = _learned(events, others, control, ratio)
    log_odds, log_odds_c = np.log(ratio * level / rest_k), np.log(level / rest)
    q = level * (pi * ratio + 1.0 - pi)
    unit = side / np.sqrt(q * (1.0 - q))
    wealth = np.empty((len(BETS), *pi.shape))
    for place, bet in enumerate(BETS):
        shift = np.clip(bet * unit, -_LARGEST_SHIFT, _LARGEST_SHIFT)
        a, b = log_odds + (1.0 - pi) * shift, log_odds_c - pi * shift
        odds, odds_c = np.exp(a), np.exp(b)
        nearest, without, without_k = nearest_on_line(pi, odds, odds_c, ratio)
        none, none_c, log_level = -np.log1p(odds), -np.log1p(odds_c), np.log(nearest)
        wealth[place] = (
            events * (a + none - log_level - math.log(ratio))
            + others * (none - np.log(without_k))
            + events_c * (b + none_c - log_level)
            + others_c * (none_c - np.log(without))
        )
    return np.asarray(np.cumsum(wealth, axis=-2, out=wealth))


def _learned(
    events: FloatArray, others: FloatArray, control: int, ratio: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return θ, 1 − θ and 1 − ratio × θ: the most likely point of the line by earlier epochs.

    Both arms start with one user, of half an event, or what the line allows.
    """
    s = earlier(events) + min(ratio, 1.0) / 2.0
    f = earlier(others) + 1.0 - min(ratio, 1.0) / 2.0
    s_c = earlier(events[..., [control]]) + min(1.0 / ratio, 1.0) / 2.0
    f_c = earlier(others[..., [control]]) + 1.0 - min(1.0 / ratio, 1.0) / 2.0
    users, users_c = s + f, s_c + f_c
    return nearest_on_line(users / (users + users_c), s / f, s_c / f_c, ratio)
