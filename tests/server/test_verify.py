"""`verify` is silent about a store that is right, and names what is wrong with one that is not."""

# ruff: noqa: S608 - the statements are put together from this file's own words
from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.cli import app
from server.differences import Difference
from server.schema import TERMS, migrations, open_stored, prepare
from server.verify import verify
from server.verify_text import tables
from tests.server.harness_ledger import check_ledger
from tests.server.running import Clock, Service, declaration, in_process, rows
from tests.server.test_backup import tear
from tests.server.test_command import run as run_process
from tests.server.unpacked import spoil, unpack

GUARDRAILS = [
    *declaration()["guardrails"],
    {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.9},
]
VARIANTS = [{"key": "A", "control": True}, {"key": "B"}, {"key": "C"}]
POLICY = {"min_batch": 10, "warmup": 5}


def run(*arguments: str | Path) -> tuple[int, str]:
    """Run the command in this process; return code and what it said."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.output


def visit(service: Service, key: str, users: range, rng: random.Random, name: str) -> None:
    """Let users come, each with one call; a tenth of them fail, a fifth of the values are corrected."""
    for i in users:
        user, request = f"u{i}", f"{name}-{i}"
        service.choose(key, user)
        metrics = {
            "resolved": rng.random() < 0.4, "latency_ms": rng.uniform(100, 1550), "cost_usd": rng.random() / 2,
            "harmful": rng.random() < 0.1,
        }  # fmt: skip
        failed = {"failed": True} if rng.random() < 0.1 else {}
        assert service.reward(key, user, request, metrics=metrics, **failed).status_code == 200
        service.clock.now += 1.0
        if not failed and rng.random() < 0.2:
            service.reward(key, user, request, metrics={"cost_usd": rng.random()}, replace=True)


def fill(service: Service) -> None:
    """Epochs that are closed and some that are open; users who come back, whose visits count or wait; moved users."""
    rng = random.Random(7)  # noqa: S311 - a fixed sequence
    service.create("x", variants=VARIANTS, guardrails=GUARDRAILS, policy=POLICY, rewards={"window": "1h"}, salt="s")
    service.create("other", policy=POLICY, rewards={"window": "request"})
    visit(service, "x", range(60), rng, "first")
    visit(service, "x", range(30), rng, "second")
    service.clock.now += 7_200
    visit(service, "x", range(40), rng, "back")
    service.clock.now += 7_200
    visit(service, "x", range(20), rng, "again")
    assert service.switch("x", "C", "suspend").status_code == 200
    visit(service, "x", range(50, 90), rng, "late")
    for i in range(30):
        service.choose("other", f"o{i}")
        service.reward("other", f"o{i}", f"o{i}", metrics={"resolved": i % 2, "latency_ms": i, "cost_usd": i / 99})
        service.reward("other", f"o{i}", f"again{i}", metrics={"latency_ms": 2 * i, "cost_usd": i / 50})
        service.clock.now += 0.5


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "bandit.db"
    with in_process(path, Clock()) as service:
        fill(service)
    return path


@pytest.fixture
def damaged(sound: Path, tmp_path: Path) -> Callable[..., list[Difference]]:
    """What is found after a statement of SQL did its damage to the sound store."""
    path = tmp_path / "bandit.db"
    shutil.copy(sound, path)

    def damage(*statements: str) -> list[Difference]:
        spoil(path, *statements)
        return [difference for verdict in verify(path).verdicts for difference in verdict.found.first]

    return damage


def test_a_sound_store_has_no_differences(sound: Path) -> None:
    kinds = dict(rows(sound, "SELECT coalesce(reason, ''), count(*) FROM rewards GROUP BY 1"))
    assert {"", "returned", "late", "moved", "failed"} <= kinds.keys()
    assert rows(sound, "SELECT max(revision) FROM rewards") == [(1,)]
    assert rows(sound, "SELECT max(visit_window) FROM returning_sums")[0][0] >= 3
    assert rows(sound, "SELECT count(*) FROM waiting_sums")[0][0] > 0
    assert rows(sound, "SELECT sum(moved) FROM cells")[0][0] > 0
    with closing(sqlite3.connect(sound)) as db:
        unpack(db)
        check_ledger(db, "x")  # a rebuild that shares nothing with this one agrees

    found = verify(sound)

    assert (found.damages, found.differences) == ([], 0)
    x, other = found.verdicts
    assert (x.key, x.state, x.users) == ("x", "running", 90)
    assert (other.key, other.users) == ("other", 30)
    assert 3 < x.closed < x.epochs
    assert rows(sound, "SELECT count(*) FROM main.rewards") == [(x.rewards + other.rewards,)]


# In these `x` is experiment 1; A, B, C are arms 0, 1, 2; measures are resolved 0, latency 1, cost 2, harmful 3.
CELL = "experiment = 1 AND epoch = 1 AND arm = 0"
OPEN = "experiment = 1 AND epoch = (SELECT max(epoch) FROM epochs WHERE experiment = 1) AND arm = 0"
USER = f"experiment = 1 AND user_id = (SELECT min(user_id) FROM assignments WHERE {CELL})"
ONE = f"{USER} AND request_id LIKE 'first-%' AND metric = 'cost_usd' AND revision = 0"
A_LATER_CALL = f"n = (SELECT max(n) FROM main.rewards WHERE previous > 0 AND {USER})"
OTHERS = "experiment = 2"
CORRECTED = (
    "experiment = 1 AND metric = 'cost_usd'"
    " AND request_id = (SELECT min(request_id) FROM rewards WHERE revision = 1 AND reason IS NULL)"
)
RETURNED = (
    "experiment = 1 AND metric = 'cost_usd' AND request_id = (SELECT min(request_id) FROM rewards"
    " WHERE experiment = 1 AND metric = 'cost_usd' AND reason = 'returned')"
)
LATER = f"{CELL} AND visit_window = 2"
COLUMNS = "metric, revision, user_id, value, at, epoch, arm, reason, firsts"
TWICE = f"(experiment, request_id, {COLUMNS}) SELECT 1, 'twice', {COLUMNS} FROM rewards WHERE {ONE}"
A_SUM = f"SELECT experiment, epoch, arm, measure, 1, {', '.join(TERMS)} FROM sums WHERE {CELL} AND measure = 0"


@pytest.mark.parametrize(
    ("damage", "finds"),
    [
        # Sums: the smallest change of a closed one, a small one of an open one.
        (f"UPDATE sums SET z2 = z2 * (1 + 3e-16) WHERE {CELL} AND measure = 2", [("sum z2", 1, 0, 2)]),
        (f"UPDATE sums SET n = n + 1 WHERE {CELL} AND measure = 0", [("sum n", 1, 0, 0)]),
        (f"UPDATE sums SET up_3 = up_3 + 1e-6 WHERE {OPEN} AND measure = 2", [("sum up_3", ..., 0, 2)]),
        (f"DELETE FROM sums WHERE {CELL} AND measure = 1", [("sum n", 1, 0, 1)]),
        # Values.
        (f"DELETE FROM rewards WHERE {ONE}", [("outcome of ", 1, 0, 2)]),
        (f"UPDATE rewards SET value = value + 0.1 WHERE {ONE}", [("outcome of ", 1, 0, 2)]),
        (f"UPDATE rewards SET reason = 'late' WHERE {ONE}", [("outcome of ", 1, 0, 2)]),
        (f"UPDATE rewards SET metric = 'of old' WHERE {ONE}", [("credit of of old", 1, 0, None)]),
        (f"INSERT INTO rewards {TWICE}", [("outcome of ", 1, 0, 2)]),
        (f"DELETE FROM rewards WHERE {CORRECTED} AND revision = 0", [("revisions of cost_usd", ..., ..., None)]),
        (f"DELETE FROM rewards WHERE {CORRECTED} AND revision = 1", [("outcome of ", ..., ..., 2)]),
        # The chain of a user's calls: cut short, to nowhere, to somebody else's, in a circle.
        (f"UPDATE main.rewards SET previous = 0 WHERE {A_LATER_CALL}",
         [("calls of assigned users", None, None, None), ("outcome of ", 1, 0, ...)]),
        (f"UPDATE assignments SET last_reward = 0 WHERE {USER}",
         [("calls of assigned users", None, None, None), ("outcome of ", 1, 0, ...)]),
        (f"DELETE FROM main.rewards WHERE {A_LATER_CALL}", [("call of ", 1, 0, None), ("outcome of ", 1, 0, ...)]),
        (f"UPDATE main.rewards SET previous = 1000000 WHERE {A_LATER_CALL}", [("call of ", 1, 0, None)]),
        (f"UPDATE main.rewards SET previous = (SELECT min(n) FROM main.rewards WHERE {OTHERS}) WHERE {A_LATER_CALL}",
         [("call of ", 1, 0, None)]),
        (f"UPDATE main.rewards SET previous = (SELECT last_reward FROM assignments WHERE {USER}) WHERE {A_LATER_CALL}",
         [("calls of assigned users", None, None, None), ("outcome of ", 1, 0, ...)]),
        # Outcomes.
        (
            f"UPDATE outcomes SET total = total + 0.001, first = first + 0.001 WHERE {USER} AND measure = 2",
            [("outcome of ", 1, 0, 2), ("sum z", 1, 0, 2)],
        ),
        (f"UPDATE outcomes SET calls = calls + 1 WHERE {USER} AND measure = 2", [("outcome of ", 1, 0, 2)]),
        (f"DELETE FROM outcomes WHERE {USER} AND measure = 1", [("outcome of ", 1, 0, 1), ("sum n", 1, 0, 1)]),
        # Users.
        (f"UPDATE cells SET assigned = assigned + 1 WHERE {CELL}", [("users assigned", 1, 0, None)]),
        (f"UPDATE cells SET moved = moved + 1 WHERE {CELL}", [("users moved", 1, 0, None)]),
        (
            f"UPDATE assignments SET epoch = 2 WHERE {USER}",
            [("users assigned", 1, 0, None), ("users assigned", 2, 0, None), ("sum n", 2, 0, 0)],
        ),
        (
            f"UPDATE assignments SET arm = 1 WHERE {USER}",
            [("variant of ", 1, 1, None), ("users assigned", 1, 0, None), ("users assigned", 1, 1, None)],
        ),
        (f"UPDATE assignments SET moved_at = 1.0 WHERE {USER}", [("users moved", 1, 0, None)]),
        (f"UPDATE assignments SET at = at + 1e6 WHERE {USER}", [("time of ", 1, 0, None)]),
        (
            f"DELETE FROM assignments WHERE {USER}",
            [
                ("users assigned", 1, 0, None), ("sum n", 1, 0, 0), ("calls of assigned users", None, None, None),
            ],
        ),
        (f"UPDATE assignments SET epoch = 999 WHERE {USER}", [("assignments of an epoch", 999, 0, None)]),
        # Later windows.
        (f"DELETE FROM rewards WHERE {RETURNED}", [("last visit of ", ..., ..., 2), ("window ", ..., ..., 2)]),
        (f"UPDATE returning_sums SET z = z + 1e-6 WHERE {LATER} AND measure = 2", [("window 2, z", 1, 0, 2)]),
        (f"UPDATE returning_sums SET n = n - 1 WHERE {LATER} AND measure = 3", [("window 2, n", 1, 0, 3)]),
        ("UPDATE visits SET number = number + 1 WHERE experiment = 1 AND measure = 2 AND user_id = 'u0'",
         [("last visit of 'u0'", ..., ..., 2)]),
        ("DELETE FROM visits WHERE experiment = 1 AND measure = 3 AND user_id = 'u0'",
         [("last visit of 'u0'", ..., ..., 3)]),
        # Epochs and the experiment.
        ("DELETE FROM epochs WHERE experiment = 1 AND epoch = 2", [("numbers of epochs", None, None, None)]),
        ("UPDATE epochs SET started_at = started_at - 7200 WHERE experiment = 1 AND epoch = 3",
         [("end before, start, end, close", 3, None, None)]),
        ("UPDATE epochs SET closed_at = NULL WHERE experiment = 1 AND epoch = 2",
         [("epochs learned from", ..., None, None)]),
        ("UPDATE epochs SET probabilities = '[0.0, 0.5, 0.5]' WHERE experiment = 1 AND epoch = 1",
         [("which had probability 0", 1, 0, None)]),
        ("UPDATE epochs SET probabilities = '[0.5, 0.5, 0.5]' WHERE experiment = 1 AND epoch = 1",
         [("probabilities", 1, None, None)]),
        ("UPDATE experiments SET state = 'paused' WHERE id = 1", [("state", None, None, None)]),
        ("UPDATE experiments SET origins = '[0.0, 0.5, 0.1, 0.0]' WHERE id = 1", [("origin", None, None, 1)]),
        ("UPDATE experiments SET origins = '[0.0, 0.0, null, 0.0]' WHERE id = 1", [("origin", None, None, 2)]),
        ("""UPDATE experiments SET definition = replace(definition, '"salt": "s"', '"salt": "t"') WHERE id = 1""",
         [("variant of ", 1, ..., None)]),
        ("UPDATE experiments SET definition = '{}' WHERE id = 1", [("what cannot be read", None, None, None)]),
        ("UPDATE sums SET z = NULL WHERE experiment = 1 AND epoch = 1 AND arm = 0 AND measure = 0",
         [("what cannot be read", None, None, None)]),
        # What was sealed although it was not.
        (f"INSERT INTO base_sums {A_SUM}", [("window 1, sealed", 1, 0, 0)]),
    ],
)  # fmt: skip
def test_damage_is_found_where_it_is(
    damaged: Callable[..., list[Difference]], damage: str, finds: list[tuple[Any, ...]]
) -> None:
    found = damaged(damage)

    def is_named(what: str, *place: object) -> bool:
        return any(
            what in d.what and all(a in (..., b) for a, b in zip(place, (d.epoch, d.arm, d.measure), strict=True))
            for d in found
        )

    for find in finds:
        assert is_named(*find), found


def test_damage_is_counted_no_more_often_than_it_was_done(
    damaged: Callable[..., list[Difference]], sound: Path
) -> None:
    ((stored,),) = rows(sound, f"SELECT z2 FROM sums WHERE {CELL} AND measure = 2")

    (found,) = damaged(f"UPDATE sums SET z2 = z2 * (1 + 3e-16) WHERE {CELL} AND measure = 2")

    assert (found.rebuilt, found.stored) == (stored, pytest.approx(stored, rel=1e-15))
    assert found.stored != stored


def test_a_waiting_visit_that_is_lost_is_found(damaged: Callable[..., list[Difference]], sound: Path) -> None:
    epoch, arm, window, moment = rows(sound, "SELECT epoch, arm, visit_window, moment FROM waiting_sums LIMIT 1")[0]
    place = f"epoch = {epoch} AND arm = {arm} AND visit_window = {window} AND moment = {moment}"

    (found,) = damaged(f"DELETE FROM waiting_sums WHERE experiment = 1 AND {place}")

    assert (found.what, found.epoch, found.arm, found.measure) == (f"window {window}, n", epoch, arm, 3)


def test_the_command_says_what_it_found_and_ends_accordingly(sound: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.db"
    shutil.copy(sound, bad)
    with closing(sqlite3.connect(bad)) as db, db:
        db.execute(f"UPDATE cells SET assigned = 12345 WHERE {CELL}")

    code, output = run("verify", "--db", sound)
    assert code == 0
    assert output.splitlines()[-1].endswith("bandit.db: everything agrees")

    code, output = run_process("verify", "--db", bad)
    assert code == 1
    (named,) = [line for line in output.splitlines() if "12345" in line]
    ((n,),) = rows(sound, f"SELECT assigned FROM cells WHERE {CELL}")
    assert named.split() == ["1", "A", "users", "assigned", "12345", str(n)]
    assert "bad.db: 1 difference" in output


def test_an_option_of_the_server_before_a_command_is_refused(sound: Path) -> None:
    code, output = run("--db", sound, "verify")

    assert code == 2
    assert "--db stands before 'verify'" in output


def test_the_help_names_the_commands_and_keeps_the_options_of_the_server() -> None:
    code, output = run("--help")

    assert code == 0
    assert all(word in output for word in ("verify", "backup", "--retain", "--experiment", "--demo"))
    assert run("nonsense")[0] == 2
    code, output = run("--port", "0", "--retain", "90")
    assert code == 2
    assert "--retain: received '90', allowed: a duration as text, such as \"90s\"" in output


@pytest.mark.parametrize("make", [
    lambda _: None,
    lambda path: path.write_bytes(b"not a database" * 1000),
    lambda path: path.write_bytes(b""),
    lambda path: closing(sqlite3.connect(path)).__enter__().execute("CREATE TABLE t (a)"),
])  # fmt: skip
def test_what_is_no_store_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "no.db"
    make(path)

    for arguments in (("verify",), ("backup", tmp_path / "copy.db")):
        code, output = run(*arguments, "--db", path)

        assert code == 2, output
        assert "no.db" in output
        assert "Traceback" not in output
    assert not (tmp_path / "copy.db").exists()


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((Path(__file__).parent / "first_tables.sql").read_text(encoding="utf-8"))
    assert "older version; start bandit-server on it once" in run("verify", "--db", path)[1]

    prepare(path)
    assert run("verify", "--db", path)[0] == 0

    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, 'of_next_year', '')",
            (migrations.name,),
        )
    assert "newer version" in run("verify", "--db", path)[1]


def test_a_file_with_a_torn_page_is_damaged(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "torn.db"
    shutil.copy(sound, path)
    tear(path, "rewards")

    code, output = run("verify", "--db", path)

    assert code == 1, output
    assert "the file is damaged" in output
    assert "Traceback" not in output


def test_damage_that_only_sqlite_sees_is_damage(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    shutil.copy(sound, path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE INDEX extra ON events (reason)")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, '(reason)', '(actor)') WHERE name = 'extra'")

    found = verify(path)

    assert found.damages
    assert found.differences == len(found.damages)
    assert run("verify", "--db", path)[0] == 1


def test_values_that_were_corrected_by_much_are_no_difference(tmp_path: Path) -> None:
    """An open sum that was moved from 1e5 to 1 keeps the rounding of 1e15 = (1e5)³."""
    path = tmp_path / "bandit.db"
    goal = {"metric": "seconds", "kind": "numeric", "better": "lower"}
    exact: dict[int, float] = {}
    with in_process(path, Clock()) as service:
        service.create("x", goal=goal, guardrails=[])
        for i in range(20):
            arm = "AB".index(service.choose("x", f"u{i}")["variant"])
            for value in (1.0, 1e5 + i / 7, 1.0 + i / 7)[min(i, 1) :]:  # the first one is the origin
                body = {"metrics": {"seconds": value}, "replace": True}
                assert service.reward("x", f"u{i}", f"r{i}", **body).status_code == 200
            exact[arm] = exact.get(arm, 0.0) + (i / 7) ** 3
        found = verify(path)
        assert found.differences == 0

    stored = dict(rows(path, "SELECT arm, z3 FROM sums"))
    assert all(abs(z3 - exact[arm]) > 1e-6 * exact[arm] for arm, z3 in stored.items())
    spoil(path, "UPDATE sums SET z = z + 0.01")
    assert verify(path).verdicts[0].found.total == 2


def test_it_reads_beside_a_server_that_goes_on(path: Path) -> None:
    with in_process(path) as service:
        service.create()
        with closing(open_stored(path)) as db:
            db.execute("BEGIN")
            assert db.execute("SELECT count(*) FROM assignments").fetchone() == (0,)
            service.choose("x", "u")
            assert service.reward("x", "u", "r").status_code == 200

            assert verify(path).differences == 0
            assert db.execute("SELECT count(*) FROM assignments").fetchone() == (0,)


def test_only_the_first_differences_are_kept_but_all_are_counted(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.db"
    shutil.copy(sound, path)
    spoil(path, "UPDATE outcomes SET first = first + 1")

    verdict = verify(path).verdicts[0]

    assert verdict.found.total > len(verdict.found.first) == 100
    assert f"the first 100 of {verdict.found.total}" in str(tables(verify(path))[1].title)
