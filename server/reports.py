"""The report of a stored experiment: the engine's, and what people's labels say of its judges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bandit import Report
from server.judge_quality import judged
from server.reading import restored, snapshot


def report(path: Path, key: str) -> Report:
    """Return the report of an experiment.

    Raises:
        UnknownExperiment: There is none with this key.
    """
    with snapshot(path) as db:
        _, bandit = restored(db, key)
        beside_people = judged(db, key)
    return replace(bandit.report(), judged=beside_people)
