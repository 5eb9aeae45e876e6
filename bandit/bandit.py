"""One running experiment: users come in, rewards come back, epochs are renewed.

This is the whole state machine. In process it is used as it is; the service runs the same object inside each
write transaction, with the users at hand loaded from the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from bandit.allocation import Allocation
from bandit.assignment import UnitHash, arm_at
from bandit.call_values import quantiles
from bandit.crediting import Crediting
from bandit.dump import DAMAGES, dump_text, not_a_dump, read_dump
from bandit.epochs import Assignment, Cell, Epoch
from bandit.errors import InvalidInput, NoAssignment, Problem, WrongState
from bandit.events import Event, check_reason
from bandit.experiment import Experiment, check_id, parse
from bandit.history import History
from bandit.ledger import GOAL, Ledger
from bandit.measures import FAILED, measures_of
from bandit.oversight import Oversight
from bandit.ramp import Ramp
from bandit.report import Report, build_report
from bandit.rewards import MetricRules, Receipt, Receipts
from bandit.saved import SavedEpoch, SavedState, State
from bandit.timeline import NEVER, Timeline
from bandit.users import Users
from bandit.visits import Visits

OPERATOR = "operator"
"""Who acts where nobody is named."""


class Bandit:
    """An experiment with its users, in memory.

    Not safe for concurrent use: one thread at a time.

    Args:
        experiment: What is asked. Without a salt its key is the salt.
        clock: Returns the time in seconds; a step back is read as no step. None: a world without a clock, in
            which rewards come at once, windows and `max_epoch` do not act, and an epoch is closed when it ends.
        running: Whether it starts at once; else it is a draft until `start`.

    Example:
        >>> from bandit import Bandit, parse_toml
        >>> bandit = Bandit(parse_toml('''
        ... key = "greeting"
        ... variants = [{key = "A", control = true}, {key = "B"}]
        ... goal = {metric = "resolved", kind = "binary"}
        ... '''))
        >>> bandit.choose("user-1").variant
        'B'
        >>> bandit.choose("user-1").reason
        'sticky'
        >>> bandit.reward("user-1", {"resolved": 1}).accepted
        ('resolved',)
    """

    def __init__(
        self, experiment: Experiment, clock: Callable[[], float] | None = None, *, running: bool = True
    ) -> None:
        self.experiment = experiment
        self.clock = clock
        self.state: State = "draft"
        self.serve = experiment.control
        self.measures = measures_of(experiment)
        self.users = Users(len(self.measures))
        self.timeline = Timeline(experiment, self.users.outcomes_of, timed=clock is not None)
        self.origins = self.timeline.origins
        self.oversight = Oversight(experiment, self.timeline, self._known_time)
        watch, each_value = self.oversight.watch, experiment.window_seconds is None
        self._tipped = watch.tipped
        self.visits = Visits(
            self.users, self.measures, self.origins, watch, self.timeline.returning.changed.add,
            None if clock is None else experiment.window_seconds, each_value=each_value,
        )  # fmt: skip
        self.crediting = Crediting(
            self.users, self.measures, self.origins, watch, self.visits, self.oversight.values,
            first_is_final=each_value,
        )  # fmt: skip
        self.rules = MetricRules(experiment, counts_failures=self.crediting.counts(FAILED))
        self.forced: dict[str, int] = {}

        salt = experiment.key if experiment.salt is None else experiment.salt
        self._point = UnitHash("arm", salt)
        self._enrol = UnitHash("enrol", salt)
        self._receipts = Receipts()
        self._window = experiment.window_seconds  # None: each user's first value is final ("request")
        self._make_answers()
        self._now = -NEVER
        if running:
            self.start()

    # What is asked of it

    def choose(self, user_id: str) -> Assignment:
        """Return the variant of a user: the one they have, or a draw from the current allocation.

        Args:
            user_id: 1 to 200 bytes of UTF-8 without control characters; any stable id.

        Raises:
            InvalidId: The id is not of that form; nothing changed.
        """
        try:
            cell = self.users.cells.get(user_id)
        except TypeError:  # not hashable, so not a string
            cell = None
        if cell is not None and cell.sticky is not None and self.state != "stopped" and not self.forced:
            return cell.sticky
        check_id(user_id, "user_id")
        if user_id in self.forced:
            return self._forced[self.forced[user_id]]
        if self.state == "stopped":
            return self._after_stop(user_id)
        if cell is not None:
            return cell.sticky or self._move(user_id, cell)
        if self.state != "running" or not self.enrols(user_id):
            return self._outside[self.experiment.control]
        return self._assign(user_id)

    def reward(
        self,
        user_id: str,
        metrics: Mapping[str, object] | float,
        *,
        request_id: str | None = None,
        variant: str | None = None,
        failed: bool | None = None,
        replace: bool = False,
    ) -> Receipt:
        """Count what happened to a user.

        Args:
            user_id: Whom it happened to.
            metrics: Value per metric; a bare number is the goal's.
            request_id: Makes the call idempotent: per (request id, metric) a value counts once.
            variant: What was really served. If it is not the user's variant the values are credited to nobody.
            failed: Whether the call failed: True is the worst value of a binary goal, above every limit on a
                quantile, and makes the other metrics of this call void; False counts only for a guardrail on
                "failed".
            replace: Correct an earlier value under the same request id, inside the window.

        Raises:
            InvalidId, InvalidReward, UnknownVariant: The call is malformed.
            ConflictingReward: The request id was used with another value or user.
            NoAssignment: `choose` would enrol this user now; it has to come first.
            In each case nothing of the call was stored.
        """
        cell = self.users.cells.get(user_id) if user_id.__class__ is str else None
        if cell is None:
            check_id(user_id, "user_id")  # known users have passed it
        if request_id is not None:
            check_id(request_id, "request_id")
        calls, crediting = self.rules.calls(metrics, failed), self.crediting
        served = None if variant is None else self.experiment.arm(variant)
        are_new = crediting.refuse_conflicts(user_id, calls, request_id, replace=replace)
        now = self._time()
        if now >= self.timeline.alarm or now >= self.visits.alarm:
            self.timeline.close(now)
            self.visits.count(now)
        if cell is None:
            blanket: str | None = self._why_not_assigned(user_id, request_id, calls)
        else:
            blanket = self._why_not_learned(user_id, cell, served, now)
            if are_new and blanket is None and not failed and crediting.take_new(user_id, cell, calls, request_id):
                if self._tipped:
                    self._heed(now)
                return self._receipts.accepted(calls)
        later = self._later_window(user_id, now) if blanket == "late" else None
        void = FAILED if failed and blanket in (None, "late") else blanket
        became = {
            name: crediting.take(user_id, cell, name, value, request_id, blanket if name == FAILED else void, later)
            for name, value in calls.items()
        }
        if self._tipped:
            self._heed(now)
        if self._window is None and cell is not None and cell.epoch.ended_at is not None:
            self.timeline.close(now)  # this may have been the value that the epoch waited for
        return self._receipts.of(became)

    def standing(self, user_id: str, variant: str | None = None) -> tuple[Cell | None, str | None]:
        """Return where a user is counted, and what keeps anything that happens to them now from counting.

        Args:
            user_id: Who.
            variant: What was really served, or None: not said.

        Returns:
            The (epoch, arm) that the user was assigned in, None without a variant; and a reason as in
            `Receipt.ignored`, "late" after the user's window, or None.

        Raises:
            InvalidId, UnknownVariant: The call is malformed.
            NoAssignment: `choose` would enrol this user now; it has to come first.
        """
        check_id(user_id, "user_id")
        served = None if variant is None else self.experiment.arm(variant)
        cell = self.users.cells.get(user_id)
        if cell is None:
            return None, self._why_not_assigned(user_id, None, {})
        return cell, self._why_not_learned(user_id, cell, served, self._time())

    @classmethod
    def restored(cls, experiment: Experiment, saved: SavedState, clock: Callable[[], float] | None = None) -> Bandit:
        """Return the bandit that `saved_state` described; its users are to be put into `users`."""
        bandit = cls(experiment, clock, running=False)
        bandit.state, bandit.serve, bandit.timeline.frozen = saved.state, saved.serve, saved.truncated
        bandit._now = -NEVER if saved.now is None else saved.now
        epochs = [epoch.restored(experiment, number, bandit.measures) for number, epoch in enumerate(saved.epochs, 1)]
        bandit.timeline.restore(epochs, saved.origins, saved.generations)
        bandit.visits.restore(epochs)
        bandit.forced = dict(saved.forced)
        oversight = bandit.oversight
        oversight.states = {(row, arm): (state, since) for row, arm, state, since in saved.states}
        oversight.events = list(saved.events)
        oversight.values.restore(saved.values)
        oversight.set_ramp(saved.ramp)
        return bandit

    @property
    def saved_state(self) -> SavedState:
        """Everything but the users, as plain values."""
        return SavedState(
            self.state, self.serve, self.truncated, self._known_time(), list(self.origins),
            [SavedEpoch.of(epoch) for epoch in self.epochs], list(self.timeline.generations), self.oversight.ramp,
            dict(self.forced), [(*place, *state) for place, state in self.oversight.states.items()], list(self.events),
            self.oversight.values.saved,
        )  # fmt: skip

    # Its life

    def start(self, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Let new users in. Repeated calls change nothing.

        Args:
            reason: Why, for the events.
            actor: Who.

        Raises:
            WrongState: The experiment is stopped.
        """
        check_reason(reason)
        if self.state == "stopped":
            raise WrongState(f"experiment '{self.experiment.key}' is stopped; a stopped experiment stays stopped")
        if self.state != "running":
            now = self._time()
            self._begin_step(now)
            self.state = "running"
            self.oversight.note("started", reason, actor)
            self._go_on(now)

    def pause(self, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Let no new users in; known users keep their variant and their rewards count.

        Args:
            reason: Why, for the events.
            actor: Who.

        Raises:
            WrongState: The experiment is a draft or stopped.
        """
        check_reason(reason)
        if self.state in ("draft", "stopped"):
            raise WrongState(f"experiment '{self.experiment.key}' is {self.state}; only a running one can pause")
        if self.state == "running":
            self.state = "paused"
            self.timeline.end(self._time())
            self.oversight.note("paused", reason, actor)

    def stop(self, serve: str | None = None, *, now: bool = False, reason: str = "", actor: str = OPERATOR) -> None:
        """End the experiment. Repeated calls change nothing.

        Args:
            serve: Variant that everyone gets afterwards; default control.
            now: False: known users keep their variant until their window closes. True: at once; epochs that
                are still open are then not read for the goal.
            reason: Why, for the events.
            actor: Who.

        Raises:
            UnknownVariant: `serve` is no variant.
        """
        check_reason(reason)
        arm = self.experiment.control if serve is None else self.experiment.arm(serve)
        if self.state == "stopped":
            return
        self.state, self.serve, self.timeline.frozen = "stopped", arm, now
        self.timeline.end(self._time())
        self.oversight.note("stopped", reason, actor, self.experiment.arms[arm], {"now": now})

    def suspend(self, variant: str, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Keep a variant away from users: it gets no new ones, and those who have it get control.

        Repeated calls change nothing.

        Args:
            variant: Any but control.
            reason: Why, for the events and the report.
            actor: Who.

        Raises:
            UnknownVariant: There is none.
            WrongState: It is control, or the experiment is stopped.
        """
        check_reason(reason)
        arm = self._treatment(variant, "suspended")
        if not self.timeline.suspended[arm]:
            now = self._time()
            self.timeline.end(now)
            self.oversight.suspend(arm, (), reason, actor)
            self._go_on(now)

    def resume(self, variant: str, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Let a suspended variant have new users again, as another generation: nothing of before counts for it.

        Users who had it before stay on control. Repeated calls change nothing.

        Args:
            variant: A suspended one.
            reason: Why, for the events.
            actor: Who.

        Raises:
            UnknownVariant: There is none.
            WrongState: It is control, or the experiment is stopped.
        """
        check_reason(reason)
        arm = self._treatment(variant, "resumed")
        if self.timeline.suspended[arm]:
            now = self._time()
            self.timeline.end(now)
            self.oversight.resume(arm, reason, actor)
            self._go_on(now)

    def change(self, variant: str, config: Mapping[str, object], *, reason: str = "", actor: str = OPERATOR) -> None:
        """Give a variant another configuration: another generation of it, of which nothing is known yet.

        Users who have the variant get the new configuration; what they do counts for nobody. The same configuration
        again changes nothing.

        Args:
            variant: Any but control: all others are compared with it.
            config: JSON values.
            reason: Why, for the events.
            actor: Who.

        Raises:
            UnknownVariant: There is none.
            InvalidExperiment: The configuration is no table of JSON values, or too large.
            WrongState: It is control, or the experiment is stopped.
        """
        check_reason(reason)
        arm = self._treatment(variant, "changed")
        document = self.experiment.to_dict()
        document["variants"][arm]["config"] = config
        experiment = parse(document)
        if _text(experiment.variants[arm].config) == _text(self.experiment.variants[arm].config):
            return
        now = self._time()
        self.timeline.end(now)
        self.experiment = experiment
        self.oversight.change(arm, experiment, reason, actor)
        self._make_answers()
        self._go_on(now)

    def versions(self, variant: str) -> tuple[Mapping[str, object], ...]:
        """Return every configuration that a variant has had, the present one last; version 1 comes first.

        Raises:
            UnknownVariant: There is none.
        """
        arm = self.experiment.arm(variant)
        changes = [event.evidence for event in self.events if event.kind == "changed" and event.variant == variant]
        configs = [change["config"] for change in changes]
        first = changes[0]["before"] if changes else self.experiment.variants[arm].config
        return tuple(cast("Mapping[str, object]", config) for config in (first, *configs))

    def roll_back(self, variant: str, version: int | None = None, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Give a variant a configuration that it had before; as `change` does, so it is a further version.

        Args:
            variant: Any but control.
            version: Which one, from 1; None: the one before the present one.
            reason: Why, for the events.
            actor: Who.

        Raises:
            UnknownVariant: There is none.
            InvalidInput: It never had this version.
            WrongState: It is control, has had one configuration only, or the experiment is stopped.
        """
        check_reason(reason)
        self._treatment(variant, "changed")
        versions = self.versions(variant)
        if version is None and len(versions) == 1:
            raise WrongState(f"'{variant}' has had one configuration only; there is nothing to go back to")
        if version is not None and not 1 <= version <= len(versions):
            allowed = "1" if len(versions) == 1 else f"1 to {len(versions)}"
            raise InvalidInput([Problem("version", f"received {version}, allowed: {allowed}")])
        wanted = versions[-2] if version is None else versions[version - 1]
        self.change(variant, wanted, reason=reason, actor=actor)

    def set_exposure(self, exposure: float | None, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Let another share of users in; who is in stays in.

        Args:
            exposure: In [0, 1]; it holds until the next call. None: the ramp goes on from its step, or else the
                declared share holds again.
            reason: Why, for the events.
            actor: Who.

        Raises:
            InvalidInput: It is no share.
            WrongState: The experiment is stopped.
        """
        check_reason(reason)
        self._refuse_if_stopped("has no exposure")
        if exposure is not None and not (type(exposure) in (int, float) and 0.0 <= exposure <= 1.0):
            raise InvalidInput([Problem("exposure", f"received {exposure!r}, allowed: a number from 0 to 1, or none")])
        if exposure == self.oversight.ramp.by_hand:
            return
        now = self._time()
        self.timeline.end(now)
        self.oversight.step(replace(self.oversight.ramp, by_hand=exposure), now, reason or "set by hand", actor)
        self._go_on(now)

    def force(self, user_id: str, variant: str, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Give a user a variant by hand, outside learning: for trying it out. It may be a suspended one.

        Raises:
            InvalidId: The id is not of the allowed form.
            UnknownVariant: There is none.
        """
        check_reason(reason)
        check_id(user_id, "user_id")
        arm = self.experiment.arm(variant)
        if self.forced.get(user_id) != arm:
            self.forced[user_id] = arm
            self._time()
            self.oversight.note("forced", reason, actor, variant, {"user_id": user_id})

    def release(self, user_id: str, *, reason: str = "", actor: str = OPERATOR) -> None:
        """Take back `force`: the ordinary rules hold for the user again. Repeated calls change nothing."""
        check_reason(reason)
        check_id(user_id, "user_id")
        arm = self.forced.pop(user_id, None)
        if arm is not None:
            self._time()
            self.oversight.note("unforced", reason, actor, self.experiment.arms[arm], {"user_id": user_id})

    def tick(self) -> None:
        """Let time pass: close epochs whose windows have ended, renew an allocation older than `max_epoch`.

        `choose` and `reward` do this as well; call it where neither may come for a while.
        """
        now = self._time()
        self.timeline.close(now)
        self.visits.count(now)
        if self._tipped:
            self._heed(now)
        if self.state == "running" and (self.timeline.is_aged(now) or now >= self.oversight.alarm):
            self._renew(now)
        elif self.state != "running" and self.timeline.closed > self.oversight.looked_at:
            self._go_on(now)

    @property
    def epochs(self) -> list[Epoch]:
        """All epochs so far, the current one last."""
        return self.timeline.epochs

    @property
    def truncated(self) -> bool:
        """Whether the experiment was stopped at once: open epochs will not be read for the goal."""
        return self.timeline.frozen

    @property
    def allocation(self) -> Allocation | None:
        """The allocation that new users are drawn from; None unless the experiment is running."""
        return self.epochs[-1].allocation if self.state == "running" else None

    @property
    def alarm(self) -> float:
        """Earliest time at which `tick` may find something to do, seconds of the clock; infinity: never."""
        ramp = self.oversight.alarm if self.state == "running" else NEVER
        return min(self.timeline.alarm, ramp, NEVER if self.truncated else self.visits.alarm)

    @property
    def closed_epochs(self) -> int:
        """Epochs 1 to this one are closed: what learning and reporting read."""
        return self.timeline.closed

    @property
    def ledger(self) -> Ledger:
        """Sums per (epoch, arm) and measure, over all epochs."""
        return self.timeline.ledger

    @property
    def events(self) -> list[Event]:
        """What changed, in order; allocations are in `epochs`."""
        return self.oversight.events

    @property
    def exposure(self) -> float:
        """Share of users that is let in now, in [0, 1]."""
        return self.oversight.exposure

    @property
    def ramp(self) -> Ramp:
        """Where the experiment is on its ramp."""
        return self.oversight.ramp

    def what_holds_the_ramp(self) -> str | None:
        """Return why the next step of the ramp is not taken yet, in words; None if there is no next step."""
        return self.oversight.what_holds_the_ramp()

    @property
    def history(self) -> History:
        """Every epoch with what became of its users: what the report and the guardrails read."""
        return self.oversight.history

    def report(self) -> Report:
        """Return what the experiment says now; `bandit.markdown` turns it into text."""
        since = {(row, arm): at for (row, arm), (_, at) in self.oversight.states.items()}
        calls = quantiles(self.experiment, self.oversight.values)
        return build_report(self.experiment, self.history, self.state, since=since, calls=calls)

    def dump(self) -> str:
        """Return everything that is known as JSON text; `load` makes an equal from it."""
        return dump_text(self.experiment, self.saved_state, self.users)

    @classmethod
    def load(cls, text: str | bytes, clock: Callable[[], float] | None = None) -> Bandit:
        """Return the bandit that was dumped; it goes on exactly where that one was.

        Args:
            text: What `dump` returned.
            clock: As for `Bandit`; give one if the dumped bandit had one.

        Raises:
            InvalidInput: The text is not a dump of this version.
        """
        try:
            experiment, saved, fill = read_dump(text)
            bandit = cls.restored(experiment, saved, clock)
            fill(bandit.users, bandit.epochs)
        except DAMAGES as error:
            raise not_a_dump(error) from error
        return bandit

    def take_over(
        self,
        cells: Iterable[tuple[int, int, int, int]],
        sums: Iterable[tuple[Sequence[int], list[float]]],
        returning: Iterable[tuple[Sequence[int], list[float]]],
        waiting: Iterable[tuple[Sequence[int], list[float]]],
    ) -> None:
        """Take over what another process counted in the same epochs; all are new absolute values.

        Args:
            cells: Number of the epoch, arm, users assigned, users moved.
            sums: (Epoch, arm, measure), and sums.
            returning: (Epoch, arm, measure, window), and sums.
            waiting: (Epoch, arm, measure, window, moment), and sums.
        """
        for epoch, arm, assigned, moved in cells:
            self.timeline.count(self.epochs[epoch - 1].cells[arm], assigned, moved)
        for (epoch, arm, measure), row in sums:
            self.epochs[epoch - 1].cells[arm].sums[measure] = row
        for (epoch, arm, *key), row in returning:
            cell = self.epochs[epoch - 1].cells[arm]
            cell.returning[key[0], key[1]] = row
            self.timeline.returning.changed.add(cell)
        for (epoch, arm, *key), row in waiting:
            self.visits.wait(self.epochs[epoch - 1].cells[arm], (key[0], key[1], key[2]), row)
        self.oversight.watch.reset()

    def enrols(self, user_id: str) -> bool:
        """Whether this user belongs to the share of users that is in the experiment."""
        exposure = self.oversight.exposure
        return exposure >= 1.0 or self._enrol(user_id) < exposure

    def point(self, user_id: str) -> float:
        """Return the user's point in [0, 1) that the arms' intervals are compared with."""
        return self._point(user_id)

    def window_open(self, user_id: str) -> bool:
        """Whether an assigned user's outcome on the goal may still change."""
        if self._is_late(user_id, self.users.cells[user_id], self._time()):
            return False
        return self._window is not None or user_id not in self.users.outcomes[GOAL]

    # Users and rewards

    def _make_answers(self) -> None:
        self._outside, self._moved, self._forced, self._after = (
            [Assignment(variant.key, variant.config, None, None, reason) for variant in self.experiment.variants]
            for reason in ("not_enrolled", "moved", "forced", "stopped")
        )

    def _assign(self, user_id: str) -> Assignment:
        now, timeline = self._time(), self.timeline
        if now >= timeline.alarm or now >= self.oversight.alarm or now >= self.visits.alarm:
            self.tick()
            now = self._time()
        if timeline.is_full:
            self._renew(now)
        current = timeline.epochs[-1]
        cell = current.cells[arm_at(self._point(user_id), current.ends)]
        self.users.put(user_id, cell, now)
        cell.assigned += 1
        timeline.left -= 1
        return cell.new

    def _after_stop(self, user_id: str) -> Assignment:
        cell = self.users.cells.get(user_id)
        if cell is not None and not self.truncated and self.window_open(user_id):
            return cell.sticky or self._move(user_id, cell)
        return self._after[self.serve]

    def _move(self, user_id: str, cell: Cell) -> Assignment:
        """Return what a user gets whose generation of the arm has ended, noting the first time."""
        if user_id not in self.users.moved:
            self.users.moved[user_id] = self._time()
            self.timeline.move(cell)
        return self._moved[self.timeline.destination(cell)]

    def _why_not_learned(self, user_id: str, cell: Cell, served: int | None, now: float) -> str | None:
        """Return the reason that keeps every value of an assigned user from counting, or None."""
        if self.forced and user_id in self.forced:
            return "forced"
        if served is not None and served != cell.arm:
            return "other_variant"
        if self.timeline.frozen or user_id in self.users.moved:
            return "stopped" if self.timeline.frozen else "moved"
        return "late" if self._is_late(user_id, cell, now) else None

    def _why_not_assigned(self, user_id: str, request_id: str | None, calls: Mapping[str, float]) -> str:
        """Return the reason that keeps every value of a user without a variant from counting."""
        if user_id in self.forced:
            return "forced"
        if self.state != "running":
            return self.state
        # What was answered before this user's share was let in is answered alike when it comes again.
        if self.enrols(user_id) and (request_id is None or not self.crediting.repeats(request_id, calls)):
            raise NoAssignment(
                f"user '{user_id}' has no variant in experiment '{self.experiment.key}'; call choose first"
            )
        return "not_enrolled"

    def _later_window(self, user_id: str, now: float) -> int | None:
        """Return which window after the first one a late value is in, from 1; None if nobody looks at it there."""
        if self.state == "stopped":
            return None
        if self._window is None or self.clock is None:
            return 1
        return max(int((now - self.users.since[user_id]) // self._window), 1)

    def _is_late(self, user_id: str, cell: Cell, now: float) -> bool:
        if cell.epoch.closed_at is not None:
            return True
        return self._window is not None and self.clock is not None and now > self.users.since[user_id] + self._window

    # Epochs

    def _heed(self, now: float) -> None:
        """Begin another epoch if values that came in break a limit: harm does not wait for the next one."""
        if not self.truncated and self.oversight.has_tipped():
            self._renew(now)

    def _renew(self, now: float) -> None:
        """Begin another epoch, after a look at the guardrails."""
        self.timeline.end(now)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        self.oversight.go_on(now, running=self.state == "running")

    def _begin_step(self, now: float) -> None:
        """Let the time on a step of the ramp go on from here: a pause is none of it."""
        ramp = self.oversight.ramp
        paused_at = None if self.state == "draft" else self.epochs[-1].ended_at
        since = now if paused_at is None else ramp.since + now - max(paused_at, ramp.since)
        self.oversight.set_ramp(replace(ramp, since=since))

    def _treatment(self, variant: str, what: str) -> int:
        """Return the index of a variant that can be suspended and resumed."""
        arm = self.experiment.arm(variant)
        if arm == self.experiment.control:
            raise WrongState(f"'{variant}' is control, which is what users get instead; it cannot be {what}")
        self._refuse_if_stopped(f"'{variant}' cannot be {what}")
        return arm

    def _refuse_if_stopped(self, consequence: str) -> None:
        if self.state == "stopped":
            raise WrongState(f"experiment '{self.experiment.key}' is stopped: {consequence}")

    def _known_time(self) -> float | None:
        return None if self._now == -NEVER else self._now

    def _time(self) -> float:
        """Return the time, which never runs backwards."""
        if self.clock is None:
            return 0.0
        now = float(self.clock())
        if now > self._now:  # noqa: PLR1730 - `max` takes twice as long, and this is asked at every call
            self._now = now
        return self._now


def _text(config: Mapping[str, object]) -> str:
    """Return a configuration as text: 1, 1.0 and true are equal to Python, but not to an application."""
    return json.dumps(config, sort_keys=True)
