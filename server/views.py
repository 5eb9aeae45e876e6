"""What the event loop may read of an experiment without asking the writer: answers for users it knows.

The writer thread publishes and remembers, after the commit; the event loop only looks up. Each step is one
operation on a dictionary, so no lock is needed.
"""

from __future__ import annotations

import msgspec

from bandit import Assignment
from server.live import Live

GENERATION = 250_000
"""Users remembered before the older half is forgotten: about 60 MB for an experiment's two generations."""


class View:
    """The answers of one experiment.

    Args:
        live: The experiment, in the writer thread.
    """

    def __init__(self, live: Live) -> None:
        self.experiment = live.bandit.experiment
        self.version = -1
        self.state = ""
        self.constant: bytes | None = None
        """The answer for everybody, once the experiment is over."""
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._outside: dict[str, bytes] = {}
        self._tails: dict[tuple[int | None, str, str], bytes] = {}
        control = self.experiment.variants[self.experiment.control]
        self.fallback = self.tail(Assignment(control.key, control.config, None, None, "fallback"))
        self.publish(live)

    def known(self, user_id: str) -> bytes | None:
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

    def tail(self, answer: Assignment) -> bytes:
        """Return an answer's JSON after the request and user id; one object for all users of a cell."""
        place = (answer.epoch, answer.variant, answer.reason)
        tail = self._tails.get(place)
        if tail is None:
            body = {
                "experiment": self.experiment.key,
                "variant": answer.variant,
                "config": answer.config,
                "propensity": answer.propensity,
                "epoch": answer.epoch,
                "reason": answer.reason,
            }
            tail = self._tails[place] = msgspec.json.encode(body)[1:]
        return tail

    def remember(self, user_id: str, answer: Assignment) -> None:
        """Keep what a user gets from now on."""
        if self.state == "stopped":
            return
        if answer.reason in ("new", "sticky"):
            if len(self._young) >= GENERATION:
                self._old, self._young = self._young, {}
            sticky = Assignment(answer.variant, answer.config, answer.propensity, answer.epoch, "sticky")
            self._young[user_id] = self.tail(sticky)
        elif self.state == "running" and len(self._outside) < GENERATION:
            self._outside[user_id] = self.tail(answer)  # outside the exposure, which does not change

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
