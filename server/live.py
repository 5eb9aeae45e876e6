"""An experiment that is being served: the engine's `Bandit`, and what of it has to be written.

Only the writer thread touches these objects, and only inside a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bandit import Assignment, Bandit, Receipt
from bandit.epochs import Cell, Epoch
from bandit.events import SYSTEM
from bandit.measures import FAILED, N
from bandit.outcomes import Outcome
from bandit.rewards import RETURNED
from bandit.users import Visit
from server.constraints import Constraints
from server.logs import tell
from server.store import Changes, News, Store, Stored


class Clock:
    """A clock that never runs backwards, never stands, and remembers what it last said.

    While the time lies behind what was said before, because the wall clock was set back after it had been wrong, it
    goes on by the monotonic clock: windows have to end all the same.

    Args:
        time: Seconds since 1970.
        monotonic: Seconds of a clock that nobody sets.
        latest: Where it stands at least.
    """

    def __init__(self, time: Callable[[], float], monotonic: Callable[[], float], latest: float | None = None) -> None:
        self._time = time
        self._monotonic = monotonic
        self._read_at = monotonic()
        self._held = False
        self.latest = float("-inf") if latest is None else latest

    def __call__(self) -> float:
        """Return the time."""
        if self._held:
            return self.latest
        read_at = self._monotonic()
        self.latest = max(self._time(), self.latest + (read_at - self._read_at))
        self._read_at = read_at
        return self.latest

    def hold(self) -> None:
        """Stand at the present time until `let_go`: what happens in one transaction happens at one time."""
        self()
        self._held = True

    def let_go(self) -> None:
        """Go on."""
        self._held = False


@dataclass(frozen=True, slots=True)
class Reward:
    """What `POST /reward` says, as the engine takes it."""

    user_id: str
    request_id: str
    metrics: Mapping[str, object]
    variant: str | None = None
    failed: bool | None = None
    replace: bool = False


class Live:
    """A `Bandit` whose users are in the store.

    Its dictionaries of users hold nobody between batches: `recall` fills in the users at hand, the engine's own
    methods change them, `changes` says what is new, `forget` empties them.

    Args:
        stored: What the store holds.
        store: Where that and the users are.
        time: Seconds since 1970.
        monotonic: Seconds of a clock that nobody sets.
    """

    def __init__(self, stored: Stored, store: Store, time: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.store = store
        self.id = stored.id
        self.version = stored.version
        self.started_at, self.stopped_at = stored.started_at, stored.stopped_at
        self.clock = Clock(time, monotonic, stored.saved.now)
        self.bandit = Bandit.restored(stored.experiment, stored.saved, clock=self.clock)
        self.bandit.timeline.outcomes_of = self._outcomes_of
        self.quiet_until = 0.0  # a tick that found nothing to do is not repeated before
        self._constraints = Constraints.of(self.bandit)
        self._mark()
        self.forget()

    # Users at hand

    def recall(self, users: Iterable[str], rewarded: Iterable[str], requests: Iterable[str]) -> None:
        """Load what is stored of these users and requests.

        Args:
            users: Everybody at hand.
            rewarded: Those users whose outcomes may change or are asked for.
            requests: Request ids at hand.
        """
        self.clock.hold()
        held, epochs = self.bandit.users, self.bandit.epochs
        for user, (epoch, arm, since, moved) in self.store.assignments(self.id, list(users)).items():
            held.since[user] = since
            held.cells[user] = epochs[epoch - 1].cells[arm]
            if moved is not None:
                held.moved[user] = moved
                self._were_moved.add(user)
        who = [user for user in rewarded if user in held.cells]
        for user, measure, outcome in self.store.outcomes(self.id, who):
            held.outcomes[measure][user] = outcome
            self._loaded[measure, user] = outcome
        for user, measure, visit in self.store.visits(self.id, [user for user in who if self._may_visit(user)]):
            held.visits[measure][user] = visit
            self._visits[measure, user] = visit
        for request, metric, recorded in self.store.recorded(self.id, list(requests)):
            earlier = held.recorded.get((request, metric))
            if earlier is None or earlier.revision < recorded.revision:
                held.recorded[request, metric] = recorded

    def _may_visit(self, user: str) -> bool:
        """Whether a value of a user may be one of a later window; time stands still while the user is at hand."""
        bandit = self.bandit
        if not bandit.oversight.watch.slots:
            return False
        window, cell = bandit.experiment.window_seconds, bandit.users.cells[user]
        over = window is None or self.clock.latest > bandit.users.since[user] + window
        return over or cell.epoch.closed_at is not None

    def forget(self) -> None:
        """Let go of the users at hand."""
        self.clock.let_go()
        self.bandit.users.forget()
        self._loaded: dict[tuple[int, str], Outcome] = {}
        self._visits: dict[tuple[int, str], Visit] = {}
        self._were_moved: set[str] = set()
        self._new: list[str] = []
        self._rewarded: dict[str, None] = {}
        self._rows: list[tuple[str, str, int, str, float, float, int | None, int | None, str | None, int]] = []

    def _outcomes_of(self, cell: Cell) -> Iterator[tuple[int, Outcome]]:
        """Yield (measure, outcome state) of every user of a cell: as stored, but those at hand as they are now."""
        users = self.bandit.users
        for user, measure, outcome in self.store.outcomes_of_cell(self.id, *_place(cell)):
            if user not in users.outcomes[measure]:
                yield measure, outcome
        for measure, outcomes in enumerate(users.outcomes):
            for user, outcome in outcomes.items():
                if users.cells.get(user) is cell:
                    yield measure, outcome

    # What is asked of it

    def choose(self, user_id: str) -> Assignment:
        """Return the variant of a user, noting a new assignment."""
        answer = self.bandit.choose(user_id)
        if answer.reason == "new":
            self._new.append(user_id)
        return answer

    def kept(self, user_id: str) -> Assignment | None:
        """Return what an assigned user goes on getting; None: whoever it is has to be asked for in a transaction."""
        bandit = self.bandit
        if bandit.state == "stopped" or user_id in bandit.forced:
            return None
        row = self.store.assignment(self.id, user_id)
        return None if row is None else bandit.epochs[row[0] - 1].cells[row[1]].sticky

    def reward(self, what: Reward) -> Receipt:
        """Count what happened to a user, noting the rows to be stored."""
        recorded = self.bandit.users.recorded
        keys = [(what.request_id, name) for name in (*what.metrics, FAILED)]
        before = [recorded.get(key) for key in keys]
        receipt = self.bandit.reward(
            what.user_id, what.metrics, request_id=what.request_id, variant=what.variant,
            failed=what.failed, replace=what.replace,
        )  # fmt: skip
        cell = self.bandit.users.cells.get(what.user_id)
        for key, old in zip(keys, before, strict=True):
            new = recorded.get(key)
            if new is None or new is old:
                continue
            credited = _place(cell) if new.reason in (None, RETURNED) and cell is not None else (None, None)
            self._rows.append(
                (*key, new.revision, new.user_id, new.value, self.clock.latest, *credited, new.reason, new.firsts)
            )
        self._rewarded[what.user_id] = None
        return receipt

    def start(self, *, reason: str = "", actor: str) -> None:
        """Start, noting the first time."""
        self.bandit.start(reason=reason, actor=actor)
        if self.started_at is None:
            self.started_at = self.clock()

    def stop(self, serve: str | None, *, now: bool, reason: str = "", actor: str) -> None:
        """Stop, noting the time."""
        self.bandit.stop(serve, now=now, reason=reason, actor=actor)
        if self.stopped_at is None:
            self.stopped_at = self.clock()

    def due(self) -> bool:
        """Whether a tick may find something to do."""
        now = self.clock()
        return self.bandit.alarm <= now and now >= self.quiet_until and not self.bandit.truncated

    # What has to be written

    def changes(self) -> Changes | None:
        """Return what is not yet stored, None if everything is."""
        bandit = self.bandit
        new_epochs = bandit.epochs[self._n_epochs :]
        times = [
            (epoch.ended_at, epoch.closed_at, number)
            for number, (epoch, seen) in enumerate(
                zip(bandit.epochs[self._first_open : self._n_epochs], self._times, strict=True), self._first_open + 1
            )
            if (epoch.ended_at, epoch.closed_at) != seen
        ]
        moved = bandit.users.moved.keys() - self._were_moved
        # Whatever else constrains the arms changes with an event or an epoch, and so does a configuration.
        new_events = bandit.events[self._constraints.n_events :]
        came_back = bandit.visits.unwritten
        changed = self._new or self._rows or moved or new_epochs or times or new_events or came_back
        if not changed and self._row() == self._seen_row:
            return None
        changes = Changes(
            bandit.state, bandit.serve, bandit.truncated, self.clock.latest, bandit.origins, bandit.ramp,
            self.started_at, self.stopped_at, self._constraints,
            Constraints.of(bandit) if new_events else self._constraints,
            new_events,
            structural=bool(
                new_epochs or times or new_events or self._row() != self._seen_row
                or bandit.visits.counted_upto != self._counted_upto
            ),
            definition=None if bandit.experiment is self._experiment else bandit.experiment.to_json(),
            rewards=self._rows, epoch_times=times, new_epochs=[_epoch_row(epoch) for epoch in new_epochs],
            moved=[(bandit.users.moved[user], user) for user in moved],
        )  # fmt: skip
        self._collect_users(changes)
        return changes

    def catch_up(self, news: News) -> None:
        """Take over what other processes counted since; nothing but counts and sums differs."""
        self.bandit.take_over(news.cells, news.sums, news.returning, news.waiting)
        self.bandit.oversight.values.restore(news.values)
        self.clock.latest = max(self.clock.latest, news.now)
        self.version = news.version
        self._mark()

    def written(self) -> None:
        """Note that `changes` are stored, and tell the operator whom the system took away from users."""
        for event in self.bandit.events[self._constraints.n_events :]:
            if event.kind == "suspended" and event.actor == SYSTEM:
                tell(self.bandit.experiment.key, event)
        self.version += 1
        self.quiet_until = 0.0
        self._mark()

    def _collect_users(self, changes: Changes) -> None:
        users = self.bandit.users
        counted: dict[Cell, None] = {}
        for user in self._new:
            cell = users.cells[user]
            counted[cell] = None
            changes.assignments.append((user, *_place(cell), users.since[user]))
        counted |= {users.cells[user]: None for _, user in changes.moved}
        changes.cells = [(*_place(cell), cell.assigned, cell.moved) for cell in counted]
        summed: dict[tuple[Cell, int], None] = {}
        for user in self._rewarded:
            for measure, outcomes in enumerate(users.outcomes):
                outcome = outcomes.get(user)
                # The engine replaces an outcome whenever it counts a call, so identity tells what it touched.
                if outcome is not None and outcome is not self._loaded.get((measure, user)):
                    calls = (1, outcome, outcome) if isinstance(outcome, float) else outcome
                    changes.outcomes.append((user, measure, *calls))
                    summed[users.cells[user], measure] = None
            for measure, visits in enumerate(users.visits):
                visit = visits.get(user)
                if visit is not None and visit is not self._visits.get((measure, user)):
                    calls = (1, visit.outcome, visit.outcome) if isinstance(visit.outcome, float) else visit.outcome
                    changes.visits.append((user, measure, visit.number, visit.place, *calls))
        for cell in self._settled():
            summed |= {(cell, measure): None for measure, row in enumerate(cell.sums) if row[N]}
        changes.sums = [(*_place(cell), measure, cell.sums[measure]) for cell, measure in summed]
        self._collect_visits(changes)

    def _collect_visits(self, changes: Changes) -> None:
        visits, values = self.bandit.visits, self.bandit.oversight.values
        changes.values = [(*place, values.n(*place)) for place in values.unwritten]
        for cell, measure, window, moment in visits.unwritten:
            if not moment:
                changes.returning.append((*_place(cell), measure, window, cell.returning[measure, window]))
            elif (row := cell.waiting.get((measure, window, moment))) is not None:
                changes.waiting.append((*_place(cell), measure, window, moment, row))
        if visits.counted_upto != self._counted_upto:
            changes.counted_upto = visits.counted_upto

    def _settled(self) -> list[Cell]:
        """Return the cells of the epochs that closed since `_mark`: the engine has summed them afresh."""
        were_closed = [closed_at is not None for _, closed_at in self._times]
        were_closed += [False] * (len(self.bandit.epochs) - self._n_epochs)
        epochs = zip(self.bandit.epochs[self._first_open :], were_closed, strict=True)
        return [cell for epoch, before in epochs if epoch.closed_at is not None and not before for cell in epoch.cells]

    def _row(self) -> tuple[object, ...]:
        bandit = self.bandit
        times = self.started_at, self.stopped_at
        return bandit.state, bandit.serve, bandit.truncated, tuple(bandit.origins), bandit.ramp, *times

    def _mark(self) -> None:
        """Remember what is stored, to see later what is not. The times of closed epochs do not change any more."""
        self._n_epochs = len(self.bandit.epochs)
        self._first_open = self.bandit.closed_epochs
        self._times = [(epoch.ended_at, epoch.closed_at) for epoch in self.bandit.epochs[self._first_open :]]
        self._seen_row = self._row()
        self._counted_upto = self.bandit.visits.counted_upto
        self.bandit.visits.unwritten.clear()
        self.bandit.oversight.values.unwritten.clear()
        self._experiment = self.bandit.experiment
        if self._constraints.n_events != len(self.bandit.events):
            self._constraints = Constraints.of(self.bandit)


def _place(cell: Cell) -> tuple[int, int]:
    return cell.epoch.allocation.epoch, cell.arm


def _epoch_row(epoch: Epoch) -> tuple[int, str, int, float, float | None, float | None]:
    allocation = epoch.allocation
    return (
        allocation.epoch, json.dumps(allocation.probabilities), allocation.learned_epochs,
        epoch.started_at, epoch.ended_at, epoch.closed_at,
    )  # fmt: skip
