"""What the event loop may read of an experiment without asking the writer: answers for users it knows.

The writer thread publishes and remembers, after the commit; the event loop only looks up. Each step is one
operation on a dictionary or one assignment, so no lock is needed.

What a user keeps is not an answer but the number of the `Kept` of their cell: a number, because a dictionary of nothing
but text and numbers is no work for the garbage collector, which would take 5 ms for half a million users. When a
suspension or another configuration ends a generation, the answers of its few cells are taken out of these, and with
that the answers of all users of the cells, however many they are. Users who were moved share one `Kept` for each
variant that they are moved to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bandit import Assignment, Bandit
from bandit.json_values import content_hash
from server.live import Live

GENERATION = 250_000
"""Users remembered before the older half is forgotten: 140 bytes each, so 70 MB for an experiment's two generations."""

Tail = tuple[bytes, bytes]
"""An answer's JSON after the ids in two parts: one of its variant, which may be large, and one of its cell."""


class Kept:
    """The answer that the users of one cell keep.

    Attributes:
        number: Its place among all of an experiment.
        tail: The answer; None once they lose it, so that each of them is asked for anew.
    """

    __slots__ = ("number", "tail")

    def __init__(self, number: int, tail: Tail) -> None:
        self.number = number
        self.tail: Tail | None = tail


class View:
    """The answers of one experiment.

    Args:
        live: The experiment, in the writer thread.
    """

    def __init__(self, live: Live) -> None:
        self.version = -1
        self.state = ""
        self.constant: Tail | None = None
        """The answer for everybody, once the experiment is over."""
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._all: list[Kept] = []
        self._outside: dict[str, Tail] = {}
        self._forced: dict[str, Tail] = {}
        self._kept: dict[tuple[int, int], Kept] = {}
        self._exposure = -1.0
        self._n_events = 0
        self._heads: dict[str, tuple[Mapping[str, Any], bytes]] = {}
        self._tails: dict[tuple[int | None, str, str], Tail] = {}
        self._moved: dict[str, Kept] = {}
        self._lost: set[str] = set()
        self._take_over(live.bandit)
        self.fallback = self._plain(self.experiment.control, "fallback")
        self.publish(live)

    def known(self, user_id: str) -> Tail | None:
        """Return the answer for a user whom this process knows, without request and user id; None: ask."""
        forced = self._forced.get(user_id)
        if forced is not None:
            return forced
        if self.state == "stopped":
            return self.constant
        number = self._young.get(user_id)
        if number is None:
            number = self._old.get(user_id)
            if number is None:
                return self._outside.get(user_id)
            self._young[user_id] = number  # who comes back stays; the others leave with the generation
        return self._all[number].tail

    def tail(self, answer: Assignment) -> Tail:
        """Return an answer's JSON after the request and user id; one object for all users of a cell."""
        config, head = self._heads[answer.variant]
        if answer.config is not config and answer.config != config:
            head = self._head(answer.variant, answer.config)  # the variant has changed since this was answered
        place = (answer.epoch, answer.variant, answer.reason)
        tail = self._tails.get(place)
        if tail is None or tail[0] is not head:
            cell = {"propensity": answer.propensity, "epoch": answer.epoch, "reason": answer.reason}
            tail = self._tails[place] = head, msgspec.json.encode(cell)[1:]
        return tail

    def _head(self, variant: str, config: Mapping[str, Any]) -> bytes:
        mark = content_hash(config)
        version = max(n for n, other in enumerate(self._versions[variant], 1) if other == mark)
        head = {
            "experiment": self.experiment.key, "variant": variant, "config": config, "version": version,
            "config_hash": mark,
        }  # fmt: skip
        return msgspec.json.encode(head)[1:-1] + b","

    def remember(self, user_id: str, answer: Assignment, bandit: Bandit) -> None:
        """Keep what a user gets from now on.

        Args:
            user_id: Who.
            answer: What the user got.
            bandit: The experiment as it is after the batch with that answer.
        """
        if self.state == "stopped":
            return
        kept = self._keep(answer, bandit)
        if kept is not None:
            if len(self._young) >= GENERATION:
                self._old, self._young = self._young, {}
            self._young[user_id] = kept.number
        elif (
            answer.reason == "not_enrolled"
            and self.state == "running"
            and len(self._outside) < GENERATION
            and not bandit.enrols(user_id)
        ):
            # Outside the exposure as it is now. Who got the same answer before a start or a change of the same batch
            # may be in the experiment from now on.
            self._outside[user_id] = self.tail(answer)

    def publish(self, live: Live) -> None:
        """Take over the state of the experiment after a commit."""
        bandit = live.bandit
        self.version = live.version
        if bandit.experiment is not self.experiment:
            self._take_over(bandit)
        self._lost = set()
        if (bandit.state, bandit.exposure) != (self.state, self._exposure):
            self.state, self._exposure = bandit.state, bandit.exposure
            self._outside = {}
        if len(bandit.events) != self._n_events:  # nobody is forced or loses a variant without one
            self._take_away(bandit)
            self._n_events = len(bandit.events)
            self._forced = {user: self._plain(arm, "forced") for user, arm in bandit.forced.items()}
        if bandit.state != "stopped":
            return
        self._young, self._old = {}, {}
        if self.constant is None and (bandit.truncated or bandit.closed_epochs == len(bandit.epochs)):
            # Whoever is not known gets what everybody gets once no window is open any more.
            self.constant = self._plain(bandit.serve, "stopped")

    def _keep(self, answer: Assignment, bandit: Bandit) -> Kept | None:
        """Return what a user with this answer keeps; None: nothing, such as a variant lost again in the same batch."""
        if answer.reason == "moved" and answer.variant not in self._lost:
            if answer.variant not in self._moved:
                self._moved[answer.variant] = self._another(self.tail(answer))
            return self._moved[answer.variant]
        if answer.reason not in ("new", "sticky") or answer.epoch is None:
            return None
        place = (answer.epoch, self.experiment.arm(answer.variant))
        if bandit.epochs[place[0] - 1].cells[place[1]].sticky is None:
            return None
        if place not in self._kept:
            sticky = Assignment(answer.variant, answer.config, answer.propensity, answer.epoch, "sticky")
            self._kept[place] = self._another(self.tail(sticky))
        return self._kept[place]

    def _another(self, tail: Tail) -> Kept:
        self._all.append(Kept(len(self._all), tail))
        return self._all[-1]

    def _take_over(self, bandit: Bandit) -> None:
        """Answer with the configurations of an experiment from now on."""
        self.experiment = experiment = bandit.experiment
        self._versions = {key: [content_hash(config) for config in bandit.versions(key)] for key in experiment.arms}
        for variant in experiment.variants:
            head = self._head(variant.key, variant.config)
            _, before = self._heads.get(variant.key, (None, head))
            self._heads[variant.key] = variant.config, (before if before == head else head)
            if before != head:
                self._tails = {}  # so that nothing holds what it was

    def _take_away(self, bandit: Bandit) -> None:
        """Let users be asked for anew whose generation of the arm has ended, or who were moved to an arm since lost."""
        news = bandit.events[self._n_events :]
        self._lost = {event.variant for event in news if event.variant and event.kind in ("suspended", "changed")}
        for variant in self._lost & self._moved.keys():
            self._moved.pop(variant).tail = None
        for (epoch, arm), kept in self._kept.items():
            if bandit.epochs[epoch - 1].cells[arm].sticky is None:
                kept.tail = None

    def _plain(self, arm: int, reason: str) -> Tail:
        """Return the answer of somebody who does not count in the experiment."""
        variant = self.experiment.variants[arm]
        return self.tail(Assignment(variant.key, variant.config, None, None, reason))
