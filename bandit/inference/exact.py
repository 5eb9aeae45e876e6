"""Exact evidence on an arm against control, for outcomes with bounds: one mixture over all bets that fit.

Bets on the label (`label.py`, `ratio_limit.py`) are best where outcomes are 0 or 1. For outcomes inside the bounds
those of `bounded.py` join them: ratings from 1 to 5 that vary by 0.8 need a third of the users, costs far below their
cap much less. The mean of all wealths is a wealth, so nobody has to know which bet is right, and a wrong one costs no
more than the logarithm of their number.
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import FloatArray
from bandit.inference import bounded, label, ratio_limit
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed


def log_e_higher(observed: Observed, control: int) -> FloatArray:
    """Return ln E against "the arm's mean is at no time above control's", after each epoch.

    Args:
        observed: A measure with bounds.
        control: Index of control.

    Returns:
        Shape (..., n_epochs, n_arms); control's own column means nothing.
    """
    bets = [label.log_wealths_higher(observed, control)]
    if observed.fractional:
        bets.append(bounded.log_wealths_above(observed, control))
    return log_mean(np.concatenate(bets))


def log_e_lower(observed: Observed, control: int) -> FloatArray:
    """Return ln E against "the arm's mean is at no time below control's". As `log_e_higher`."""
    bets = [label.log_wealths_lower(observed, control)]
    if observed.fractional:
        bets.append(bounded.log_wealths_below(observed, control))
    return log_mean(np.concatenate(bets))


def log_wealths_above_ratio(observed: Observed, control: int, ratio: float) -> FloatArray:
    """Return the log-wealths of bets against "the arm's mean is at no time above ratio × control's".

    Args:
        observed: A measure with bounds, the lower one 0: a ratio of means has a meaning there only.
        control: Index of control.
        ratio: Above 0.

    Returns:
        After each epoch, shape (n_bets, ..., n_epochs, n_arms); their `log_mean` is ln E. Control's own column means
        nothing.
    """
    bets = [ratio_limit.log_wealths_above_ratio(observed, control, ratio)]
    if observed.fractional:
        bets.append(bounded.log_wealths_above(observed, control, ratio))
    return np.concatenate(bets)


def log_wealths_below_ratio(observed: Observed, control: int, ratio: float) -> FloatArray:
    """Return the log-wealths of bets against "the arm's mean is at no time below ratio × control's"; else as above."""
    bets = [ratio_limit.log_wealths_below_ratio(observed, control, ratio)]
    if observed.fractional:
        bets.append(bounded.log_wealths_below(observed, control, ratio))
    return np.concatenate(bets)
