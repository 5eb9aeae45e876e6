"""A server that is killed under load keeps its promises; and the comparison that says so sees when it does not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.crash import Outcome, crash
from tests.server.harness import Difference
from tests.server.harness_checks import check
from tests.server.harness_journal import CONTROL, COUNTS
from tests.server.unpacked import unpack

KILLS = 3

SPOILT = {
    "an assignment is gone": ("DELETE FROM assignments WHERE user_id = :user", "is lost"),
    "a user has another arm": (
        "UPDATE assignments SET arm = 1 - arm WHERE user_id = :user",
        "is stored at|got a suspended arm",
    ),
    "a user of control was moved": ("UPDATE assignments SET moved_at = at WHERE user_id = :user", "was moved"),
    "a user keeps a suspended arm": (
        """INSERT INTO events SELECT experiment, 1 + max(number), 'suspended', 1.0, 1000, 'api', 'A', '', '{}'
        FROM events GROUP BY experiment""",
        "keeps an arm",
    ),
    "an arm is suspended by nobody": (
        "INSERT INTO generations SELECT id, 1000, 0, 0, 1, 1000, 0, 'suspended', '[]', '' FROM experiments",
        "suspended are",
    ),
    "the exposure was set by nobody": ("UPDATE experiments SET exposure_by_hand = 0.123", "the exposure is"),
    "a user came before the epoch began": (
        "UPDATE assignments SET at = at - 1000 WHERE user_id = :user",
        "outside epoch",
    ),
    "a user came uninvited": (
        """INSERT INTO assignments (experiment, user_id, epoch, arm, at) SELECT experiment, 'nobody', epoch, arm, at
        FROM assignments WHERE user_id = :user""",
        "nobody asked for",
    ),
    "a reward is gone": ("DELETE FROM rewards WHERE request_id = :request", "is lost"),
    "a reward is there in part": (
        "DELETE FROM rewards WHERE request_id = :request AND metric = 'resolved'",
        "in part",
    ),
    "a reward has another value": (
        "UPDATE rewards SET value = value + 1 WHERE request_id = :request",
        "other values",
    ),
    "a reward is there twice": (
        """INSERT INTO rewards SELECT experiment, request_id, metric, revision + 1, user_id, value, at, epoch, arm,
        reason, firsts FROM rewards WHERE request_id = :request""",
        "other values",
    ),
    "a reward came uninvited": (
        """INSERT INTO rewards SELECT experiment, 'nobody', metric, revision, user_id, value, at, epoch, arm,
        reason, firsts FROM rewards WHERE request_id = :request""",
        "nobody sent",
    ),
    "a reward is somebody else's": (
        "UPDATE rewards SET user_id = 'nobody' WHERE request_id = :request",
        "somebody else",
    ),
    "a reward counts for nobody": (
        "UPDATE rewards SET reason = 'late', epoch = NULL, arm = NULL WHERE request_id = :request",
        "another reason",
    ),
    "a reward is credited elsewhere": (
        "UPDATE rewards SET epoch = epoch + 1 WHERE request_id = :request",
        "is credited to",
    ),
    "an outcome counts a value twice": ("UPDATE outcomes SET calls = 2 * calls WHERE user_id = :user", "outcome"),
    "a visit counts a value twice": ("UPDATE visits SET calls = 2 * calls", "visit"),
    "the ledger has a user too many": ("UPDATE cells SET assigned = assigned + 1", "users"),
    "the ledger has an outcome too many": ("UPDATE sums SET n = n + 1", "sums"),
    "a closed epoch is a little off": ("UPDATE sums SET z = z + 1e-12 WHERE z > 0", "closed epochs"),
    "the ledger has a visit too many": ("UPDATE returning_sums SET n = n + 1", "came back"),
    "epochs are out of order": ("UPDATE epochs SET ended_at = started_at + 1000 WHERE epoch = 1", "out of order"),
    "an event is missing": ("DELETE FROM events WHERE number = 1", "gaps"),
    "somebody is forced by nobody": ("INSERT INTO forced SELECT id, 'never-there', 0 FROM experiments", "forced are"),
}
"""What is done to a store, and what the comparison says of it, by what it then is."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return crash(tmp_path_factory.mktemp("crash"), KILLS)


@pytest.fixture
def db(outcome: Outcome) -> Iterator[sqlite3.Connection]:
    """A copy of the store after the crashes, to be spoilt."""
    with closing(sqlite3.connect(outcome.path)) as store, closing(sqlite3.connect(":memory:")) as copy:
        store.backup(copy)
        unpack(copy)
        yield copy


def test_nothing_acknowledged_is_lost_or_counted_twice_by_kill_9(outcome: Outcome) -> None:
    counts = outcome.counts  # the comparison with the store is a part of the run

    assert len(outcome.starts) == KILLS + 1
    assert counts["lost"] >= KILLS
    for what, least in {"assigned": 50, "value: accepted": 50, "value: duplicate": 20, "closed": 4}.items():
        assert counts[what] >= least, what


@pytest.mark.parametrize("what", SPOILT)
def test_the_comparison_sees_that(what: str, outcome: Outcome, db: sqlite3.Connection) -> None:
    sql, message = SPOILT[what]
    sent = next(
        sent
        for client in outcome.clients
        for sent in client.sent
        if (sent.became.get("resolved") in COUNTS and len(sent.names) > 1 and not sent.corrections)
        and (not sent.known.moved and sent.known.place is not None and sent.known.place[0] == CONTROL)
    )
    check(db, outcome.clients)

    db.execute(sql, {"user": sent.known.user, "request": sent.request_id})

    with pytest.raises(Difference, match=message):
        check(db, outcome.clients)
