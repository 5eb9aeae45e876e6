r"""Mixture e-process: is an arm's rate above or below a fixed limit, exactly, at any time.

Setting. Outcomes y_i in [0, 1], one per user, with mean θ_i given the past. For a rate θ > t the likelihood ratio of a
user against the limit t is

    f_θ = (θ/t)^y ((1 − θ)/(1 − t))^(1−y).

Claim. If θ_i <= t for every i, then ∏ f_θ, mixed over any law of θ on (t, 1), is a non-negative supermartingale from 1,
and reaches 1/b at any time with probability at most b (Ville 1939).

Proof. f_θ is convex in y, hence at most its chord y θ/t + (1−y) (1−θ)/(1−t) on [0, 1]. The chord rises in y, since
θ/t > 1 > (1−θ)/(1−t), so its mean is largest at θ_i = t, where it is θ + (1−θ) = 1. Mixing keeps the property. ∎

With a Beta(a, b) law cut to θ > t the mixture has a closed form in the number of users N and the sum of outcomes S:

    E = t^−S (1−t)^−(N−S) · B(a+S, b+N−S) / B(a, b) · P(Beta(a+S, b+N−S) > t) / P(Beta(a, b) > t),

so it adds up over epochs and does not depend on the order of users. The mirror tests "at or above the limit".

Sources: Robbins (1970) for mixtures, Ramdas, Grünwald, Vovk, Shafer (2023) for e-processes; the cut at the limit makes
one mixture valid for all rates on the right side of it.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray

_UNDERFLOW = 1e-250  # tails below are computed as logarithms
_TERMS = 60  # of the continued fraction, which converges fast there
_HALVINGS = 45


def log_e_above_limit(n: FloatArray, s: FloatArray, limit: float) -> FloatArray:
    """Return ln E against "the rate is at no time above the limit".

    The rates it is tuned to follow Beta(2, 1/limit), about twice the limit.

    Args:
        n: Users, 0 or more, any shape.
        s: Sum of their outcomes, 0 to n, same shape.
        limit: In (0, 1).

    Returns:
        Same shape.
    """
    return _log_mixture(s, n - s, limit, 1.0 - limit, 2.0, 1.0 / limit)


def log_e_below_limit(n: FloatArray, s: FloatArray, limit: float) -> FloatArray:
    """Return ln E against "the rate is at no time below the limit", tuned to Beta(1, 1/limit); else as above."""
    return _log_mixture(n - s, s, 1.0 - limit, limit, 1.0 / limit, 1.0)


def rate_interval(n: FloatArray, s: FloatArray, alpha: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """Return the any-time interval of a rate that stays the same: exact at all looks together.

    It holds the rates t that the same mixture, of all rates by Beta(1/2, 1/2), does not reject at 1/alpha:
    S ln t + (N−S) ln(1−t) > ln B(S+1/2, N−S+1/2) − ln B(1/2, 1/2) + ln alpha. The left side is concave in t, so both
    ends are found by halving.

    Args:
        n: Users, 0 or more, any shape.
        s: Sum of their outcomes, 0 to n, same shape.
        alpha: Error over all looks, in (0, 1), a number or of a shape that goes with `n`.

    Returns:
        Lower and upper ends, same shape; 0 and 1 without users.
    """
    f = n - s
    target = sc.betaln(s + 0.5, f + 0.5) - sc.betaln(0.5, 0.5) + np.log(alpha)
    peak = np.divide(s, n, out=np.full_like(n, 0.5), where=n > 0)

    out = np.stack([np.zeros_like(peak), np.ones_like(peak)])
    inside = np.stack([peak, peak])
    for _ in range(_HALVINGS):
        middle = (out + inside) / 2.0
        kept = sc.xlogy(s, middle) + sc.xlog1py(f, -middle) > target
        out, inside = np.where(kept, out, middle), np.where(kept, middle, inside)
    return out[0], out[1]


def _log_mixture(s: FloatArray, f: FloatArray, t: float, rest: float, a: float, b: float) -> FloatArray:
    """Return ln E of events s and non-events f against t, rest being 1 − t, by Beta(a, b) cut to rates above t."""
    x, y = a + s, b + f
    tail = sc.betaincc(x, y, t)
    far = tail < _UNDERFLOW
    near = sc.betaln(x, y) + np.log(np.where(far, 1.0, tail)) - s * np.log(t) - f * np.log(rest)
    if far.any():
        x, y = x[far], y[far]
        near[far] = a * np.log(t) + b * np.log(rest) - np.log(y) - np.log(_tail_fraction(y, x, rest))
    return np.asarray(near - sc.betaln(a, b) - np.log(sc.betaincc(a, b, t)))


def _tail_fraction(a: FloatArray, b: FloatArray, u: float) -> FloatArray:
    """Return u^a (1−u)^b / (a B(a, b) I_u(a, b)) for u far below a/(a+b): the continued fraction of I, DLMF 8.17.22."""
    value = np.ones_like(a)
    for term in range(_TERMS, 0, -1):
        m = term // 2
        if term % 2:
            d = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m))
        value = 1.0 + d * u / value
    return value
