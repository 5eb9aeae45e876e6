"""Users of an arm until a guardrail is certified: until an e-process against "at or beyond the limit" reaches 1/level.

Each size is on the expected path: the users at which the e-value reaches 1/level when every sum is what it is expected
to be. In simulations five to six in ten arms are certified by then. All sizes are None where the evidence does not
grow, however many users come: at or beyond the limit always, and for bets of fixed sizes also too near to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.special as sc

from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.exact import log_wealths_above_ratio, log_wealths_below_ratio
from bandit.inference.observed import Observed
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit
from bandit.measures import BETTING_FRACTIONS
from bandit.planning.smallest import MOST_USERS, smallest

_LEARNED_FROM = 1e6  # users, and events / 100, after which a level is known well enough for a plan


def users_for_rate(expected: float, limit: float, level: float, *, above: bool = False) -> int | None:
    """Return the users of an arm that certify that a rate is below a limit.

    Args:
        expected: Expected rate, 0 to 1.
        limit: Above 0; from 1 on, which a tolerance may lead to, every rate keeps it.
        level: The e-value has to reach 1/level.
        above: Whether the rate has to be shown to be above the limit.
    """
    if limit >= 1.0 and not above:
        return 1
    if not (expected > limit if above else expected < limit):
        return None
    needed, log_e = -math.log(level), log_e_above_limit if above else log_e_below_limit
    return smallest(lambda n: float(log_e(np.array([float(n)]), np.array([n * expected]), limit)[0]) >= needed)


def users_for_bounded_mean(
    expected: float, sd: float, limit: float, cap: float, level: float, tolerance: float = 0.0
) -> int | None:
    """Return the users of an arm that certify a mean against a limit, by bets that a cap makes possible.

    Approximate: a bet λ(y/M − 1), M = limit × (1 + tolerance), is taken to grow by its first two moments,
    λm − λ²(m² + s²)/2 per user with m = expected/M − 1 and s = sd/M.

    Args:
        expected: Expected mean, 0 or more.
        sd: Standard deviation of a user's outcome.
        limit: As declared, above 0; the bets were made for it.
        cap: Largest outcome, above the limit.
        level: As above.
        tolerance: Part of the limit that may be added.
    """
    certified = limit * (1.0 + tolerance)
    if cap <= certified:
        return 1  # no mean is above it
    if expected >= certified:
        return None
    declared = [-fraction / (cap / limit - 1.0) for fraction in BETTING_FRACTIONS]
    stakes = [stake * (1.0 + tolerance) / (1.0 + stake * tolerance) for stake in declared]
    mean, spread = expected / certified - 1.0, sd / certified
    return _users_for_growth([stake * mean - stake**2 * (mean**2 + spread**2) / 2.0 for stake in stakes], level)


def users_for_mean(margin: float, variance: float, level: float, planned: float, per_user: float = 1.0) -> int | None:
    """Return the users of an arm that certify that a mean is below a limit, by the confidence sequence.

    Approximate, as the sequence is asymptotic. About 2.4 ln(1/level) variance / margin² where the sequence is tuned to
    half of that; a test that knew the mean would need 2 ln(1/level).

    Args:
        margin: Limit − expected mean.
        variance: Of the estimate × users of the arm.
        level: As above.
        planned: Users that the sequence is tuned to …
        per_user: … and how many of those it counts come with a user of the arm: 1, or with control's 1/the arm's share.
    """
    if margin <= 0:
        return None
    rho2 = tuning(2.0 * level, planned)

    def log_e(users: int) -> float:
        return float(one_sided_log_e_value(margin * math.sqrt(users / variance), users * per_user, rho2))

    return smallest(lambda users: log_e(users) >= -math.log(level))


def users_for_ratio(
    ratio: float,
    limit: float,
    base: float,
    share: float,
    level: float,
    *,
    above: bool = False,
    sd: float | None = None,
) -> int | None:
    """Return the users of an arm that certify a rate, or a mean with a cap, relative to control's, by exact bets.

    Approximate: each bet is taken to grow all the time as it does once it has learned the level, and the shares to
    stay as they are.

    Args:
        ratio: Expected rate of the arm / that of control, 0 or more; ratio × base at most 1.
        limit: Largest ratio allowed, above 0; with `above` the smallest.
        base: Control's rate in (0, 1]; for a mean with a cap, control's mean / cap.
        share: The arm's share of the pair, in (0, 1).
        level: As above.
        above: Whether the ratio has to be shown to be above the limit.
        sd: For a mean, the standard deviation of a user's outcome / cap, in both arms; None: outcomes are 0 or 1.
            Users of the first epoch, on whom these bets do not yet bet, come on top.
    """
    if not (ratio > limit if above else ratio < limit):
        return None
    # Two epochs of the expected sums, control first: the level is learned in the first, and the second is measured.
    users = max(_LEARNED_FROM, _LEARNED_FROM / 100.0 / base)
    p = np.array([[1.0 - share, share]] * 2)
    means = np.array([base, base * ratio])
    events = users * p * means
    squares = events if sd is None else users * p * np.minimum(means**2 + sd**2, means)
    observed = Observed(p, users * p, events, squares, events, 0.0, (0.0, 1.0), exact=True, fractional=sd is not None)
    log_wealths = log_wealths_above_ratio if above else log_wealths_below_ratio
    wealth = log_wealths(observed, 0, limit)[..., 1]
    return _users_for_growth(list((wealth[:, 1] - wealth[:, 0]) / (users * share)), level)


def _users_for_growth(growth: Sequence[float], level: float) -> int | None:
    """Return the smallest n at which the mean of exp(n g) over the bets reaches 1/level."""
    best, needed = max(growth), -math.log(level)
    if best <= 0 or (needed + math.log(len(growth))) / best > MOST_USERS:
        return None
    rates = np.asarray(growth)
    return smallest(lambda n: float(sc.logsumexp(n * rates)) - math.log(len(growth)) >= needed)
