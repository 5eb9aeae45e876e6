"""How good judges are beside people, and what their scores come to once corrected by labels."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from bandit import Experiment
from bandit.experiment import Judge
from bandit.inference.agreement import (
    Agreement,
    BiasDrift,
    DifferentialBias,
    VerbosityBias,
    agreement,
    bias_drift,
    differential_bias,
    verbosity_bias,
)
from bandit.inference.prediction_powered import (
    Estimate,
    JudgedItems,
    PredictionPowered,
    PredictionPoweredDifference,
    Refusal,
    prediction_powered_difference,
    prediction_powered_mean,
)
from bandit.report.document import Judged, JudgedEstimate
from server.reading import restored


@dataclass(frozen=True, slots=True)
class MetricQuality:
    """A judge beside people, on one metric.

    Attributes:
        judge: Its key.
        version: Its version.
        metric: The metric.
        n_scored: Scored interactions of the variants' present versions.
        agreement: With the labels; None without labels.
        bias_differs: Whether the bias in a variant differs from that in control, by variant with labels.
        drift: Whether the bias changed over time; None without labels.
        verbosity: Whether judge − people goes with the length of the answer; None without labels of answers that are
            still there.
        means: By variant the mean of the metric over users, corrected, or why there is none. Without interactions
            whose texts were erased: nobody could have labelled them, so labels say nothing of them.
        differences: By variant but control the difference to control, corrected, or why there is none; likewise.
    """

    judge: str
    version: str
    metric: str
    n_scored: int
    agreement: Agreement | None
    bias_differs: dict[str, DifferentialBias]
    drift: BiasDrift | None
    verbosity: VerbosityBias | None
    means: dict[str, PredictionPowered | Refusal]
    differences: dict[str, PredictionPoweredDifference | Refusal]


def judge_quality(db: sqlite3.Connection, key: str) -> list[MetricQuality]:
    """Return how good the judges of an experiment are, metric by metric.

    Scores of one judge in its one version alone are put together, and of a variant only those of its present version.

    Raises:
        UnknownExperiment: There is none with this key.
    """
    stored, bandit = restored(db, key)
    experiment = bandit.experiment
    present = [len(bandit.versions(arm)) for arm in experiment.arms]
    return [
        _quality(experiment, judge, metric, *_rows(db, stored.id, judge, metric, present))
        for judge in experiment.judges
        for metric in judge.feeds
    ]


def judged(db: sqlite3.Connection, key: str) -> tuple[Judged, ...]:
    """Return what a report says of judges: those whose scores people labelled.

    Raises:
        UnknownExperiment: There is none with this key.
    """
    any_label = "SELECT 1 FROM labels JOIN experiments e ON e.id = labels.experiment WHERE e.key = ? LIMIT 1"
    if db.execute(any_label, (key,)).fetchone() is None:  # most experiments: their scores need not be read
        return ()
    return tuple(
        Judged(
            one.judge, one.version, one.metric, one.n_scored, found.n, found.accuracy.share, found.bias.mean,
            (
                *(_estimate(name, mean, difference=False) for name, mean in one.means.items()),
                *(_estimate(name, each, difference=True) for name, each in one.differences.items()),
            ),
        )
        for one in judge_quality(db, key)
        if (found := one.agreement) is not None
    )  # fmt: skip


def _estimate(
    name: str, found: PredictionPowered | PredictionPoweredDifference | Refusal, *, difference: bool
) -> JudgedEstimate:
    if isinstance(found, Refusal):
        return JudgedEstimate(name, difference, None, None, None, None, None, None, (found.reason,))

    def both(estimate: Estimate) -> tuple[float, tuple[float, float]]:
        return estimate.value, estimate.interval

    each = *both(found.judge_only), *both(found.labels_only), *both(found.corrected)
    return JudgedEstimate(name, difference, *each, found.reasons)


@dataclass(frozen=True, slots=True)
class _Scored:
    """Scored interactions, as columns."""

    arm: np.ndarray[Any, np.dtype[np.int64]]
    user: np.ndarray[Any, np.dtype[np.str_]]
    at: np.ndarray[Any, np.dtype[np.float64]]
    judge: np.ndarray[Any, np.dtype[np.float64]]
    human: np.ndarray[Any, np.dtype[np.float64]]
    """NaN without a label."""
    length: np.ndarray[Any, np.dtype[np.float64]]
    """Characters of the answer; NaN where it was erased."""


def _rows(db: sqlite3.Connection, number: int, judge: Judge, metric: str, present: list[int]) -> tuple[str, _Scored]:
    rows = [
        row
        for row in db.execute(
            "SELECT i.arm, i.version, i.user_id, i.at, j.scores, l.value, length(i.model_output), j.version"
            "  FROM judgements j"
            "  JOIN interactions i ON i.n = j.n"
            "  LEFT JOIN labels l ON l.experiment = j.experiment AND l.n = j.n AND l.metric = ?"
            " WHERE j.experiment = ? AND j.judge = ? AND j.state = 'scored' AND i.arm IS NOT NULL ORDER BY j.n",
            (metric, number, judge.key),
        )
        if row[1] == present[row[0]]
    ]
    feed = judge.feeds[metric]
    return (rows[-1][-1] if rows else "", _Scored(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.str_),
        np.array([row[3] for row in rows], dtype=np.float64),
        np.array([feed.value(msgspec.json.decode(row[4])[feed.score]) for row in rows], dtype=np.float64),
        *(np.array([np.nan if row[k] is None else row[k] for row in rows], dtype=np.float64) for k in (5, 6)),
    ))  # fmt: skip


def _quality(experiment: Experiment, judge: Judge, metric: str, version: str, found: _Scored) -> MetricQuality:
    labelled = ~np.isnan(found.human)
    human, scores, arm = found.human[labelled], found.judge[labelled], found.arm[labelled]
    arms, control = experiment.arms, experiment.control
    items = {k: _items(found, labelled, k) for k in range(experiment.n_arms)}
    means = {name: _mean(items[k]) for k, name in enumerate(arms)}
    differences = {name: _difference(items[k], items[control]) for k, name in enumerate(arms) if k != control}
    some = bool(labelled.any())
    told = labelled & ~np.isnan(found.length)
    verbosity = verbosity_bias(found.human[told], found.judge[told], found.length[told]) if told.any() else None
    differs = differential_bias(human, scores, arm, control) if some and (arm == control).any() else ()
    return MetricQuality(
        judge.key, version, metric, len(found.arm), agreement(human, scores, arm) if some else None,
        {arms[one.variant]: one for one in differs},
        bias_drift(human, scores, found.at[labelled]) if some else None, verbosity, means, differences,
    )  # fmt: skip


def _items(found: _Scored, labelled: np.ndarray[Any, np.dtype[np.bool_]], arm: int) -> JudgedItems | None:
    shown = (found.arm == arm) & ~np.isnan(found.length)
    mine, others = labelled & shown, ~labelled & shown
    if not mine.any():
        return None
    return JudgedItems(
        found.human[mine], found.judge[mine], found.judge[others], user=found.user[mine],
        unlabelled_user=found.user[others],
    )  # fmt: skip


def _mean(arm: JudgedItems | None) -> PredictionPowered | Refusal:
    return Refusal("no label") if arm is None else prediction_powered_mean(arm)


def _difference(arm: JudgedItems | None, control: JudgedItems | None) -> PredictionPoweredDifference | Refusal:
    if arm is None or control is None:
        return Refusal("no label")
    return prediction_powered_difference(arm, control)
