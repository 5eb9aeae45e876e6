"""Is everything that clients were told in the store, and nothing else?"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bandit import parse_json
from bandit.rewards import RETURNED
from tests.server.harness import REQUESTS, WINDOWS, Difference
from tests.server.harness_clients import Client
from tests.server.harness_journal import (
    COUNTS,
    IN_FLIGHT_NOT_STORED,
    IN_FLIGHT_STORED,
    Known,
    Sent,
)
from tests.server.harness_ledger import check_ledger
from tests.server.unpacked import unpack

SEEN_AFTER = 2.0
"""Seconds after which nobody keeps a suspended arm: its commit has to come, and other processes have to look."""


def check_store(path: Path, clients: Sequence[Client]) -> Counter[str]:
    """Compare a store with what clients were told, and count what it holds.

    No server may be running. The store is left as it is, with its write-ahead log: a copy is read.

    Args:
        path: The store.
        clients: All that ever called its server; nobody may be calling now.

    Raises:
        Difference: The first one that is found.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for file in path.parent.glob(f"{path.name}*"):
            if not file.name.endswith("-shm"):  # an index of the log, which a crash loses
                shutil.copy(file, copy.with_name(file.name))
        with closing(sqlite3.connect(copy)) as db:
            unpack(db)
            return check(db, clients)


def check(db: sqlite3.Connection, clients: Sequence[Client]) -> Counter[str]:
    """Do what `check_store` does on an open store whose values are unpacked."""
    if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
        raise Difference("the file is damaged")
    counts: Counter[str] = Counter()
    for key in (WINDOWS, REQUESTS):
        held = Held(db, key)
        known = [known for client in clients for known in client.known.values() if known.key == key]
        held.check_epochs()
        held.check_users(known)
        held.check_moves(known)
        held.check_forced(known)
        held.check_acts(clients)
        held.check_state()
        sent = [sent for client in clients for sent in (*client.sent, *client.left) if sent.known.key == key]
        counts += held.check_rewards(sent)
        check_ledger(db, key)
        counts["assigned"] += len(held.places)
        counts["moved"] += sum(place[3] is not None for place in held.places.values())
        counts["epochs"] += held.count("SELECT count(*) FROM epochs WHERE experiment = ?")
        counts["closed"] += held.count("SELECT count(closed_at) FROM epochs WHERE experiment = ?")
    return counts


class Held:
    """What a store holds of one experiment.

    Args:
        db: The store.
        key: Of the experiment.

    Attributes:
        places: Epoch, arm, time and time of the move of each assigned user.
    """

    def __init__(self, db: sqlite3.Connection, key: str) -> None:
        self._db, self._key = db, key
        number, definition = db.execute("SELECT id, definition FROM experiments WHERE key = ?", (key,)).fetchone()
        self._number = number
        self._experiment = parse_json(definition)
        self._arms = self._experiment.arms
        self.places: dict[str, tuple[int, int, float, float | None]] = {
            user: (epoch, arm, at, moved)
            for user, epoch, arm, at, moved in self._rows(
                "SELECT user_id, epoch, arm, at, moved_at FROM assignments WHERE experiment = ?"
            )
        }
        self._probabilities = {
            epoch: json.loads(probabilities)
            for epoch, probabilities in self._rows("SELECT epoch, probabilities FROM epochs WHERE experiment = ?")
        }
        self._suspended: dict[int, list[tuple[int, float]]] = defaultdict(list)
        """Last epoch of an arm before it was suspended, and when that was, in order."""
        for variant, epoch, at in self._rows(
            "SELECT variant, epoch, at FROM events WHERE experiment = ? AND kind = 'suspended' ORDER BY number"
        ):
            self._suspended[self._arms.index(variant)].append((epoch, at))
        self._ended: dict[int, list[tuple[int, int | None, str | None]]] = defaultdict(list)
        for arm, first, last, how in self._rows(
            "SELECT arm, first_epoch, last_epoch, ended FROM generations WHERE experiment = ? ORDER BY place"
        ):
            self._ended[arm].append((first, last, how))

    def check_epochs(self) -> None:
        """Epochs follow each other, their users were assigned while they went on, and arms in use had their time."""
        times = list(self._rows("SELECT epoch, started_at, ended_at FROM epochs WHERE experiment = ? ORDER BY epoch"))
        for place, (epoch, started, ended) in enumerate(times):
            over = place + 1 == len(times) or (ended is not None and ended <= times[place + 1][1])
            if epoch != place + 1 or not over or (ended is not None and ended < started):
                raise Difference(f"'{self._key}': epoch {epoch} of {started} to {ended} is out of order")
        for user, (epoch, arm, at, _) in self.places.items():
            _, started, ended = times[epoch - 1]
            if at < started or (ended is not None and at > ended):
                when = f"at {at}, outside epoch {epoch}, which is that of {started} to {ended}"
                raise Difference(f"'{self._key}': user '{user}' was assigned {when}")
            generations = self._ended.get(arm)
            if generations and not any(first <= epoch <= (last or epoch) for first, last, _ in generations):
                raise Difference(f"'{self._key}': user '{user}' got a suspended arm in epoch {epoch}")

    def check_users(self, all_known: Sequence[Known]) -> None:
        """Who was told a place has it, and nobody else is there."""
        new = Counter(known.user for known in all_known if known.is_new)
        if new and max(new.values()) > 1:
            raise Difference(f"'{self._key}': '{new.most_common(1)[0][0]}' was new twice")
        for known in all_known:
            held = self.places.get(known.user)
            if held is None:
                if known.place is not None or known.moved:
                    raise Difference(f"'{self._key}': the assignment of {known} is lost")
                continue
            epoch, arm, _, moved_at = held
            place = self._arms[arm], self._probabilities[epoch][arm], epoch
            if known.place not in (None, place):
                raise Difference(f"'{self._key}': {known} is stored at {place}")
            if known.moved and moved_at is None:
                raise Difference(f"'{self._key}': the move of {known} is lost")
        uninvited = self.places.keys() - {known.user for known in all_known}
        if uninvited:
            raise Difference(f"'{self._key}': nobody asked for {min(uninvited)}")

    def check_moves(self, all_known: Iterable[Known]) -> None:
        """Who was moved had the arm taken away, and who had it taken away does not keep it."""
        for user, (epoch, arm, _, moved_at) in self.places.items():
            if moved_at is not None and self._taken_away_at(epoch, arm) is None:
                raise Difference(f"'{self._key}': '{user}' was moved, and arm {arm} of epoch {epoch} goes on")
        for known in all_known:
            if known.place is not None:
                epoch, arm, *_ = self.places[known.user]
                taken = self._taken_away_at(epoch, arm)
                if taken is not None and known.kept_at > taken + SEEN_AFTER:
                    raise Difference(f"'{self._key}': {known} keeps an arm that was suspended at {taken}")

    def _taken_away_at(self, epoch: int, arm: int) -> float | None:
        """Return when users of a cell lost their arm, None if they have it."""
        return next((at for last, at in self._suspended[arm] if last >= epoch), None)

    def check_forced(self, all_known: Iterable[Known]) -> None:
        """Who was given a variant by hand has it, unless the answer was lost."""
        stored = {u: self._arms[arm] for u, arm in self._rows("SELECT user_id, arm FROM forced WHERE experiment = ?")}
        sure: dict[str, str | None] = {}
        unsure: set[str] = set()
        for known in all_known:
            if known.unsure:
                unsure.add(known.user)
            elif known.forced is not None:
                sure[known.user] = known.forced
        if {user: arm for user, arm in stored.items() if user not in unsure} != sure:
            raise Difference(f"'{self._key}': forced are {stored}, not {sure}, and perhaps {unsure}")

    def check_acts(self, clients: Sequence[Client]) -> None:
        """Every acknowledged change has its event, no change has two, and events are in order."""
        events = list(self._rows("SELECT number, at, reason FROM events WHERE experiment = ? ORDER BY number"))
        if [number for number, _, _ in events] != list(range(1, len(events) + 1)):
            raise Difference(f"'{self._key}': the numbers of events have gaps")
        if [at for _, at, _ in events] != sorted(at for _, at, _ in events):
            raise Difference(f"'{self._key}': events are out of order")
        reasons = Counter(reason for _, _, reason in events)
        for act in (act for client in clients for act in client.acts if act.key == self._key):
            if reasons[act.reason] > 1 or (act.certain and not reasons[act.reason]):
                raise Difference(f"{act} has {reasons[act.reason]} events")

    def check_state(self) -> None:
        """The state is that which the events lead to, and no visit waits whose windows are over."""
        latest = self._rows(
            "SELECT kind, variant, evidence FROM events WHERE experiment = ?"
            " AND kind IN ('suspended', 'resumed', 'ramp') ORDER BY number"
        )
        exposure, suspended = 1.0, set[str]()
        for kind, variant, evidence in latest:
            if kind == "ramp":
                exposure = json.loads(evidence)["exposure"]
            else:
                (suspended.add if kind == "suspended" else suspended.discard)(variant)
        stored, now = next(iter(self._rows("SELECT exposure_by_hand, now FROM experiments WHERE id = ?")))
        if (1.0 if stored is None else stored) != exposure:
            raise Difference(f"'{self._key}': the exposure is {stored}, and the events say {exposure}")
        ended = {self._arms[arm] for arm, stretches in self._ended.items() if stretches[-1][2] == "suspended"}
        if ended != suspended:
            raise Difference(f"'{self._key}': suspended are {ended}, and the events say {suspended}")
        window = self._experiment.window_seconds
        moment = next(iter(self._rows("SELECT min(moment) FROM waiting_sums WHERE experiment = ?")))[0]
        if window is not None and moment is not None and (moment + 1) * window < now:
            raise Difference(f"'{self._key}': visits wait for {moment * window} at {now}")

    def check_rewards(self, all_sent: Iterable[Sent]) -> Counter[str]:
        """Every acknowledged value has its row, one only, and what was never acknowledged is there whole or not."""
        rows: dict[str, dict[str, list[tuple[Any, ...]]]] = defaultdict(lambda: defaultdict(list))
        for request, metric, *row in self._rows(
            "SELECT request_id, metric, revision, user_id, value, at, epoch, arm, reason FROM rewards"
            " WHERE experiment = ? ORDER BY revision"
        ):
            rows[request][metric].append(tuple(row))
        counts: Counter[str] = Counter()
        for sent in all_sent:
            held = rows.pop(sent.request_id, {})
            fault = self._fault(sent, held)
            if fault is not None:
                raise Difference(f"{sent} {fault}; stored is {dict(held)}")
            if not sent.became and sent.lost:
                counts[IN_FLIGHT_STORED if held else IN_FLIGHT_NOT_STORED] += 1
            counts["values"] += len(held)
        if rows:
            raise Difference(f"'{self._key}': nobody sent {next(iter(rows))}")
        return counts

    def _fault(self, sent: Sent, held: dict[str, list[tuple[Any, ...]]]) -> str | None:
        """Return what is wrong with the rows of a reward, or None."""
        if not held and not sent.became:
            return None
        if not sent.became and not sent.lost:
            return "was refused each time, and is stored"
        if held.keys() != sent.names:
            return "is stored in part" if held else "is lost"
        faults = (self._fault_of_value(sent, metric, rows) for metric, rows in held.items())
        return next((fault for fault in faults if fault is not None), None)

    def _fault_of_value(self, sent: Sent, metric: str, rows: list[tuple[Any, ...]]) -> str | None:
        became, values = sent.became.get(metric), sent.values(metric)
        stored = [value for _, _, value, *_ in rows]
        perhaps = [values, *([[*values, sent.pending[1]]] if sent.pending and sent.pending[0] == metric else [])]
        if stored not in perhaps or [row[0] for row in rows] != list(range(len(rows))):
            return f"has other values of '{metric}'"
        for _, user, _, at, epoch, arm, reason in rows:
            counts = reason in (None, RETURNED)
            place = self.places.get(user, (None, None, 0.0, None))
            if user != sent.known.user:
                return "is stored for somebody else"
            if (epoch, arm) != (place[:2] if counts else (None, None)):
                return f"is credited to ({epoch}, {arm}), and its user's place is {place}"
            if became is not None and (not counts if became in COUNTS else reason != became):
                return f"has another reason for '{metric}'"
            if reason == "moved" and (place[3] is None or place[3] > at):
                return "counts for nobody because of a move that came later, or never"
        return None

    def count(self, sql: str) -> int:
        """Return the number that a query about the experiment returns."""
        return int(next(iter(self._rows(sql)))[0])

    def _rows(self, sql: str) -> sqlite3.Cursor:
        return self._db.execute(sql, (self._number,))
