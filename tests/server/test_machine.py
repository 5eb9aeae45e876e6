"""Whatever is asked over HTTP in whatever order, of one of two servers on a file that are restarted at will.

What they answer is compared with a model that knows the promises and nothing of how they are kept: a few dictionaries
of who has which variant and what was reported, no probabilities, no epochs, no sums.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import server.writer
from server.verify import verify
from tests.server.running import Clock, Service, check_ledger, in_process, rows, wait_until

VARIANTS = ("A", "B", "C")
WINDOW = 3_600.0

EXPERIMENT = {
    "salt": "machine",
    "variants": [{"key": key, "control": key == "A", "config": {"version": 0}} for key in VARIANTS],
    # A limit that no value of this test comes near: nothing is suspended but by hand.
    "guardrails": [{"metric": "cost_usd", "kind": "numeric", "max": 0.5, "cap": 2.0}],
    "rewards": {"window": "1h"},
    "policy": {"min_batch": 4, "warmup": 4, "max_epoch": "30m"},
}
WATCHED = "cost_usd"
"""The metric of a limit: its late values still count for the guardrail."""

FAILED = "failed"


@dataclass
class Had:
    """A user's variant.

    Attributes:
        answer: Variant, propensity and epoch, as first told.
        since: When it was drawn.
        ended: How many generations of the variant had ended by then.
        moved: Whether the user came to hear that it was taken away.
    """

    answer: tuple[str, float, int]
    since: float
    ended: int
    moved: bool = False


@dataclass
class Told:
    """A value under a request id and metric: whose, how much, and why it counts for nobody ("": it does)."""

    user: str
    value: float
    reason: str


@dataclass
class Model:
    """What a server should know."""

    clock: Clock
    state: str = "draft"
    serve: str = "A"
    at_once: bool = False
    exposure: float | None = None
    users: dict[str, Had] = field(default_factory=dict)
    forced: dict[str, str] = field(default_factory=dict)
    values: dict[tuple[str, str], Told] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VARIANTS, 0))
    suspended: set[str] = field(default_factory=set)
    ends: dict[str, list[str]] = field(default_factory=lambda: {key: [] for key in VARIANTS})
    """How the generations of each variant ended, in order."""
    events: list[tuple[str, str | None]] = field(default_factory=list)

    def enrols(self) -> bool:
        return self.state == "running" and self.exposure != 0.0

    def is_late(self, user: str) -> bool:
        return self.clock.now > self.users[user].since + WINDOW

    def check_choice(self, user: str, answer: dict[str, Any]) -> None:
        """Compare an answer with what this user should get, and learn who is new."""
        assert answer["config"] == {"version": self.versions[answer["variant"]]}
        seen = (answer["variant"], answer["reason"], answer["propensity"], answer["epoch"])
        had = self.users.get(user)
        if user in self.forced:
            assert seen == (self.forced[user], "forced", None, None)
        elif self.state == "stopped" and (had is None or self.at_once or self.is_late(user)):
            assert seen == (self.serve, "stopped", None, None)
        elif had is not None:
            variant, propensity, epoch = had.answer
            since = self.ends[variant][had.ended :]
            if since:
                had.moved = True
                assert seen == ("A" if "suspended" in since else variant, "moved", None, None)
            else:
                assert seen == (variant, "sticky", propensity, epoch)
        elif not self.enrols():
            assert seen == ("A", "not_enrolled", None, None)
        else:
            variant, propensity, epoch = answer["variant"], answer["propensity"], answer["epoch"]
            assert answer["reason"] == "new"
            assert variant not in self.suspended
            assert 0.0 < propensity <= 1.0
            self.users[user] = Had((variant, propensity, epoch), self.clock.now, len(self.ends[variant]))

    def status(self, call: dict[str, Any]) -> int:
        """Return the status of a reward; all but 200 change nothing."""
        user, values = call["user_id"], values_of(call)
        if not values or call["variant"] not in (None, *VARIANTS):
            return 422
        for metric, value in values.items():
            told = self.values.get((call["request_id"], metric))
            mine = told is not None and told.user == user
            if told is not None and not (mine and (told.value == value or (call["replace"] and metric != FAILED))):
                return 409
        comes_again = all((call["request_id"], metric) in self.values for metric in values)
        return 409 if user not in {*self.forced, *self.users} and self.enrols() and not comes_again else 200

    def count(self, call: dict[str, Any]) -> dict[str, Any]:
        """Count a reward that is not refused, and return its receipt."""
        user, values = call["user_id"], values_of(call)
        because = self._why_not(user, call["variant"])
        void = FAILED if FAILED in values and because in ("", "late") else because
        became = {
            metric: self._take(call["request_id"], metric, user, value, because if metric == FAILED else void)
            for metric, value in values.items()
        }
        receipt: dict[str, Any] = {
            key: [metric for metric, what in became.items() if what == name]
            for key, name in (("accepted", ""), ("duplicate", "duplicate"), ("late", "late"))
        }
        others = {metric: what for metric, what in became.items() if what not in ("", "duplicate", "late")}
        return {**receipt, "ignored": others}

    def _why_not(self, user: str, served: str | None) -> str:
        had = self.users.get(user)
        if user in self.forced:
            return "forced"
        if had is None:
            return self.state if self.state != "running" else "not_enrolled"
        if served not in (None, had.answer[0]):
            return "other_variant"
        if self.at_once:
            return "stopped"
        if had.moved:
            return "moved"
        return "late" if self.is_late(user) else ""

    def _take(self, request: str, metric: str, user: str, value: float, reason: str) -> str:
        """Return what becomes of one value: "" if it counts."""
        told = self.values.get((request, metric))
        if told is None:
            late = reason == "late" and metric == WATCHED and self.state != "stopped"
            self.values[request, metric] = Told(user, value, "returned" if late else reason)
            return "" if late else reason
        if told.reason == "returned":
            return "duplicate" if told.value == value else "late"
        if told.value == value or told.reason:
            return told.reason or "duplicate"
        if not reason:
            told.value = value
        return reason

    def credited(self) -> set[str]:
        return {told.user for told in self.values.values() if not told.reason}


def values_of(call: dict[str, Any]) -> dict[str, float]:
    """The values of a reward by metric."""
    values = {metric: float(value) for metric, value in call["metrics"].items()}
    return {**values, FAILED: 1.0} if call["failed"] else values


USERS = st.sampled_from([f"u{i}" for i in range(10)])
TESTERS = st.sampled_from(["u0", "u9"])
EITHER = st.integers(0, 1)
SECONDS = st.sampled_from([0.0, 0.0, 0.0, 1.0, 70.0, 1_000.0, 4_000.0])
GIVEN = [{"resolved": True}, {"resolved": 0}, {"resolved": 1.0, WATCHED: 0.1}, {WATCHED: 0.3}, {WATCHED: 0.1}]


@st.composite
def rewards(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the body of a reward; its request id is mostly its user's own."""
    user = draw(USERS)
    return {
        "experiment": "x",
        "user_id": user,
        "request_id": draw(st.sampled_from([*(f"{user}-{n}" for n in range(8)), "shared"])),
        "metrics": draw(st.sampled_from([*GIVEN, *GIVEN, {}])),
        "variant": draw(st.sampled_from([*[None] * 8, "A", "A", "B", "B", "Z"])),
        "failed": draw(st.sampled_from([None, None, None, None, False, True])),
        "replace": draw(st.sampled_from([False, False, True])),
    }


class Machine(RuleBasedStateMachine):
    """Two servers on one file, and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        patch = self.open.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(server.writer, "WAKE", 0.05)  # so that they hear of each other soon
        self.path = Path(self.open.enter_context(tempfile.TemporaryDirectory())) / "bandit.db"
        self.clock = Clock()
        self.model = Model(self.clock)
        self.running = [ExitStack(), ExitStack()]
        self.services = [self._serve(which) for which in range(2)]
        self.steps = 0

    def _serve(self, which: int) -> Service:
        return self.running[which].enter_context(in_process(self.path, self.clock, choose_seconds=30.0))

    def _settled(self) -> None:
        """Wait until both know of a change that one of them made, as they do within a second."""

        def known() -> bool:
            ((version,),) = rows(self.path, "SELECT version FROM experiments")
            return all("x" in s.writer.views and s.writer.views["x"].version >= version for s in self.services)

        wait_until(known)

    def _changed(self, response: Any, status: int, *events: tuple[str, str | None]) -> None:  # noqa: ANN401 - httpx's
        assert response.status_code == status, response.text
        self.model.events += events
        self._settled()

    @initialize(which=EITHER, draft=st.lists(st.one_of(USERS, rewards()), max_size=4))
    def create(self, which: int, draft: list[str | dict[str, Any]]) -> None:
        self.services[which].create("x", start=False, **EXPERIMENT)
        self._settled()
        self.call(0.0, [(which, call) for call in draft])
        self.start(which)
        self.choose_many(which, ["u0", "u1", "u2", "u3"])

    # What an application calls

    @rule(after=SECONDS, calls=st.lists(st.tuples(EITHER, st.one_of(USERS, rewards())), min_size=10, max_size=25))
    def call(self, after: float, calls: list[tuple[int, str | dict[str, Any]]]) -> None:
        self.clock.now += after
        for which, what in calls:
            if isinstance(what, str):
                self.model.check_choice(what, self.services[which].choose("x", what))
            else:
                response = self.services[which].http.post("/reward", json=what)
                self._check_reward(what, response.status_code, response.json())

    @rule(which=EITHER, users=st.lists(USERS, min_size=3, max_size=12))
    def choose_many(self, which: int, users: list[str]) -> None:
        items = [{"experiment": "x", "user_id": user} for user in users]
        answers = self.services[which].http.post("/choose/batch", json={"items": items}).json()["items"]
        for user, answer in zip(users, answers, strict=True):
            assert answer["status"] == 200
            self.model.check_choice(user, answer)

    @rule(after=SECONDS, which=EITHER, calls=st.lists(rewards(), min_size=10, max_size=25))
    def reward_many(self, after: float, which: int, calls: list[dict[str, Any]]) -> None:
        self.clock.now += after
        answers = self.services[which].http.post("/reward/batch", json={"items": calls}).json()["items"]
        for call, answer in zip(calls, answers, strict=True):
            self._check_reward(call, answer.pop("status"), answer)

    def _check_reward(self, call: dict[str, Any], status: int, answer: dict[str, Any]) -> None:
        assert status == self.model.status(call), answer
        if status == 200:
            assert answer == self.model.count(call)

    # What an operator calls

    @rule(which=EITHER)
    def start(self, which: int) -> None:
        response, model = self.services[which].move("x", "start"), self.model
        stopped, news = model.state == "stopped", model.state in ("draft", "paused")
        self._changed(response, 409 if stopped else 200, *[("started", None)] * news)
        model.state = "stopped" if stopped else "running"

    @rule(which=EITHER)
    def pause(self, which: int) -> None:
        response, model = self.services[which].move("x", "pause"), self.model
        allowed, news = model.state in ("running", "paused"), model.state == "running"
        self._changed(response, 200 if allowed else 409, *[("paused", None)] * news)
        model.state = "paused" if allowed else model.state

    @precondition(lambda self: self.steps >= 10)
    @rule(which=EITHER, serve=st.sampled_from(VARIANTS), now=st.booleans())
    def stop(self, which: int, serve: str, now: bool) -> None:
        response, model = self.services[which].move("x", "stop", serve=serve, now=now), self.model
        news = model.state != "stopped"
        self._changed(response, 200, *[("stopped", serve)] * news)
        if news:
            model.state, model.serve, model.at_once = "stopped", serve, now
        assert response.json()["serve"] == model.serve

    @rule(which=EITHER, variant=st.sampled_from(VARIANTS))
    def suspend(self, which: int, variant: str) -> None:
        response, model = self.services[which].switch("x", variant, "suspend"), self.model
        allowed = variant != "A" and model.state != "stopped"
        news = allowed and variant not in model.suspended
        self._changed(response, 200 if allowed else 409, *[("suspended", variant)] * news)
        if news:
            model.suspended.add(variant)
            model.ends[variant].append("suspended")

    @rule(which=EITHER, variant=st.sampled_from(VARIANTS))
    def resume(self, which: int, variant: str) -> None:
        response, model = self.services[which].switch("x", variant, "resume"), self.model
        allowed = variant != "A" and model.state != "stopped"
        news = allowed and variant in model.suspended
        self._changed(response, 200 if allowed else 409, *[("resumed", variant)] * news)
        if news:
            model.suspended.discard(variant)

    @rule(which=EITHER, variant=st.sampled_from(VARIANTS), version=st.integers(0, 2))
    def configure(self, which: int, variant: str, version: int) -> None:
        body = {"key": variant, "config": {"version": version}}
        response, model = self.services[which].http.post("/experiments/x/variants", json=body), self.model
        allowed = variant != "A" and model.state != "stopped"
        news = allowed and version != model.versions[variant]
        self._changed(response, 200 if allowed else 409, *[("changed", variant)] * news)
        if news:
            model.versions[variant] = version
            model.ends[variant] += ["changed"] * (variant not in model.suspended)

    @rule(which=EITHER, user=TESTERS, variant=st.sampled_from(VARIANTS))
    def force(self, which: int, user: str, variant: str) -> None:
        response, model = self.services[which].force("x", user, variant), self.model
        self._changed(response, 200, *[("forced", variant)] * (model.forced.get(user) != variant))
        model.forced[user] = variant

    @rule(which=EITHER, user=TESTERS)
    def release(self, which: int, user: str) -> None:
        response = self.services[which].http.delete(f"/experiments/x/forced/{user}")
        variant = self.model.forced.pop(user, None)
        self._changed(response, 200, *[("unforced", variant)] * (variant is not None))

    @rule(which=EITHER, exposure=st.sampled_from([None, None, 0.0, 1.0]))
    def expose(self, which: int, exposure: float | None) -> None:
        response, model = self.services[which].expose("x", exposure), self.model
        allowed = model.state != "stopped"
        news = allowed and exposure != model.exposure
        self._changed(response, 200 if allowed else 409, *[("ramp", None)] * news)
        model.exposure = exposure if allowed else model.exposure

    # What happens to the servers

    @rule(which=EITHER)
    def restart(self, which: int) -> None:
        self.running[which].close()
        self.services[which] = self._serve(which)

    # What holds after each step

    @invariant()
    def the_store_has_what_was_told(self) -> None:
        self.steps += 1
        users = {user: (VARIANTS[arm], epoch, at, moved is not None) for user, arm, epoch, at, moved in rows(
            self.path, "SELECT user_id, arm, epoch, at, moved_at FROM assignments")}  # fmt: skip
        assert users == {
            user: (had.answer[0], had.answer[2], had.since, had.moved) for user, had in self.model.users.items()
        }
        values = {(request, metric): (user, value, reason or "") for request, metric, user, value, reason, _ in rows(
            self.path, "SELECT request_id, metric, user_id, value, reason, max(revision) FROM rewards"
            " GROUP BY request_id, metric")}  # fmt: skip
        assert values == {key: (told.user, told.value, told.reason) for key, told in self.model.values.items()}

    def teardown(self) -> None:
        try:
            if self.steps:
                self._look_back()
            for running in self.running:
                running.close()
            if self.steps:
                assert check_ledger(self.path, "x") == len(self.model.credited())
                assert verify(self.path).differences == 0
        finally:
            for running in self.running:
                running.close()
            self.open.close()

    def _look_back(self) -> None:
        """Compare what both servers say of it all in the end."""
        model = self.model
        for which, service in enumerate(self.services):
            self.choose_many(which, sorted({*model.users, *model.forced, "stranger"}))
            found = service.get("/experiments/x")
            assert (found["state"], found["users"]) == (model.state, len(model.users))
            suspended = {variant["variant"] for variant in found["variants"] if variant["suspended"]}
            assert suspended == model.suspended
            told = [event for event in service.events("x") if event["kind"] != "allocation"]
            assert [(event["kind"], event["variant"]) for event in told] == model.events
            for user, had in model.users.items():
                assert service.get(f"/experiments/x/users/{user}")["assignment"]["variant"] == had.answer[0]


TestMachine = Machine.TestCase
TestMachine.settings = hypothesis.settings(
    max_examples=hypothesis.settings().max_examples // 4, stateful_step_count=30, deadline=None
)
