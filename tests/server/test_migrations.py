"""A store of the version before becomes one of this version, and nothing of it is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from server.schema import migrations, prepare
from server.verify import verify
from tests.server.running import Clock, everything, in_process, rows
from tests.server.test_verify import fill
from tests.server.unpacked import unpack

OLD = ("sums", "outcomes", "visits", "rewards", "call_values")
CALL_VALUES = (
    "SELECT experiment, metric, arm, CAST(key AS INTEGER) AS bucket, value AS n, version"
    " FROM main.call_values JOIN json_each(counts)"
)


def put_back(new: Path, old: Path) -> None:
    """Write what is in a store as the version before one row per call had it."""
    with closing(sqlite3.connect(old)) as db:
        migrations.apply(Database(db), stop_before="one_row_per_call")
        db.execute("ATTACH ? AS new", (str(new),))
        with closing(sqlite3.connect(new)) as source:
            unpack(source)
            source.execute(f"CREATE TEMP TABLE call_values AS {CALL_VALUES}")
            for (table,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
                if table.startswith(("_", "sqlite_")):
                    continue
                names = [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
                held = {
                    row[1] for row in source.execute(f"PRAGMA {'temp' if table in OLD else 'main'}.table_info({table})")
                }
                columns = ", ".join(name for name in names if name in held)
                rows = source.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608 - our own names
                places = ", ".join("?" * (columns.count(",") + 1))
                db.executemany(f"INSERT INTO main.{table} ({columns}) VALUES ({places})", rows)  # noqa: S608
        db.commit()


def test_a_store_with_a_row_for_each_value_goes_on_with_one_for_each_call(tmp_path: Path) -> None:
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    with in_process(new, Clock()) as service:
        fill(service)
    put_back(new, old)

    prepare(old)

    found = verify(old)
    assert (found.damages, found.differences) == ([], 0)
    before, after = everything(new), everything(old)
    for path, held in ((new, before), (old, after)):  # the order of buckets does not matter
        held["call_values"] = rows(path, CALL_VALUES)
        assert len(held["call_values"]) > 1
    for table, stored in before.items():
        assert sorted(after[table], key=repr) == sorted(stored, key=repr), table
    with in_process(old, Clock()) as service:
        assert service.choose("other", "o3")["reason"] == "sticky"
        answer = service.reward("x", "u3", "first-3", metrics={"resolved": 1})
        assert answer.status_code == 409 or answer.json()["accepted"] == []  # it is known
        assert verify(old).differences == 0
