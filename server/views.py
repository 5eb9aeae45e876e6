"""What the event loop may read of an experiment without asking the writer: answers for users it knows.

The writer thread publishes and remembers, after the commit; the event loop only looks up. Each step is one
operation on a dictionary, so no lock is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bandit import Assignment, Bandit
from server.live import Live

GENERATION = 250_000
"""Users remembered before the older half is forgotten: about 60 MB for an experiment's two generations."""

Tail = tuple[bytes, bytes]
"""An answer's JSON after the ids in two parts: one of its variant, which may be large, and one of its cell."""


class View:
    """The answers of one experiment.

    Args:
        live: The experiment, in the writer thread.
    """

    def __init__(self, live: Live) -> None:
        self.experiment = live.bandit.experiment
        self.version = -1
        self.state = ""
        self.constant: Tail | None = None
        """The answer for everybody, once the experiment is over."""
        self._young: dict[str, Tail] = {}
        self._old: dict[str, Tail] = {}
        self._outside: dict[str, Tail] = {}
        self._heads = {variant.key: self._head(variant.key, variant.config) for variant in self.experiment.variants}
        self._tails: dict[tuple[int | None, str, str], Tail] = {}
        control = self.experiment.variants[self.experiment.control]
        self.fallback = self.tail(Assignment(control.key, control.config, None, None, "fallback"))
        self.publish(live)

    def known(self, user_id: str) -> Tail | None:
        """Return the answer for a user whom this process knows, without request and user id; None: ask."""
        if self.state == "stopped":
            return self.constant
        tail = self._young.get(user_id)
        if tail is None:
            tail = self._old.get(user_id)
            if tail is None:
                return self._outside.get(user_id)
            self._young[user_id] = tail  # who comes back stays; the others leave with the generation
        return tail

    def tail(self, answer: Assignment) -> Tail:
        """Return an answer's JSON after the request and user id; one object for all users of a cell."""
        place = (answer.epoch, answer.variant, answer.reason)
        tail = self._tails.get(place)
        if tail is None:
            cell = {"propensity": answer.propensity, "epoch": answer.epoch, "reason": answer.reason}
            tail = self._tails[place] = self._heads[answer.variant], msgspec.json.encode(cell)[1:]
        return tail

    def _head(self, variant: str, config: Mapping[str, Any]) -> bytes:
        head = {"experiment": self.experiment.key, "variant": variant, "config": config}
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
        if answer.reason in ("new", "sticky"):
            if len(self._young) >= GENERATION:
                self._old, self._young = self._young, {}
            sticky = Assignment(answer.variant, answer.config, answer.propensity, answer.epoch, "sticky")
            self._young[user_id] = self.tail(sticky)
        elif self.state == "running" and len(self._outside) < GENERATION and not bandit.enrols(user_id):
            # Outside the exposure, which does not change. Who got the same answer before a start of the same batch
            # is in the experiment from now on.
            self._outside[user_id] = self.tail(answer)

    def publish(self, live: Live) -> None:
        """Take over the state of the experiment after a commit."""
        bandit = live.bandit
        self.version = live.version
        if bandit.state != self.state:
            self.state = bandit.state
            self._outside = {}
        if bandit.state != "stopped":
            return
        self._young, self._old = {}, {}
        if self.constant is None and (bandit.truncated or bandit.closed_epochs == len(bandit.epochs)):
            # Whoever is not known gets what everybody gets once no window is open any more.
            self.constant = self.tail(bandit.choose("anybody"))
