"""What each method of inference says at each look of many runs, and whether it is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import Experiment
from bandit.inference.any_time import any_time
from bandit.inference.fixed_time import fixed_time
from bandit.inference.observed import Observed
from bandit.inference.scores import running_scores
from bandit.inference.shares import arm_share, decision_level, fixed_time_level, planned_pair_users
from bandit.inference.welch import welch_p_value
from simulations.decisions import evidence

SINGLE_LEVEL = 0.05
"""Coverage and widths are those of 95 % intervals of single arms, whatever the number of arms."""


@dataclass(frozen=True, slots=True)
class Looks:
    """All treatments against control at every look, arrays of shape (n_runs, n_looks, n_treatments).

    Attributes:
        truth: The effect that the interval is about: averaged over the users so far by the weights of the estimate.
        welch_p: Welch's p-value of the true effect.
        fixed_low: Lower end of the fixed-time interval; those of all arms are together right with 1 − alpha.
        fixed_high: Upper end.
        single_low: Lower end of the fixed-time interval of 95 %.
        single_high: Upper end.
        low: Lower end of the any-time interval.
        high: Upper end.
        log_better: ln of the e-value on which "better" is decided.
        log_worse: The same for "worse".
        readable: Whether there are data enough for a normal approximation.
    """

    truth: FloatArray
    welch_p: FloatArray
    fixed_low: FloatArray
    fixed_high: FloatArray
    single_low: FloatArray
    single_high: FloatArray
    low: FloatArray
    high: FloatArray
    log_better: FloatArray
    log_worse: FloatArray
    readable: BoolArray

    @classmethod
    def of_last(cls, parts: Sequence[Looks]) -> Looks:
        """Return the last look of each part, one after the other."""
        return cls(**{f.name: np.stack([getattr(part, f.name)[:, -1] for part in parts], 1) for f in fields(cls)})


def looks_at(experiment: Experiment, observed: Observed, effects: FloatArray) -> Looks:
    """Return what the methods say after each epoch.

    Args:
        experiment: Control, levels; larger is better.
        observed: The goal in many runs.
        effects: True mean of each arm minus control's, by epoch, shape (n_epochs, n_arms).
    """
    control = experiment.control
    scores = running_scores(observed, control)
    sequence = any_time(observed, scores, control, arm_share(experiment), planned_pair_users(experiment))
    better, worse = evidence(experiment, observed, scores, sequence)
    truth = _average(scores.h, effects)
    family, single = fixed_time(scores, fixed_time_level(experiment)), fixed_time(scores, SINGLE_LEVEL)
    treatments = np.delete(np.arange(experiment.n_arms), control)
    return Looks(
        truth=truth[..., treatments],
        welch_p=_welch_p(observed, control, truth)[..., treatments],
        fixed_low=family.low[..., treatments],
        fixed_high=family.high[..., treatments],
        single_low=single.low[..., treatments],
        single_high=single.high[..., treatments],
        low=sequence.low[..., treatments],
        high=sequence.high[..., treatments],
        log_better=better[..., treatments],
        log_worse=worse[..., treatments],
        readable=sequence.readable[..., treatments],
    )


def verdicts(
    experiment: Experiment, looks: Looks, effects: FloatArray, users: IntArray, welch_width: FloatArray
) -> Mapping[str, FloatArray]:
    """Return one number per run for each question, nan where it does not arise.

        welch_looks     Welch's 95 % interval of some arm misses the truth at some look
        welch_end       … at the end
        fixed_looks     the fixed-time interval of some arm (levels together 1 − alpha) misses it at some look;
                        looks and arms with too few events are left out
        fixed_end       … at the end
        any_time        the any-time interval of some arm misses it at some look
        decision        some arm is at some look declared better, or worse, that never is
        wrong_deploy    some arm is at some look declared better that never is
        coverage        share of arms whose fixed-time 95 % interval holds the truth at the end, likewise
        coverage_all    the same of all arms, also those with too few events
        fixed_width     width of that, against Welch's after an equal split of the same users
        any_time_width  width of the any-time interval at the end, likewise
        readable        share of arms with events enough at the end
        decided         the best arm is at some look declared better
        decided_users   users by then, all of them where it never is
        decided_end     the best arm is declared better at the end
        interval_decided, interval_users   the same by the any-time interval: it excludes 0 from below

    Args:
        experiment: Levels.
        looks: From `looks_at`.
        effects: True effects of the treatments by epoch, shape (n_epochs, n_treatments).
        users: Users by each look, shape (n_looks,).
        welch_width: Width of Welch's 95 % interval after an equal split, shape (n_treatments,).
    """
    return {
        **_errors(experiment, looks, effects),
        **_widths(looks, welch_width),
        **_power(experiment, looks, effects, users),
    }


def _errors(experiment: Experiment, looks: Looks, effects: FloatArray) -> dict[str, FloatArray]:
    threshold = -math.log(decision_level(experiment))
    never_better, never_worse = (effects <= 0.0).all(axis=0), (effects >= 0.0).all(axis=0)
    better = (looks.log_better >= threshold) & never_better
    worse = (looks.log_worse >= threshold) & never_worse
    welch = looks.welch_p <= SINGLE_LEVEL
    fixed = _missed(looks.fixed_low, looks.fixed_high, looks.truth) & looks.readable
    readable = looks.readable[:, -1]
    return {
        "welch_looks": _any(welch),
        "welch_end": _any(welch[:, -1:]),
        "fixed_looks": _any(fixed),
        "fixed_end": np.where(readable.any(axis=-1), fixed[:, -1].any(axis=-1), np.nan),
        "any_time": _any(_missed(looks.low, looks.high, looks.truth)),
        "decision": _any(better | worse) if (never_better | never_worse).any() else _nothing(looks),
        "wrong_deploy": _any(better) if never_better.any() else _nothing(looks),
    }


def _widths(looks: Looks, welch_width: FloatArray) -> dict[str, FloatArray]:
    low, high, truth = looks.single_low[:, -1], looks.single_high[:, -1], looks.truth[:, -1]
    readable = looks.readable[:, -1]
    held = np.asarray(~_missed(low, high, truth), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        any_time_width = looks.high[:, -1] - looks.low[:, -1]
    return {
        "coverage": _mean_where(readable, held),
        "coverage_all": np.asarray(held.mean(axis=-1), dtype=np.float64),
        "fixed_width": _mean_where(readable, np.asarray((high - low) / welch_width)),
        "any_time_width": _mean_where(readable, np.asarray(any_time_width / welch_width)),
        "readable": np.asarray(readable.mean(axis=-1), dtype=np.float64),
    }


def _power(experiment: Experiment, looks: Looks, effects: FloatArray, users: IntArray) -> dict[str, FloatArray]:
    most = effects.max(axis=0)
    if most.max() <= 0.0:
        return {}
    best = int(most.argmax())
    by_e = looks.log_better[..., best] >= -math.log(decision_level(experiment))
    by_interval = looks.low[..., best] > 0.0
    return {
        "decided": np.asarray(by_e.any(axis=1), dtype=np.float64),
        "decided_users": _first(by_e, users),
        "decided_end": by_e[:, -1].astype(np.float64),
        "interval_decided": np.asarray(by_interval.any(axis=1), dtype=np.float64),
        "interval_users": _first(by_interval, users),
    }


def _welch_p(observed: Observed, control: int, truth: FloatArray) -> FloatArray:
    n, z, z2 = (np.cumsum(sums, axis=-2) for sums in (observed.n, observed.z, observed.z2))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = z / n
        error2 = np.maximum(z2 - n * mean**2, 0.0) / (n - 1.0) / n
        difference = mean - mean[..., [control]] - truth
        return welch_p_value(np.asarray(difference), error2, error2[..., [control]], n, n[..., [control]])


def _average(h: FloatArray, effects: FloatArray) -> FloatArray:
    """Return the effect averaged over epochs by what each added to the running sum of weights."""
    weights = np.diff(h, axis=-2, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.cumsum(weights * effects, axis=-2) / h)


def _missed(low: FloatArray, high: FloatArray, truth: FloatArray) -> BoolArray:
    """Whether an interval does not hold the truth; one that does not exist (nan) misses nothing."""
    return np.asarray((low > truth) | (high < truth))


def _any(wrong: BoolArray) -> FloatArray:
    return np.asarray(wrong.any(axis=(1, 2)), dtype=np.float64)


def _nothing(looks: Looks) -> FloatArray:
    return np.full(len(looks.truth), np.nan)


def _mean_where(readable: BoolArray, values: FloatArray) -> FloatArray:
    """Return the mean over readable arms per run, nan without one."""
    count = readable.sum(axis=-1)
    total = np.where(readable, values, 0.0).sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))


def _first(decided: BoolArray, users: IntArray) -> FloatArray:
    """Return the users by the first look that decided, all of them where none did."""
    first = np.where(decided.any(axis=1), decided.argmax(axis=1), len(users) - 1)
    return users[first].astype(np.float64)
