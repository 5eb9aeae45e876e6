"""Clients of a server that write down what they sent and what they were told, and hold the server to it at once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tests.server.harness import REQUESTS, WINDOWS, Difference, Wire
from tests.server.harness_journal import (
    CONTROL,
    COUNTS,
    IN_FLIGHT_NOT_STORED,
    IN_FLIGHT_STORED,
    STORED,
    TREATMENT,
    Act,
    Known,
    Sent,
)

SHARED = 40
"""Users of each experiment whom all clients know."""

FORCED = 8
"""Users that a client has forced at a time."""

STEPS = {"visit": 60, "repeat": 20, "conflict": 5, "correct": 12, "operate": 3}
"""What a client does next, out of a hundred times."""

_T = TypeVar("_T")


class Client:
    """An application in one thread, over one connection.

    Args:
        name: Part of all ids that it makes.
        url: Of the server.
        seed: Of its choices.
        operates: Whether it also suspends, resumes, exposes and forces.
        keeps: Most users, and most rewards, that it remembers; None: all, as a check of the store needs.

    Attributes:
        known: Users by experiment and id.
        sent: Rewards in the order in which they were first sent.
        left: Rewards that had no answer and are never sent again.
        acts: Changes of experiments.
        counts: How often what was done and answered.
    """

    def __init__(self, name: str, url: str, seed: int, *, operates: bool = True, keeps: int | None = None) -> None:
        self.name = name
        self.wire = Wire(url)
        self.known: dict[tuple[str, str], Known] = {}
        self.sent: list[Sent] = []
        self.left: list[Sent] = []
        self.acts: list[Act] = []
        self.counts: Counter[str] = Counter()
        self._rng = random.Random(f"{seed} {name}")  # noqa: S311 - a fixed sequence
        self._weights = [weight if operates or step != "operate" else 0 for step, weight in STEPS.items()]
        self._keeps = keeps
        self._own: list[Known] = []
        self._forced: list[Known] = []
        self._made = 0
        self._in_flight: Sent | Known | None = None

    # What it does

    def step(self) -> None:
        """Do one thing."""
        self._come_back()
        step = self._rng.choices(list(STEPS), self._weights)[0]
        if step == "visit" or (step != "operate" and not self.sent):
            self._visit()
        elif step == "repeat":
            self.repeat(self._one_of(self.sent))
        elif step == "conflict":
            self._conflict(self._one_of(self.sent))
        elif step == "correct":
            self._correct(self._one_of(self.sent))
        else:
            self._operate()

    def _come_back(self) -> None:
        """Half of what had no answer is asked for once more, and half never again."""
        lost, self._in_flight = self._in_flight, None
        if lost is None:
            return
        once_more = self._rng.random() < 0.5
        if isinstance(lost, Sent) and once_more:
            self.repeat(lost)
        elif isinstance(lost, Sent) and lost in self.sent:
            self.sent.remove(lost)
            self.left.append(lost)
        elif isinstance(lost, Known) and once_more:
            self.choose(lost)

    def _visit(self) -> None:
        """A user comes, new or not, and mostly something happens."""
        rng = self._rng
        kind, key = rng.random(), rng.choice((WINDOWS, REQUESTS))
        if kind < 0.6 or not self._own:
            known = self._make(key)
        elif kind < 0.8:
            known = self._one_of(self._own)
        else:
            user = f"shared-{rng.randrange(SHARED)}"
            known = self.known.setdefault((key, user), Known(key, user))
        if rng.random() < 0.98:  # the others send a reward without having asked
            self.choose(known)
        if rng.random() < 0.85:
            self.repeat(self._reward_of(known))

    def _make(self, key: str) -> Known:
        """Return a user who never came before; if there are too many, somebody is forgotten instead."""
        self._made += 1
        known = Known(key, f"{self.name}-user-{self._made}")
        self.known[key, known.user] = known
        forgotten = self._remember(self._own, known)
        if forgotten is not None:
            del self.known[forgotten.key, forgotten.user]
        return known

    def _remember(self, those: list[_T], one: _T) -> _T | None:
        """Keep one more, and return the one that is forgotten for it, if any."""
        if self._keeps is None or len(those) < self._keeps:
            those.append(one)
            return None
        place = self._rng.randrange(self._keeps)
        forgotten, those[place] = those[place], one
        return forgotten

    def _one_of(self, those: Sequence[_T]) -> _T:
        """Return one of them, often a late one."""
        start = max(len(those) - 50, 0) if self._rng.random() < 0.6 else 0
        return those[self._rng.randrange(start, len(those))]

    def _reward_of(self, known: Known) -> Sent:
        rng = self._rng
        metrics: dict[str, float] = {}
        while not metrics:
            metrics = {metric: self._value(metric) for metric in _metrics(known.key) if rng.random() < 0.7}
        served = None if known.place is None else known.place[0]
        variant = rng.choice((None, served, served))
        if rng.random() < 0.1:
            variant = CONTROL if served == TREATMENT else TREATMENT
        self._made += 1
        sent = Sent(known, f"{self.name}-{self._made}", metrics, rng.random() < 0.01, variant)
        self._remember(self.sent, sent)
        return sent

    def _value(self, metric: str) -> float:
        rng = self._rng
        match metric:
            case "resolved":
                return float(rng.random() < 0.4)
            case "harmful":
                return float(rng.random() < 0.03)
            case "latency_ms":
                return round(rng.uniform(100.0, 1515.0), 1)
            case _:
                return round(rng.uniform(0.0, 0.4), 4)

    # Users

    def choose(self, known: Known) -> None:
        """Ask for a user's variant and compare the answer with what was told before."""
        self._in_flight, sent_at = known, time.time()
        status, answer = self.wire.call("POST", "/choose", {"experiment": known.key, "user_id": known.user})
        self._in_flight = None
        if status != 200:
            raise Difference(f"choose of '{known.user}' was answered with {status}: {answer}")
        reason, variant = answer["reason"], answer["variant"]
        self.counts[f"choose: {reason}"] += 1
        fault = known.fault(answer)
        if fault is not None:
            raise Difference(f"user '{known.user}' of '{known.key}' {fault}; known was {known}, told {answer}")
        if reason in ("new", "sticky"):
            known.place = variant, answer["propensity"], answer["epoch"]
            known.is_new |= reason == "new"
            known.kept_at = sent_at
        known.moved |= reason == "moved"

    # Rewards

    def repeat(self, sent: Sent) -> None:
        """Send a reward, or send it once more, and compare the answer with the one before."""
        if sent.pending is not None:
            self._replace(sent, *sent.pending)
            return
        self.counts["repeated" if sent.became or sent.lost else "rewards"] += 1
        became = self._reward(sent, sent.body())
        if became is None:
            return
        fault = sent.fault(became)
        if fault is not None:
            raise Difference(f"reward '{sent.request_id}' {fault}; it was {sent}, and is answered with {became}")
        if not sent.became:
            if sent.lost:
                self.counts[IN_FLIGHT_STORED if "duplicate" in became.values() else IN_FLIGHT_NOT_STORED] += 1
            sent.became = {name: STORED if what == "duplicate" else what for name, what in became.items()}
        self.counts.update(f"value: {what}" for what in became.values())

    def _correct(self, sent: Sent) -> None:
        """Replace one value that counts."""
        metrics = [metric for metric, what in sent.became.items() if what in COUNTS and metric != "failed"]
        if sent.pending is not None:
            self.repeat(sent)
        elif metrics:
            metric = self._rng.choice(metrics)
            self._replace(sent, metric, self._other(sent, metric))

    def _replace(self, sent: Sent, metric: str, value: float) -> None:
        self.counts["corrections"] += 1
        again, sent.pending = sent.pending is not None, (metric, value)
        became = self._reward(sent, {**sent.body(), "metrics": {metric: value}, "failed": None, "replace": True})
        if became is None:
            return
        what = became[metric]
        if what == "duplicate" and not again:
            raise Difference(f"a correction that was never sent before is a duplicate: {sent}")
        if what in ("accepted", "duplicate"):
            sent.corrections.setdefault(metric, []).append(value)
            self.counts["corrected"] += 1
        sent.pending = None

    def _conflict(self, sent: Sent) -> None:
        """Use a reward's id for something else, which has to be refused as a whole."""
        if not sent.became or sent.pending is not None:
            return
        body = sent.body()
        if self._rng.random() < 0.5:
            metric = self._rng.choice(list(sent.metrics))
            more = {other: self._value(other) for other in _metrics(sent.known.key)}
            body["metrics"] = {**more, metric: self._other(sent, metric)}
        else:
            body["user_id"] = f"{sent.known.user}-not"
            body["replace"] = self._rng.random() < 0.5
        status, answer = self.wire.call("POST", "/reward", body)
        if status == 503:
            return
        if status != 409 or not answer["type"].endswith("conflicting-reward"):
            raise Difference(f"{sent} conflicts with {body}, and is answered with {status}: {answer}")
        self.counts["conflicts"] += 1

    def _other(self, sent: Sent, metric: str) -> float:
        """Return another value than the valid one."""
        value = sent.values(metric)[-1]
        while value == sent.values(metric)[-1]:
            value = 1.0 - value if metric in ("resolved", "harmful") else self._value(metric)
        return value

    def _reward(self, sent: Sent, body: Mapping[str, object]) -> dict[str, str] | None:
        """Return what became of each value; None: it was refused, or the server cannot say whether it is stored."""
        self._in_flight = sent
        sent.lost += 1
        status, answer = self.wire.call("POST", "/reward", body)
        if status == 503:
            self.counts["503"] += 1
            return None
        self._in_flight = None
        sent.lost -= 1
        if status == 200:
            lists = ("accepted", "duplicate", "late")
            return {**{name: what for what in lists for name in answer[what]}, **answer["ignored"]}
        in_experiment = sent.known.place is not None or sent.known.moved
        if status != 409 or not answer["type"].endswith("no-assignment") or in_experiment:
            raise Difference(f"{sent} was answered with {status}: {answer}")
        self.counts["no assignment"] += 1
        return None

    # Changes of experiments

    def _operate(self) -> None:
        self._made += 1
        act = Act(self._rng.choice((WINDOWS, REQUESTS)), f"{self.name}-act-{self._made}")
        what = self._rng.choice(("suspend", "resume", "resume", "expose", "force", "force"))
        self.counts["acts"] += 1
        if what == "expose":
            self._expose(act)
        elif what == "force" and self._own:
            self._force(act)
        elif what != "force":
            self._switch(act, what)

    def _switch(self, act: Act, what: str) -> None:
        answer = self._act(act, "POST", f"/variants/{TREATMENT}/{what}")
        # Whoever suspends a variant that is suspended changes nothing; its reason then stays that of the first one.
        suspended = None if answer is None else answer["suspended"]
        act.certain = suspended is not None and suspended["reason"] == act.reason

    def _expose(self, act: Act) -> None:
        exposure = None if self._rng.random() < 0.3 else self._rng.uniform(0.6, 1.0)
        answer = self._act(act, "PATCH", "", exposure=exposure)
        act.certain = answer is not None and exposure is not None  # nobody else chose this number

    def _force(self, act: Act) -> None:
        """Give a user of its own a variant, or take back what was given longest ago."""
        known = self._forced[0] if len(self._forced) == FORCED else self._one_of(self._own)
        taken_back = known in self._forced
        variant = None if taken_back else self._rng.choice((CONTROL, TREATMENT))
        act.key, known.unsure = known.key, True
        if not taken_back:
            self._forced.append(known)
        path = f"/forced/{known.user}"
        answer = self._act(act, "DELETE", path) if taken_back else self._act(act, "PUT", path, variant=variant)
        if answer is None:
            return
        act.certain = not taken_back
        known.forced, known.unsure = variant, False
        if taken_back:
            self._forced.remove(known)

    def _act(self, act: Act, method: str, path: str, **body: object) -> dict[str, Any] | None:
        """Make a change; None: the server cannot say whether it did."""
        self.acts.append(act)
        whole = None if method == "DELETE" else {**body, "reason": act.reason}
        status, answer = self.wire.call(method, f"/experiments/{act.key}{path}", whole)
        if status == 503:
            return None
        if status != 200:
            raise Difference(f"{method} {path} of '{act.key}' was answered with {status}: {answer}")
        return dict(answer)


def _metrics(key: str) -> tuple[str, ...]:
    return ("resolved", "harmful", "latency_ms") if key == WINDOWS else ("resolved", "latency_ms", "cost_usd")
