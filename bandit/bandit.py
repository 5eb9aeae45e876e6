"""One running experiment: users come in, rewards come back, epochs are renewed.

This is the whole state machine. In process it is used as it is; the service runs the same object inside each
write transaction, with the users at hand loaded from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bandit.allocation import Allocation
from bandit.assignment import UnitHash, arm_at
from bandit.crediting import Crediting
from bandit.dump import DAMAGES, dump_text, not_a_dump, read_dump
from bandit.epochs import Assignment, Cell, Epoch
from bandit.errors import InvalidReward, NoAssignment, Problem, WrongState
from bandit.experiment import Experiment, check_id
from bandit.history import History
from bandit.ledger import GOAL, Ledger
from bandit.measures import FAILED, measures_of
from bandit.report import Report, build_report
from bandit.rewards import MetricRules, Receipt
from bandit.saved import SavedEpoch, SavedState, State
from bandit.timeline import NEVER, Timeline
from bandit.users import Users


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
        self.crediting = Crediting(
            self.users, self.measures, self.origins, first_is_final=experiment.window_seconds is None
        )
        self.rules = MetricRules(experiment)

        salt = experiment.key if experiment.salt is None else experiment.salt
        self._point = UnitHash("arm", salt)
        self._enrol = UnitHash("enrol", salt)
        self._goal = experiment.goal.metric
        self._exposure = experiment.rollout.exposure
        self._all_accepted: dict[tuple[str, ...], Receipt] = {}
        self._window = experiment.window_seconds  # None: each user's first value is final ("request")
        self._outside = [
            Assignment(variant.key, variant.config, None, None, "not_enrolled") for variant in experiment.variants
        ]
        self._after = [
            Assignment(variant.key, variant.config, None, None, "stopped") for variant in experiment.variants
        ]
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
        if cell is not None and self.state != "stopped":
            return cell.sticky
        check_id(user_id, "user_id")
        if self.state == "stopped":
            return self._after_stop(user_id)
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
        calls = self._calls(user_id, metrics, request_id, failed)
        served = None if variant is None else self.experiment.arm(variant)
        if request_id is not None:
            self.crediting.refuse_conflicts(user_id, calls, request_id, replace=replace)
        elif replace:
            raise InvalidReward([Problem("replace", "needs the request_id of the value that it corrects")])
        now = self._time()
        if now >= self.timeline.alarm:
            self.timeline.close(now)
        cell = self.users.cells.get(user_id)
        blanket = self._why_not_learned(user_id, cell, served, now)
        became: dict[str, str] = {}
        for name, value in calls.items():
            reason = FAILED if failed and name != FAILED and blanket is None else blanket
            became[name] = self.crediting.take(user_id, cell, name, value, request_id, reason)
        if self._window is None and cell is not None and cell.epoch.ended_at is not None:
            self.timeline.close(now)  # this may have been the value that the epoch waited for
        return self._receipt(became)

    @classmethod
    def restored(cls, experiment: Experiment, saved: SavedState, clock: Callable[[], float] | None = None) -> Bandit:
        """Return the bandit that `saved_state` described; its users are to be put into `users`."""
        bandit = cls(experiment, clock, running=False)
        bandit.state, bandit.serve, bandit.timeline.frozen = saved.state, saved.serve, saved.truncated
        bandit._now = -NEVER if saved.now is None else saved.now
        epochs = [epoch.restored(experiment, number, bandit.measures) for number, epoch in enumerate(saved.epochs, 1)]
        bandit.timeline.restore(epochs, saved.origins)
        return bandit

    @property
    def saved_state(self) -> SavedState:
        """Everything but the users, as plain values."""
        now = None if self._now == -NEVER else self._now
        epochs = [SavedEpoch.of(epoch) for epoch in self.epochs]
        return SavedState(self.state, self.serve, self.truncated, now, list(self.origins), epochs)

    def start(self) -> None:
        """Let new users in. Repeated calls change nothing.

        Raises:
            WrongState: The experiment is stopped.
        """
        if self.state == "stopped":
            raise WrongState(f"experiment '{self.experiment.key}' is stopped; a stopped experiment stays stopped")
        if self.state != "running":
            self.state = "running"
            self.timeline.begin(self._time())

    def pause(self) -> None:
        """Let no new users in; known users keep their variant and their rewards count.

        Raises:
            WrongState: The experiment is a draft or stopped.
        """
        if self.state in ("draft", "stopped"):
            raise WrongState(f"experiment '{self.experiment.key}' is {self.state}; only a running one can pause")
        if self.state == "running":
            self.state = "paused"
            self.timeline.end(self._time())

    def stop(self, serve: str | None = None, *, now: bool = False) -> None:
        """End the experiment. Repeated calls change nothing.

        Args:
            serve: Variant that everyone gets afterwards; default control.
            now: False: known users keep their variant until their window closes. True: at once; epochs that
                are still open are then not read for the goal.

        Raises:
            UnknownVariant: `serve` is no variant.
        """
        arm = self.experiment.control if serve is None else self.experiment.arm(serve)
        if self.state == "stopped":
            return
        was_running = self.state == "running"
        self.state, self.serve, self.timeline.frozen = "stopped", arm, now
        if was_running:
            self.timeline.end(self._time())

    def tick(self) -> None:
        """Let time pass: close epochs whose windows have ended, renew an allocation older than `max_epoch`.

        `choose` and `reward` do this as well; call it where neither may come for a while.
        """
        now = self._time()
        self.timeline.close(now)
        if self.state == "running" and self.timeline.is_aged(now):
            self._renew(now)

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
        return self.timeline.alarm

    @property
    def closed_epochs(self) -> int:
        """Epochs 1 to this one are closed: what learning and reporting read."""
        return self.timeline.closed

    @property
    def ledger(self) -> Ledger:
        """Sums per (epoch, arm) and measure, over all epochs."""
        return self.timeline.ledger

    @property
    def history(self) -> History:
        """Every epoch with what became of its users: what the report reads."""
        timed = self._now > -NEVER
        return History(
            self.ledger,
            self.closed_epochs,
            np.array([epoch.allocation.probabilities for epoch in self.epochs]).reshape(-1, self.experiment.n_arms),
            np.array([epoch.started_at for epoch in self.epochs]) if timed else None,
            self._now if timed else None,
        )

    def report(self) -> Report:
        """Return what the experiment says now; `bandit.markdown` turns it into text."""
        return build_report(self.experiment, self.history, self.state)

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

    def enrols(self, user_id: str) -> bool:
        """Whether this user belongs to the share of users that is in the experiment."""
        return self._exposure >= 1.0 or self._enrol(user_id) < self._exposure

    def point(self, user_id: str) -> float:
        """Return the user's point in [0, 1) that the arms' intervals are compared with."""
        return self._point(user_id)

    def window_open(self, user_id: str) -> bool:
        """Whether an assigned user's outcome on the goal may still change."""
        if self._is_late(user_id, self.users.cells[user_id], self._time()):
            return False
        return self._window is not None or user_id not in self.users.outcomes[GOAL]

    # Users and rewards

    def _assign(self, user_id: str) -> Assignment:
        now, timeline = self._time(), self.timeline
        if now >= timeline.alarm:
            self.tick()
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
            return cell.sticky
        return self._after[self.serve]

    def _why_not_learned(self, user_id: str, cell: Cell | None, served: int | None, now: float) -> str | None:
        """Return the reason that keeps every value of a user from counting, or None."""
        if cell is None:
            if self.state != "running":
                return self.state
            if self.enrols(user_id):
                raise NoAssignment(
                    f"user '{user_id}' has no variant in experiment '{self.experiment.key}'; call choose first"
                )
            return "not_enrolled"
        if served is not None and served != cell.arm:
            return "other_variant"
        if self.truncated:
            return "stopped"
        return "late" if self._is_late(user_id, cell, now) else None

    def _is_late(self, user_id: str, cell: Cell, now: float) -> bool:
        if cell.epoch.closed_at is not None:
            return True
        return self._window is not None and self.clock is not None and now > self.users.since[user_id] + self._window

    def _calls(
        self, user_id: str, metrics: Mapping[str, object] | float, request_id: str | None, failed: bool | None
    ) -> dict[str, float]:
        """Return the checked values by metric name; a report on failure is a value of "failed"."""
        if user_id.__class__ is not str or user_id not in self.users.cells:
            check_id(user_id, "user_id")  # known users have passed it
        if request_id is not None:
            check_id(request_id, "request_id")
        if metrics.__class__ is not dict and not isinstance(metrics, Mapping):
            metrics = {self._goal: metrics}
        if failed not in (None, True, False):
            raise InvalidReward([Problem("failed", f"received {failed!r}, allowed: True, False or None")])
        values = self.rules.check(metrics)
        if failed or (failed is False and self.crediting.counts(FAILED)):
            values[FAILED] = float(failed)
        if not values:
            raise InvalidReward([Problem("metrics", "received none, allowed: at least one, or `failed`")])
        return values

    def _receipt(self, became: Mapping[str, str]) -> Receipt:
        if not any(became.values()):  # the usual receipt is made once
            names = tuple(became)
            if names not in self._all_accepted:
                self._all_accepted[names] = Receipt(accepted=names)
            return self._all_accepted[names]

        def those(what: str) -> tuple[str, ...]:
            return tuple(name for name, result in became.items() if result == what)

        ignored = {name: result for name, result in became.items() if result not in ("", "duplicate", "late")}
        return Receipt(those(""), those("duplicate"), those("late"), ignored)

    def _renew(self, now: float) -> None:
        self.timeline.end(now)
        self.timeline.begin(now)

    def _time(self) -> float:
        """Return the time, which never runs backwards."""
        if self.clock is not None:
            self._now = max(self._now, float(self.clock()))
            return self._now
        return 0.0
