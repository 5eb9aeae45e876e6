"""An arm that looks best and turns out to be slow: from its first users to the report, over HTTP."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import Clock, Service, check_ledger, in_process, rows

RESOLVED = {"A": 0.3, "B": 0.6, "C": 0.3}
SLOW = {"A": 0.01, "B": 0.4, "C": 0.01}
"""Share of slow calls, allowed 0.05; B has none among its first users."""

FINE = 15
"""First users of B, all of them served fast."""

DECLARED: dict[str, Any] = {
    "salt": "story",
    "variants": [{"key": "A", "control": True}, {"key": "B"}, {"key": "C"}],
    "guardrails": [{"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}],
    "rollout": {"ramp": [0.05, 0.5, 1.0], "ramp_users": 5, "ramp_after": "5m"},
    "rewards": {"window": "10m"},
    "policy": {"min_batch": 20, "warmup": 15, "max_epoch": "10m"},
}


@dataclass
class Journal:
    """What the application wrote down of its own calls.

    Attributes:
        variant: Variant and epoch of each user who was drawn.
        counted: Values accepted inside the window, by user and metric.
    """

    variant: dict[str, tuple[str, int]] = field(default_factory=dict)
    counted: dict[tuple[str, str], float] = field(default_factory=dict)

    def users_of(self, variant: str) -> list[str]:
        return [user for user, (arm, _) in self.variant.items() if arm == variant]

    def sums(self, metric: str, y: Callable[[float], float]) -> dict[tuple[int, int], tuple[float, float]]:
        """By (epoch, arm): users with a value, and their sum."""
        found: dict[tuple[int, int], tuple[float, float]] = {}
        for (user, name), value in self.counted.items():
            if name == metric:
                variant, epoch = self.variant[user]
                place = (epoch, "ABC".index(variant))
                n, z = found.get(place, (0.0, 0.0))
                found[place] = (n + 1.0, z + y(value))
        return found


class Application:
    """Users who come to a service one after another."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.journal = Journal()
        self.answers: list[dict[str, Any]] = []
        self._rng = random.Random(5)  # noqa: S311 - a fixed sequence
        self._arrived = 0

    def user_comes(self) -> None:
        """The next user comes, and what happened to them is reported.

        Every tenth report is sent twice, every seventh has no latency.
        """
        self.service.clock.now += 2.0
        user, self._arrived = f"user-{self._arrived}", self._arrived + 1
        answer = self.service.choose("x", user)
        self.answers.append(answer)
        if answer["reason"] != "new":
            return
        variant = answer["variant"]
        self.journal.variant[user] = (variant, answer["epoch"])
        fine = variant == "B" and len(self.journal.users_of("B")) <= FINE
        slow = not fine and self._rng.random() < SLOW[variant]
        happened = {"resolved": float(self._rng.random() < RESOLVED[variant]), "latency_ms": 2_000.0 if slow else 800.0}
        for turn in range(2 if self._arrived % 10 == 0 else 1):
            if self._arrived % 7 == 0:
                happened.pop("latency_ms", None)
            self.reports(user, f"request-{user}", happened, again=turn > 0)

    def reports(self, user: str, request: str, metrics: dict[str, float], *, again: bool = False) -> dict[str, Any]:
        """Send what happened to a user, and write down what was acknowledged."""
        told: dict[str, Any] = self.service.reward("x", user, request, metrics=metrics).json()
        assert not again or told["accepted"] == []
        for name in told["accepted"]:
            assert (user, name) not in self.journal.counted
            self.journal.counted[user, name] = metrics[name]
        return told

    def comes_until(self, true: Callable[[], bool], most: int) -> None:
        """Let users come until something holds, or fail."""
        for _ in range(most):
            self.user_comes()
            if self.answers[-1]["reason"] == "new" and true():
                return
        pytest.fail("it did not happen")

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.service.events("x") if event["kind"] in kinds]


@pytest.fixture
def application(path: Path) -> Iterator[Application]:
    with in_process(path, Clock()) as service:
        service.create(**DECLARED)
        yield Application(service)


def test_an_arm_that_turns_out_slow_is_taken_away_from_its_users(application: Application) -> None:
    service, journal = application.service, application.journal

    # One in twenty is let in; B is the best of what is seen, and nothing speaks against it.
    application.comes_until(lambda: len(journal.users_of("B")) >= FINE, 2_000)
    assert application.events("suspended") == []
    assert service.get("/experiments/x")["variants"][1]["guardrails"][0]["state"] == "unknown"
    assert {service.choose("x", user)["variant"] for user in journal.users_of("B")} == {"B"}

    # Its later users meet slow calls, until one of these is one too many.
    application.comes_until(lambda: service.get("/experiments/x")["variants"][1]["suspended"] is not None, 2_000)
    held = journal.users_of("B")
    _check_events(application)
    before = len(application.answers)

    # Whoever has B gets control at the next call; nothing of that counts. What came before the call still does.
    waiting = next(user for user in reversed(held) if (user, "latency_ms") not in journal.counted)
    assert application.reports(waiting, "in between", {"latency_ms": 700.0})["accepted"] == ["latency_ms"]
    for user in held:
        for _ in range(2):
            told = service.choose("x", user)
            assert (told["variant"], told["reason"], told["propensity"]) == ("A", "moved", None)
    for user in held[-3:]:
        told = application.reports(user, f"moved-{user}", {"resolved": 1.0, "latency_ms": 1.0})
        assert set(told["ignored"].items()) == {("resolved", "moved"), ("latency_ms", "moved")}

    # Nobody new ever gets it, and the others go on up the ramp.
    application.comes_until(lambda: service.get("/experiments/x")["exposure"] == 1.0, 3_000)
    for _ in range(100):
        application.user_comes()
    assert {answer["variant"] for answer in application.answers[before:]} == {"A", "C"}
    assert service.get("/experiments/x")["ramp"]["held"] is None

    # Users who come back after their window count for the guardrail alone.
    service.clock.now += 601.0
    returned = journal.users_of("C")[:8]
    for user in returned:
        told = application.service.reward("x", user, f"back-{user}", metrics={"resolved": 1, "latency_ms": 900}).json()
        assert (told["accepted"], told["late"]) == (["latency_ms"], ["resolved"])

    _check_report(service)
    _check_ledger(application, n_returned=len(returned))


def _check_events(application: Application) -> None:
    """The suspension, what it rests on, the ramp's step back, the state, and the next allocation: in this order."""
    happened = application.service.events("x")
    place = next(i for i, event in enumerate(happened) if event["kind"] == "suspended")
    suspended, back, state, allocation = happened[place : place + 4]
    assert (suspended["actor"], suspended["variant"]) == ("system", "B")
    assert "latency_ms" in suspended["reason"]
    (limit,) = suspended["evidence"]["limits"]
    assert limit["metric"] == "latency_ms"
    assert limit["e_breach"] >= limit["threshold_breach"] > 1.0
    assert (back["kind"], back["reason"]) == ("ramp", "B was suspended")
    assert back["evidence"]["exposure"] <= back["evidence"]["before"]
    assert (state["kind"], state["variant"]) == ("guardrail", "B")
    assert state["reason"].endswith("unknown to breached")
    assert allocation["kind"] == "allocation"
    assert allocation["evidence"]["probabilities"]["B"] == 0.0
    shown = application.service.get("/experiments/x")["variants"][1]
    assert shown["suspended"] == {"reason": suspended["reason"], "since_epoch": allocation["epoch"]}
    assert (shown["guardrails"][0]["state"], shown["guardrails"][0]["since"]) == ("breached", state["at"])


def _check_report(service: Service) -> None:
    report = service.get("/experiments/x/report")
    variants = {variant["key"]: variant for variant in report["variants"]}
    decision = variants["B"]["decision"]
    assert (decision["verdict"], decision["reason"]) == ("do_not_deploy", "guardrail")
    assert "latency_ms breaks its limit" in decision["sentence"]
    assert variants["B"]["suspended"]["broken"] == ["latency_ms"]
    assert variants["C"]["suspended"] is None
    text = service.http.get("/experiments/x/report?format=md").text
    assert decision["sentence"] in text.replace("\\", "")  # without Markdown's escapes


def _check_ledger(application: Application, n_returned: int) -> None:
    """Every acknowledged value is in the ledger once, in the cell of its user."""
    service, journal = application.service, application.journal
    assert len(journal.counted) > 600
    for measure, (metric, y) in enumerate(
        (("resolved", lambda value: value), ("latency_ms", lambda value: float(value > 1500.0)))
    ):
        found = rows(service.path, "SELECT epoch, arm, n, z FROM sums WHERE measure = ?", measure)
        assert {(epoch, arm): (n, z) for epoch, arm, n, z in found if n} == journal.sums(metric, y)
    assert rows(service.path, "SELECT sum(n) FROM returning_sums") == [(float(n_returned),)]
    assert rows(service.path, "SELECT sum(assigned) FROM cells") == [(len(journal.variant),)]
    assert check_ledger(service.path, "x") == len(journal.variant)
