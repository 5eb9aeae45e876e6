"""Labels between files and a store, while a server works on it."""

from __future__ import annotations

import asyncio
import csv
from contextlib import closing
from pathlib import Path

from server.labels import COLUMNS, Label, StoreLabels, to_label
from server.reading import restored
from server.schema import open_stored
from server.store import Store
from server.writer import Writer

PATIENCE = 10.0
"""Seconds that labels wait for the store."""


def write_to_label(path: Path, key: str, out: Path, each: int, seed: int) -> int:
    """Write interactions for people to label, and return how many.

    Args:
        path: The store.
        key: The experiment.
        out: The file; must not exist.
        each: Interactions of each variant and metric, at most.
        seed: Of the sample.

    Raises:
        OSError: The file cannot be made.
        StoreProblem: It is no store of this version.
        UnknownExperiment: There is none with this key.
    """
    with closing(open_stored(path)) as db:
        db.execute("BEGIN")
        stored, _ = restored(db, key)
        rows = list(to_label(db, stored.id, stored.experiment, each, seed))
    with out.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return len(rows)


def store_labels(path: Path, key: str, labels: tuple[Label, ...]) -> int:
    """Store labels, all or none, and return how many.

    Raises:
        BanditError: The store, the experiment or a label is not right.
    """
    open_stored(path).close()  # a store that is not there is not made
    writer = Writer(Store(path))
    writer.start()
    try:

        async def ask() -> object:
            return await writer.ask(StoreLabels(key, labels), PATIENCE)

        return int(str(asyncio.run(ask())))
    finally:
        writer.close()
