"""Whether the values of a log are such as its experiment allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bandit.experiment import Experiment
from bandit.measures import metric_bounds, metric_kinds
from simulations.logs.faults import Faults
from simulations.logs.log import Log


def columns_of(experiment: Experiment) -> frozenset[str]:
    """Return the columns that an experiment's metrics may stand in: their own names and their fields'."""
    rails = experiment.guardrails
    return frozenset({experiment.goal.metric, *(r.metric for r in rails), *(r.field_name for r in rails)})


def with_fields(log: Log, experiment: Experiment) -> Log:
    """Return the log with the columns of guardrails' fields under the names of their metrics."""
    fields = {
        rail.metric: log.metrics[rail.field_name]
        for rail in experiment.guardrails
        if rail.metric not in log.metrics and rail.field_name in log.metrics
    }
    return replace(log, metrics={**log.metrics, **fields})


def check_values(log: Log, experiment: Experiment) -> None:
    """Refuse values that a metric of the experiment cannot have.

    Raises:
        InvalidLog: With the lines of the first 20.
    """
    faults = Faults()
    for metric, kind in metric_kinds(experiment).items():
        if metric not in log.metrics:
            continue
        found = log.metrics[metric]
        low, high = (0.0, 1.0) if kind == "binary" else metric_bounds(experiment, metric)
        wrong = (found < low) | (found > high)
        allowed = f"a number from {low:g} to {high:g}, as the experiment says"
        if kind == "binary":
            wrong |= (found > 0.0) & (found < 1.0)
            allowed = "0, 1, true, false, or nothing, as the metric is binary"
        for index in np.flatnonzero(wrong):
            faults.add(int(log.lines[index]), metric, f"received {found[index]:g}, allowed: {allowed}")
    faults.refuse_any()
