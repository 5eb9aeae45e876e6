r"""Bounded e-process: is an arm's mean above or below a multiple of control's, exactly, using how little users vary.

Setting as in `label.py`: given the past, a user of the pair (arm k, control c) has label k with the known probability
π, and an outcome y in [0, 1] of mean θ_k or θ_c, unknown and free to drift. To be rejected is "θ_k(i) <= r θ_c(i) for
every i", r > 0. The label e-process bets as if outcomes were 0 or 1; where they vary less than that, as ratings and
costs do, it wastes most of what they say. This one bets on a score with guesses m_k, m_c from earlier epochs,

    s = 1{k} (1−π)(y − m_k) − r 1{c} π (y − m_c) + π(1−π)(m_k − r m_c),      B = −min s over all y in [0, 1].

Claim. For 0 <= λ < 1 and x = s/B the factor exp(λx − ψ(λ) x²), ψ(λ) = −ln(1−λ) − λ, has mean at most 1 given the past,
so the product of factors reaches 1/α at any time with probability at most α (Ville 1939).

Proof. (1) E[s | past] = π(1−π)(θ_k − m_k) − r π(1−π)(θ_c − m_c) + π(1−π)(m_k − r m_c) = π(1−π)(θ_k − r θ_c) <= 0.
(2) x >= −1 by the choice of B, which is known before the user.
(3) (ln(1 + λx) − λx)/x² rises in x >= −1, and is −ψ(λ) at x = −1; so λx − ψ(λ)x² <= ln(1 + λx).
(4) Hence the factor is at most 1 + λx, whose mean is at most 1 by (1). ∎

The logarithm of the factor is linear in y and y², so it adds up from the ledger's sums. The other side, "θ_k >= r θ_c",
is tested by −s.

Source: Fan, Grama, Liu (2015), Exponential inequalities for martingales with applications, for (3); Howard, Ramdas,
McAuliffe, Sekhon (2021) for empirical-Bernstein e-processes.
"""

from __future__ import annotations

import math

import numpy as np

from bandit.arrays import FloatArray
from bandit.inference.observed import Observed, earlier, pair_shares

STAKES = (0.005, 0.015, 0.04, 0.1, 0.25, 0.6, 0.9)
"""Values of λ that the mixture is of."""

_PRIOR_USERS = 0.1
"""Users in the middle of the bounds that keep a guess off their ends. Nothing is bet before both arms have real ones:
a guess far off would cost more than an epoch can win."""


def log_wealths_above(observed: Observed, control: int, ratio: float = 1.0) -> FloatArray:
    """Return the log-wealths of bets against "the arm's mean is at no time above ratio × control's".

    Args:
        observed: A measure with bounds; the lower one 0 unless the ratio is 1.
        control: Index of control.
        ratio: Above 0.

    Returns:
        After each epoch, shape (n_bets, ..., n_epochs, n_arms); their `log_mean` is ln E. Control's own column means
        nothing.
    """
    return _log_wealths(observed, control, ratio, 1.0)


def log_wealths_below(observed: Observed, control: int, ratio: float = 1.0) -> FloatArray:
    """Return the log-wealths of bets against "the arm's mean is at no time below ratio × control's"; else as above."""
    return _log_wealths(observed, control, ratio, -1.0)


def _log_wealths(observed: Observed, control: int, ratio: float, side: float) -> FloatArray:
    observed = observed.with_known_p
    pi = pair_shares(observed.p, control)
    rest = 1.0 - pi
    n, u, u2 = observed.n, observed.shares, observed.squared_shares
    before = earlier(n)
    known = (before > 0.0) & (before[..., [control]] > 0.0)
    guess = (earlier(u) + 0.5 * _PRIOR_USERS) / (before + _PRIOR_USERS)
    n_c, u_c, u2_c, guess_c = (sums[..., [control]] for sums in (n, u, u2, guess))

    fixed = pi * rest * (guess - ratio * guess_c)
    if side > 0.0:
        bound = np.maximum(rest * guess, ratio * pi * (1.0 - guess_c)) - fixed
    else:
        bound = np.maximum(rest * (1.0 - guess), ratio * pi * guess_c) + fixed
    residual, square = u - n * guess, u2 - 2.0 * guess * u + n * guess * guess
    residual_c, square_c = u_c - n_c * guess_c, u2_c - 2.0 * guess_c * u_c + n_c * guess_c * guess_c
    moved, moved_c = rest * residual, -ratio * pi * residual_c
    scores = (moved + moved_c + (n + n_c) * fixed) / bound
    squares = rest * rest * square + (ratio * pi) ** 2 * square_c + 2.0 * fixed * (moved + moved_c)
    squares = np.maximum(squares + (n + n_c) * fixed * fixed, 0.0) / (bound * bound)

    wealth = np.empty((len(STAKES), *pi.shape))
    for place, stake in enumerate(STAKES):
        wealth[place] = known * (side * stake * scores + (math.log1p(-stake) + stake) * squares)
    return np.asarray(np.cumsum(wealth, axis=-2, out=wealth))
