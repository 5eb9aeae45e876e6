"""When runs decide, and what: the report's rule on the goal, at every closing of an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.experiment import Experiment
from bandit.inference.any_time import AnyTime, any_time
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.exact import log_e_higher, log_e_lower
from bandit.inference.observed import Observed
from bandit.inference.scores import Scores, running_scores
from bandit.inference.shares import arm_share, decision_level, planned_pair_users
from bandit.report.goal import wanted_ratio
from simulations.records import Record, Tape, observed_of

_CHUNK = 200
"""Runs that are read together: bounds memory."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """When each run would have been decided.

    A run is decided when the evidence first says that a treatment which is not suspended is better than control, or
    that every treatment is worse, has no gain of `mde`, or is suspended. Ages, the last seven days and certificates
    of guardrails, which the report also wants to see before it says "deploy", are left out: there is no clock.

    Attributes:
        users: Users of the run by then, shape (n_runs,); inf: not by its horizon.
        better: Which treatments were better at that look, shape (n_runs, n_arms); none: keep control, or not decided.
    """

    users: FloatArray
    better: BoolArray


def decisions(experiment: Experiment, tape: Tape) -> Decisions:
    """Return when runs were decided, and for whom.

    Args:
        experiment: What was asked.
        tape: Its runs.
    """
    record, suspended = tape.record, np.stack(tape.suspended, axis=1)
    parts = [
        _decided(experiment, record.runs(slice(start, start + _CHUNK)), suspended[start : start + _CHUNK])
        for start in range(0, len(record.p), _CHUNK)
    ]
    return Decisions(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _decided(experiment: Experiment, record: Record, suspended: BoolArray) -> tuple[FloatArray, BoolArray]:
    control = experiment.control
    observed = observed_of(experiment, record)
    scores, share, planned = running_scores(observed, control), arm_share(experiment), planned_pair_users(experiment)
    sequence = any_time(observed, scores, control, share, planned)
    to_mde = any_time(observed, scores, control, share, planned, wanted_ratio(experiment, observed))
    higher, lower = evidence(experiment, observed, scores, sequence)
    threshold = -math.log(decision_level(experiment))
    with np.errstate(invalid="ignore"):
        if experiment.goal.better == "higher":
            up, down, too_small = sequence.difference > 0.0, sequence.difference < 0.0, to_mde.high < 0.0
        else:
            higher, lower = lower, higher
            up, down, too_small = sequence.difference < 0.0, sequence.difference > 0.0, to_mde.low > 0.0
    out = np.asarray(((lower >= threshold) & down) | too_small | suspended)
    better = np.asarray((higher >= threshold) & up & ~out)
    better[..., control], out[..., control] = False, True
    decided = np.asarray(better.any(axis=-1) | out.all(axis=-1))
    first = decided.argmax(axis=1)
    runs = np.arange(len(first))
    ever = decided[runs, first]
    users = np.where(ever, record.ends[first].astype(np.float64), math.inf)
    return users, better[runs, first] & ever[:, np.newaxis]


def evidence(
    experiment: Experiment, observed: Observed, scores: Scores, sequence: AnyTime
) -> tuple[FloatArray, FloatArray]:
    """Return ln E for "higher" and for "lower" than control after each epoch, as the decision rule reads them.

    The exact e-process where outcomes are bounded, else the one-sided confidence sequence.
    """
    if observed.bounds is not None:
        return log_e_higher(observed, experiment.control), log_e_lower(observed, experiment.control)
    rho2 = tuning(arm_share(experiment), planned_pair_users(experiment))
    error = scores.standard_error()
    z = np.divide(sequence.difference, error, out=np.zeros_like(error), where=sequence.readable)
    better, worse = (one_sided_log_e_value(side * z, scores.t, rho2) for side in (1.0, -1.0))
    return np.where(sequence.readable, better, 0.0), np.where(sequence.readable, worse, 0.0)
