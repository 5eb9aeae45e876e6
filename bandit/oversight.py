"""What happens between two epochs: a look at the guardrails, and what follows from it.

    judgement -> suspensions -> states -> ramp -> the next epoch

The one place where an arm is taken away from users or let in, by the engine or by a person, and where that is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from bandit.call_values import CallValues
from bandit.events import SYSTEM, Event, EventKind
from bandit.experiment import Experiment
from bandit.guardrails import GuardrailVerdict, Judgement, breach_in_words, evidence_of, judge, row_name
from bandit.history import History
from bandit.ramp import Ramp, what_holds
from bandit.timeline import NEVER, Timeline
from bandit.watch import Watch


class Oversight:
    """Guardrails, ramp and events of one experiment.

    Args:
        experiment: Whose.
        timeline: Its epochs.
        now: Says what time it is, None where there is no clock or nothing has happened yet.

    Attributes:
        experiment: Replaced when a variant gets another configuration.
        watch: Says when values that came in could tip a limit.
        ramp: Who is let in.
        exposure: Share of users that is let in now, in [0, 1].
        states: By guardrail and arm the state, where it is or was another than "unknown", and since when.
        events: What changed, in order.
        looked_at: Closed epochs at the last look; 0 after a restart, because a look too many changes nothing.
        values: Calls by their value, of the arms' present generations.
        alarm: Earliest time at which the ramp can take its next step by the clock alone; infinity: none.
    """

    def __init__(self, experiment: Experiment, timeline: Timeline, now: Callable[[], float | None]) -> None:
        self.experiment = experiment
        self.watch = Watch(experiment)
        self.ramp = Ramp()
        self.exposure = self.ramp.exposure(experiment)
        self.states: dict[tuple[int, int], tuple[GuardrailVerdict, float | None]] = {}
        self.events: list[Event] = []
        self.looked_at = 0
        self.values = CallValues(experiment)
        self.alarm = NEVER
        self._timeline = timeline
        self._now = now

    @property
    def history(self) -> History:
        """Every epoch with what became of its users."""
        epochs, now = self._timeline.epochs, self._now()
        return History(
            self._timeline.ledger,
            self._timeline.closed,
            np.array([epoch.allocation.probabilities for epoch in epochs]).reshape(-1, self.experiment.n_arms),
            None if now is None else np.array([epoch.started_at for epoch in epochs]),
            now,
            generations=self._timeline.latest,
        )

    def go_on(self, now: float, *, running: bool) -> None:
        """Look at the guardrails, suspend what breaks a limit, and begin the next epoch.

        Args:
            now: The time. The epoch before has ended.
            running: Whether there is a next epoch.
        """
        history = self.history
        self.looked_at = history.closed_epochs
        found = judge(self.experiment, history)
        for arm, key in enumerate(self.experiment.arms):
            broken = found.broken(arm)
            if broken and arm != self.experiment.control and not self._timeline.suspended[arm]:
                evidence = {"limits": [evidence_of(self.experiment, found, row, arm) for row in broken]}
                self.suspend(arm, broken, breach_in_words(self.experiment, broken), SYSTEM, evidence)
                if self.ramp.by_hand is None and self.experiment.rollout.ramp is not None:
                    back = replace(self.ramp, step=max(self.ramp.step - 1, 0))
                    self.step(back, now, f"{key} was suspended", SYSTEM)
        self._note_states(found)
        if running:
            self._climb(history, found, now)
            self._timeline.begin(now, found.breaches.feasible)
            self.watch.reset()
            self._set_alarm()

    def has_tipped(self) -> bool:
        """Whether values that came in since the last look break a limit: the next epoch must not be waited for."""
        latest = self._timeline.latest
        going_on = [key for key in sorted(self.watch.tipped) if latest[key[1]].ended is None]
        self.watch.tipped.clear()
        if not going_on:
            return False
        ledger = self._timeline.ledger
        return any(self.watch.is_broken(key, latest[key[1]], ledger) for key in going_on)

    def suspend(
        self, arm: int, broken: tuple[int, ...], reason: str, actor: str, evidence: Mapping[str, object] | None = None
    ) -> None:
        """Take an arm away from users. To be called between two epochs."""
        self.note("suspended", reason, actor, self.experiment.arms[arm], evidence)
        self._timeline.end_generation(arm, "suspended", broken, reason)

    def resume(self, arm: int, reason: str, actor: str) -> None:
        """Let a suspended arm begin anew. To be called between two epochs."""
        self.note("resumed", reason, actor, self.experiment.arms[arm])
        self._begin_generation(arm)

    def change(self, arm: int, experiment: Experiment, reason: str, actor: str) -> None:
        """Go on with an experiment in which an arm has another configuration. To be called between two epochs."""
        key, before = self.experiment.arms[arm], self.experiment.variants[arm].config
        self.experiment = experiment
        self._timeline.change_configs(experiment)
        self.note("changed", reason, actor, key, {"before": before, "config": experiment.variants[arm].config})
        if not self._timeline.suspended[arm]:  # else it begins anew when it is resumed
            self._timeline.end_generation(arm, "changed", (), reason)
            self._begin_generation(arm)

    def step(self, ramp: Ramp, now: float, reason: str, actor: str) -> None:
        """Move on the ramp, or off it. To be called between two epochs."""
        before = self.exposure
        self.set_ramp(replace(ramp, first_epoch=len(self._timeline.epochs) + 1, since=now))
        self.note("ramp", reason, actor, None, {"before": before, "exposure": self.exposure})

    def set_ramp(self, ramp: Ramp) -> None:
        """Be at this place of the ramp."""
        self.ramp = ramp
        self.exposure = ramp.exposure(self.experiment)
        self._set_alarm()

    def what_holds_the_ramp(self) -> str | None:
        """Return why the next step of the ramp is not taken yet, in words; None if there is no next step."""
        if self.ramp.next_step(self.experiment) is None:
            return None
        history = self.history
        feasible = judge(self.experiment, history).breaches.feasible
        holds = what_holds(self.experiment, history, self.ramp, feasible, history.now)
        return holds or "nothing: it comes with the next epoch"

    def note(
        self,
        kind: EventKind,
        reason: str,
        actor: str,
        variant: str | None = None,
        evidence: Mapping[str, object] | None = None,
    ) -> None:
        """Add an event."""
        epoch = len(self._timeline.epochs)
        self.events.append(Event(kind, self._now(), epoch, actor, variant, reason, evidence or {}))

    def _set_alarm(self) -> None:
        self.alarm = NEVER
        if self._now() is not None and self.ramp.next_step(self.experiment) is not None and self._timeline.epochs:
            due = self.ramp.since + self.experiment.ramp_after_seconds
            self.alarm = due if self._timeline.current.started_at < due else NEVER

    def _begin_generation(self, arm: int) -> None:
        self._timeline.begin_generation(arm)
        self.values.clear(arm)
        if self.experiment.rollout.ramp is not None and self.ramp.by_hand is None:
            # Nothing is known of the new generation: what others did on this step does not speak for it.
            first_epoch, since = len(self._timeline.epochs) + 1, self._now() or 0.0
            self.set_ramp(replace(self.ramp, first_epoch=first_epoch, since=since))
        self.states = {place: state for place, state in self.states.items() if place[1] != arm}

    def _climb(self, history: History, found: Judgement, now: float) -> None:
        """Take the next step of the ramp unless something holds it."""
        above = self.ramp.next_step(self.experiment)
        generations = replace(history, generations=self._timeline.latest)
        if above is not None and not what_holds(
            self.experiment, generations, self.ramp, found.breaches.feasible, history.now
        ):
            self.step(replace(self.ramp, step=above), now, "nothing held it", SYSTEM)

    def _note_states(self, found: Judgement) -> None:
        for row, of_arms in enumerate(found.states):
            for arm, state in enumerate(of_arms):
                before = self.states.get((row, arm), ("unknown", None))[0]
                if state != before:
                    self.states[row, arm] = (state, self._now())
                    reason = f"{row_name(self.experiment, row)}: {before} to {state}"
                    evidence = {"state": state, **evidence_of(self.experiment, found, row, arm)}
                    self.note("guardrail", reason, SYSTEM, self.experiment.arms[arm], evidence)
