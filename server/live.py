"""An experiment that is being served: the engine's `Bandit`, and what of it has to be written.

Only the writer thread touches these objects, and only inside a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from bandit import Assignment, Bandit, ConflictingReward, Experiment, Receipt
from bandit.epochs import Cell, Epoch
from bandit.measures import FAILED
from bandit.outcomes import Outcome
from bandit.users import Visit
from server.columns import counts_text, outcomes_from, outcomes_text, sums_text, values_text, visits_from, visits_text
from server.constraints import Constraints
from server.interactions import Interaction, Known, Logged, Row, row_of, without_texts
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


class Reward(msgspec.Struct, frozen=True):  # made for every call, and made faster than a dataclass
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
        self._versions_of: Experiment | None = None
        self._versions: list[int] = []
        self._mark()
        self.forget()

    # Users at hand

    def recall(
        self, users: Iterable[str], rewarded: Iterable[str], requests: Iterable[str], logged: Iterable[str] = ()
    ) -> None:
        """Load what is stored of these users and requests.

        Args:
            users: Everybody at hand.
            rewarded: Those users whose outcomes may change or are asked for.
            requests: Request ids of rewards, and of interactions.
            logged: Request ids of interactions.
        """
        self.clock.hold()
        held, epochs, rewarded = self.bandit.users, self.bandit.epochs, frozenset(rewarded)
        for user in self.store.users(self.id, list(users)):
            who = user.user_id
            held.since[who] = since = float(user.since)
            held.cells[who] = cell = epochs[user.epoch - 1].cells[user.arm]
            if user.moved is not None:
                held.moved[who] = float(user.moved)
                self._were_moved.add(who)
            if who not in rewarded:
                continue
            self._last_reward[who] = user.last_reward
            for measure, outcome in outcomes_from(user.outcomes).items():
                held.outcomes[measure][who] = self._loaded[measure, who] = outcome
            if user.visits is not None and self._may_visit(cell, since):
                for measure, visit in visits_from(user.visits).items():
                    held.visits[measure][who] = self._visits[measure, who] = visit
        for request, part, values in self.store.recorded(self.id, list(requests)):
            self._parts[request] = max(part + 1, self._parts.get(request, 0))
            for metric, recorded in values.items():
                earlier = held.recorded.get((request, metric))
                if earlier is None or earlier.revision < recorded.revision:
                    held.recorded[request, metric] = recorded
        self._interactions.update(self.store.interactions(self.id, list(logged)))

    def _may_visit(self, cell: Cell, since: float) -> bool:
        """Whether a value of a user may be one of a later window; time stands still while the user is at hand."""
        bandit = self.bandit
        if not bandit.oversight.watch.slots:
            return False
        window = bandit.experiment.window_seconds
        over = window is None or self.clock.latest > since + window
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
        self._last_reward: dict[str, int] = {}
        self._parts: dict[str, int] = {}
        self._rows: list[tuple[int, str, int, str, float, int | None, str]] = []
        self._interactions: dict[str, Known] = {}
        self._new_interactions: list[Row] = []

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
        user = self.store.user(self.id, user_id)
        return None if user is None else bandit.epochs[user.epoch - 1].cells[user.arm].sticky

    def reward(self, what: Reward) -> Receipt:
        """Count what happened to a user, noting the row to be stored."""
        users, user, request = self.bandit.users, what.user_id, what.request_id
        recorded = users.recorded
        names = what.metrics if what.failed is None else (*what.metrics, FAILED)
        part = self._parts.get(request, 0)
        before = {name: recorded.get((request, name)) for name in names} if part else {}
        receipt = self.bandit.reward(
            user, what.metrics, request_id=request, variant=what.variant, failed=what.failed, replace=what.replace
        )
        new = {
            name: held
            for name in names
            if (held := recorded.get((request, name))) is not None and held is not before.get(name)
        }
        if new:
            number, previous = self.store.next_reward(), None
            if user in users.cells:
                previous = self._last_reward.get(user, 0)
                self._last_reward[user] = number
            self._parts[request] = part + 1
            self._rows.append((number, request, part, user, self.clock.latest, previous, values_text(new)))
            self._rewarded[user] = None
        return receipt

    def log(self, told: Interaction) -> Logged:
        """Count what an interaction says of metrics, noting its row.

        Raises:
            BanditError: As of a reward; or the request id was used for another interaction. Nothing changed.
        """
        bandit, metrics = self.bandit, told.metrics(self.bandit.experiment)
        before = self._interactions.get(told.request_id)
        if before is not None:
            return self._again(told, before, metrics)
        cell, reason = bandit.standing(told.user_id, told.variant_id)
        receipt = Receipt()
        if metrics or self._reports_failure(told):
            receipt = self.reward(Reward(told.user_id, told.request_id, metrics, told.variant_id, told.failed))
        counts = cell is not None and reason in (None, "late")
        place = (*_place(cell), self._version(cell.arm)) if cell is not None and counts else None
        self._new_interactions.append(row_of(told, self.clock.latest, place, None if counts else reason))
        arm = None if place is None else place[1]
        self._interactions[told.request_id] = Known(told.user_id, arm, None if counts else reason, told.digest())
        return self._logged("stored", self._interactions[told.request_id], receipt)

    def _reports_failure(self, told: Interaction) -> bool:
        """Whether it says of "failed" what is counted; that a call did not fail counts where a guardrail is on it."""
        return bool(told.failed) or (told.failed is False and self.bandit.crediting.counts(FAILED))

    def forget_texts(self, user_id: str) -> int:
        """Forget the texts of a user's interactions that are not written yet; return how many these are."""
        mine = [place for place, row in enumerate(self._new_interactions) if row[1] == user_id]
        for place in mine:
            self._new_interactions[place] = without_texts(self._new_interactions[place])
        return len(mine)

    def _version(self, arm: int) -> int:
        """Return the number of an arm's present configuration."""
        bandit = self.bandit
        if self._versions_of is not bandit.experiment:
            self._versions_of = bandit.experiment
            self._versions = [len(bandit.versions(key)) for key in bandit.experiment.arms]
        return self._versions[arm]

    def _again(self, told: Interaction, before: Known, metrics: Mapping[str, object]) -> Logged:
        """Answer an interaction whose request id came before."""
        if before.user_id != told.user_id or before.digest not in (None, told.digest()):
            raise ConflictingReward(
                f"request_id '{told.request_id}' already logged another interaction; use a new request_id"
            )
        names = (*metrics, *((FAILED,) if self._reports_failure(told) else ()))
        return self._logged("duplicate", before, Receipt(duplicate=names))

    def _logged(self, status: Literal["stored", "duplicate"], what: Known, receipt: Receipt) -> Logged:
        variant = None if what.arm is None else self.bandit.experiment.arms[what.arm]
        return Logged(status, variant, what.reason, receipt)

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
        touched, new_epochs = bandit.timeline.unwritten, bandit.epochs[self._n_epochs :]
        times = [
            (epoch.ended_at, epoch.closed_at, epoch.allocation.epoch)
            for epoch in touched
            if epoch.allocation.epoch <= self._n_epochs
        ]
        moved = bandit.users.moved.keys() - self._were_moved
        # Whatever else constrains the arms changes with an event or an epoch, and so does a configuration.
        new_events = bandit.events[self._constraints.n_events :]
        came_back = bandit.visits.unwritten
        changed = self._new or self._rows or moved or new_epochs or times or new_events or came_back
        if not changed and not self._new_interactions and self._row() == self._seen_row:
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
            moved=[(user, bandit.users.moved[user]) for user in moved], interactions=self._new_interactions,
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
            tell(self.bandit.experiment, event)
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
        counted |= {users.cells[user]: None for user, _ in changes.moved}
        self._collect_rewarded(changes, counted)
        for epoch in self.bandit.timeline.unwritten:
            if epoch.closed_at is not None:  # the engine has summed its cells afresh
                counted |= dict.fromkeys(cell for cell in epoch.cells if cell.assigned)
        changes.cells = [(*_place(cell), cell.assigned, cell.moved, sums_text(cell.sums)) for cell in counted]
        self._collect_visits(changes)

    def _collect_rewarded(self, changes: Changes, counted: dict[Cell, None]) -> None:
        """Collect the users whose calls were stored, and add the cells whose sums they moved."""
        users = self.bandit.users
        returning = any(users.visits)
        for user in self._rewarded:
            last = self._last_reward.get(user)
            if last is None:  # had no variant then
                continue
            cell, outcomes = users.cells[user], dict[int, Outcome]()
            for measure, of_measure in enumerate(users.outcomes):
                outcome = of_measure.get(user)
                if outcome is not None:
                    outcomes[measure] = outcome
                    # The engine replaces an outcome whenever it counts a call, so identity tells what it touched.
                    if outcome is not self._loaded.get((measure, user)):
                        counted[cell] = None
            changes.rewarded.append((user, last, outcomes_text(outcomes)))
            if not returning:
                continue
            visits = {measure: visit for measure, of in enumerate(users.visits) if (visit := of.get(user)) is not None}
            if any(visit is not self._visits.get((measure, user)) for measure, visit in visits.items()):
                changes.visits.append((user, visits_text(visits)))

    def _collect_visits(self, changes: Changes) -> None:
        visits, values = self.bandit.visits, self.bandit.oversight.values
        changes.values = [(*place, counts_text(values.of(*place))) for place in values.unwritten]
        for cell, measure, window, moment in visits.unwritten:
            if not moment:
                changes.returning.append((*_place(cell), measure, window, cell.returning[measure, window]))
            elif (row := cell.waiting.get((measure, window, moment))) is not None:
                changes.waiting.append((*_place(cell), measure, window, moment, row))
        if visits.counted_upto != self._counted_upto:
            changes.counted_upto = visits.counted_upto

    def _row(self) -> tuple[object, ...]:
        bandit = self.bandit
        times = self.started_at, self.stopped_at
        return bandit.state, bandit.serve, bandit.truncated, tuple(bandit.origins), bandit.ramp, *times

    def _mark(self) -> None:
        """Remember what is stored, to see later what is not."""
        self._n_epochs = len(self.bandit.epochs)
        self.bandit.timeline.unwritten.clear()
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
