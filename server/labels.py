"""What people say of interactions: labels, which tell how good a judge is.

A label is a value of a metric that a judge feeds, on the metric's own scale, so that both can be compared. It counts in
no reward: it corrects what the judge says.
"""

from __future__ import annotations

import csv
import random
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from bandit import Experiment, InvalidInput, InvalidReward, Problem
from bandit.rewards import MetricRules
from bandit.wording import listed, received
from server.operations import Desk, existing

COLUMNS = ("number", "metric", "value", "user_input", "model_output")
"""Of the CSV file in which people write labels; the texts are for them to read."""

LARGEST_NUMBER = 2**53
MOST_LABELS = 10_000
"""Labels that are stored together."""

MOST_FAULTS = 20
"""Faults of a file that are named."""


class Label(NamedTuple):
    """What somebody says of an interaction.

    Attributes:
        number: Of the interaction.
        metric: A metric that a judge feeds.
        value: On the metric's scale.
    """

    number: int
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class StoreLabels:
    """Labels, all of them or none; a label of before is replaced."""

    key: str
    labels: tuple[Label, ...]
    user_id: None = None

    def run(self, desk: Desk) -> int:
        """Return how many were stored.

        Raises:
            InvalidInput: An interaction is not there, or a metric or value is not allowed; each is named.
        """
        live = existing(desk, self.key)
        check(live.bandit.experiment, self.labels)
        db, now = desk.store.db, live.clock()
        problems = [
            Problem(f"labels[{place}].number", f"received {label.number}, and the experiment has no such interaction")
            for place, label in enumerate(self.labels)
            if db.execute(_THERE, (live.id, label.number)).fetchone() is None
        ]
        if problems:
            raise InvalidInput(problems)
        db.executemany(_STORE, [(live.id, *label, now) for label in self.labels])
        return len(self.labels)


def check(experiment: Experiment, labels: Sequence[Label]) -> None:
    """Check metrics and values.

    Raises:
        InvalidInput: A metric is fed by no judge, or cannot have the value; every fault is named.
    """
    fed = [metric for judge in experiment.judges for metric in judge.feeds]
    rules, problems = MetricRules(experiment), list[Problem]()
    if not 0 < len(labels) <= MOST_LABELS:
        problems.append(Problem("labels", f"received {len(labels)}, allowed: 1 to {MOST_LABELS}"))
    first: dict[tuple[int, str], int] = {}
    for place, label in enumerate(labels):
        before = first.setdefault((label.number, label.metric), place)
        if before != place:
            message = f"received what labels[{before}] says already, allowed: one label of an interaction and metric"
            problems.append(Problem(f"labels[{place}]", message))
            continue
        if not 1 <= label.number <= LARGEST_NUMBER:
            problems.append(Problem(f"labels[{place}].number", f"allowed: 1 to {LARGEST_NUMBER}"))
            continue
        if label.metric not in fed:
            allowed = f"metrics that a judge feeds: {listed(fed)}" if fed else "none, because no judge feeds a metric"
            problems.append(
                Problem(f"labels[{place}].metric", f"received {received(label.metric)}, allowed: {allowed}")
            )
            continue
        try:
            value = int(label.value) if label.value in (0.0, 1.0) else label.value
            rules.check({label.metric: value})
        except InvalidReward as error:
            problems.append(Problem(f"labels[{place}].value", error.problems[0].message))
    if problems:
        raise InvalidInput(problems)


def read_csv(file: IO[str]) -> tuple[Label, ...]:
    """Return the labels of a CSV file; rows without a value have none yet.

    Raises:
        InvalidInput: A column is missing, or a number is none; with its line.
    """
    rows = csv.DictReader(file)
    missing = [name for name in COLUMNS[:3] if name not in (rows.fieldnames or ())]
    if missing:
        raise InvalidInput([Problem("header", f"has no {listed(missing)}, allowed: {', '.join(COLUMNS)}")])
    labels, problems = [], []
    for row in rows:
        if not (row["value"] or "").strip():
            continue
        try:
            labels.append(Label(int(row["number"]), row["metric"] or "", float(row["value"])))
        except (ValueError, TypeError):
            shown = f"number {received(row['number'])}, value {received(row['value'])}"
            problems.append(Problem(f"line {rows.line_num}", f"received {shown}, allowed: numbers"))
    if problems:
        raise InvalidInput(problems[:MOST_FAULTS])
    return tuple(labels)


def to_label(
    db: sqlite3.Connection, number: int, experiment: Experiment, each: int, seed: int
) -> Iterator[tuple[object, ...]]:
    """Yield rows of `COLUMNS` for people to label: of each variant a simple random sample, in an order that hides it.

    Args:
        db: The store, for reading.
        number: The experiment's.
        experiment: It.
        each: Interactions of each variant and metric, at most.
        seed: Of the sample.
    """
    rng, rows = random.Random(seed), list[tuple[object, ...]]()  # noqa: S311 - a sample, no secret
    for judge in experiment.judges:
        for metric in judge.feeds:
            for arm in range(experiment.n_arms):
                found = [n for (n,) in db.execute(_UNLABELLED, (number, judge.key, arm, metric))]
                for n in rng.sample(found, min(each, len(found))):
                    texts = db.execute("SELECT user_input, model_output FROM interactions WHERE n = ?", (n,)).fetchone()
                    rows.append((n, metric, "", *texts))
    rng.shuffle(rows)
    yield from rows


_THERE = "SELECT 1 FROM interactions WHERE experiment = ? AND n = ?"
_STORE = "REPLACE INTO labels (experiment, n, metric, value, at) VALUES (?, ?, ?, ?, ?)"
_UNLABELLED = (
    "SELECT j.n FROM judgements j JOIN interactions i ON i.n = j.n"
    " WHERE j.experiment = ?1 AND j.judge = ?2 AND j.state = 'scored' AND i.arm = ?3 AND i.model_output IS NOT NULL"
    "   AND NOT EXISTS (SELECT 1 FROM labels l WHERE l.experiment = ?1 AND l.n = j.n AND l.metric = ?4) ORDER BY j.n"
)
