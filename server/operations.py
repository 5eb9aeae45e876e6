"""What the writer is asked to do; each runs against the engine inside a write transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from bandit import (
    Assignment,
    Bandit,
    Experiment,
    InvalidExperiment,
    InvalidInput,
    InvalidReward,
    Problem,
    Receipt,
    UnknownVariant,
)
from bandit.measures import metric_fields
from server.errors import ExperimentExists, NoSuchVariant, UnknownExperiment
from server.interactions import Interaction, Logged, erase
from server.live import Live, Reward
from server.states import variant_state
from server.store import Store

API = "api"
"""Who acts over HTTP."""

SERVER = "server"
"""Who starts the experiments that were named at the start of the server."""


class Desk(Protocol):
    """What an operation finds in its transaction."""

    @property
    def store(self) -> Store:
        """The store."""

    @property
    def time(self) -> Callable[[], float]:
        """The clock."""

    def live(self, key: str) -> Live | None:
        """Return an experiment as it is in this transaction, None if there is none.

        Raises:
            Unreadable: Its rows cannot be loaded.
        """


class Operation(Protocol):
    """One request to change, or to ask under lock."""

    @property
    def key(self) -> str:
        """The experiment that it concerns."""

    @property
    def user_id(self) -> str | None:
        """The user at hand."""

    def run(self, desk: Desk) -> object:
        """Do it and return the answer; a `BanditError` is an answer too, and has changed nothing."""


class Choose(msgspec.Struct, frozen=True):
    """Which variant does this user get?"""

    key: str
    user_id: str

    def run(self, desk: Desk) -> Assignment:
        """Return the assignment."""
        return existing(desk, self.key).choose(self.user_id)


class Count(msgspec.Struct, frozen=True):
    """What happened to a user?"""

    key: str
    reward: Reward

    @property
    def user_id(self) -> str:
        """The user whom it happened to."""
        return self.reward.user_id

    def run(self, desk: Desk) -> Receipt:
        """Return the receipt."""
        return existing(desk, self.key).reward(self.reward)


class Log(msgspec.Struct, frozen=True):
    """What was a user's model asked, and what did it answer?"""

    key: str
    interaction: Interaction

    @property
    def user_id(self) -> str:
        """The user whose it is."""
        return self.interaction.user_id

    def run(self, desk: Desk) -> Logged:
        """Return what became of it."""
        try:
            return existing(desk, self.key).log(self.interaction)
        except UnknownVariant as error:  # under the names that the fields have in the request
            raise InvalidInput([Problem("variant_id", problem.message) for problem in error.problems]) from error
        except InvalidReward as error:
            fields = metric_fields(existing(desk, self.key).bandit.experiment)
            places = [problem.field.removeprefix("metrics.") for problem in error.problems]
            messages = [problem.message for problem in error.problems]
            raise InvalidInput([*map(Problem, (fields.get(place, place) for place in places), messages)]) from error


@dataclass(frozen=True, slots=True)
class Erase:
    """Forget the texts of a user's interactions."""

    key: str
    user: str
    user_id: None = None  # what else is stored of the user stays

    def run(self, desk: Desk) -> int:
        """Return how many interactions had texts."""
        live = existing(desk, self.key)
        return live.forget_texts(self.user) + erase(desk.store.db, live.id, self.user, live.clock())


@dataclass(frozen=True, slots=True)
class Create:
    """A new experiment, which has its salt."""

    experiment: Experiment
    user_id: None = None

    @property
    def key(self) -> str:
        """Key of the new experiment."""
        return self.experiment.key

    def run(self, desk: Desk) -> None:
        """Store it as a draft."""
        if desk.store.version(self.key) is not None:
            raise ExperimentExists(self.key)
        draft = Bandit(self.experiment, desk.time, running=False)
        desk.store.create(self.experiment, draft.saved_state, desk.time())
        desk.live(self.key)  # loads it, so that it is served from the commit on


@dataclass(frozen=True, slots=True)
class Seed:
    """An experiment of a file that was named at the start of the server: to be served from now on.

    Attributes:
        experiment: With a salt; stored if there is none of its key.
        declared: As the file has it.
    """

    experiment: Experiment
    declared: Experiment
    user_id: None = None

    @property
    def key(self) -> str:
        """Key of the experiment."""
        return self.experiment.key

    def run(self, desk: Desk) -> str:
        """Create and start it in this one transaction unless it is stored; return what was done."""
        live = desk.live(self.key)
        if live is None:
            Create(self.experiment).run(desk)
            existing(desk, self.key).start(actor=SERVER)
            return f"experiment '{self.key}' created and started"
        stored, state = live.bandit.experiment, live.bandit.state
        same = self.declared
        if same.salt is None and stored.salt is not None:
            same = same.with_salt(stored.salt)
        if same != stored:
            return (
                f"experiment '{self.key}' is stored with another definition and goes on with the stored one "
                f"({state}); give the new one another key"
            )
        if state == "draft":
            live.start(actor=SERVER)
            return f"experiment '{self.key}' was stored as a draft and is started now"
        return f"experiment '{self.key}' goes on ({state})"


@dataclass(frozen=True, slots=True)
class Move:
    """Start, pause or stop."""

    key: str
    action: str
    serve: str | None = None
    now: bool = False
    reason: str = ""
    user_id: None = None

    def run(self, desk: Desk) -> tuple[str, str | None]:
        """Return the new state, and the variant that everybody gets after a stop."""
        live = existing(desk, self.key)
        if self.action == "stop":
            try:
                live.stop(self.serve, now=self.now, reason=self.reason, actor=API)
            except UnknownVariant as error:  # under the name that the field has in the request
                raise InvalidInput([Problem("serve", problem.message) for problem in error.problems]) from error
        elif self.action == "start":
            live.start(reason=self.reason, actor=API)
        else:
            live.bandit.pause(reason=self.reason, actor=API)
        bandit = live.bandit
        return bandit.state, bandit.experiment.arms[bandit.serve] if bandit.state == "stopped" else None


@dataclass(frozen=True, slots=True)
class Switch:
    """Suspend or resume a variant."""

    key: str
    variant: str
    on: bool
    reason: str = ""
    user_id: None = None

    def run(self, desk: Desk) -> dict[str, object]:
        """Return the variant as it is then."""
        bandit = existing(desk, self.key).bandit
        try:
            arm = bandit.experiment.arm(self.variant)
        except UnknownVariant as error:  # it is a part of the path
            raise NoSuchVariant(error.problems[0].message) from error
        change = bandit.resume if self.on else bandit.suspend
        change(self.variant, reason=self.reason, actor=API)
        return {"experiment": self.key, **variant_state(bandit, arm)}


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Another version of a variant: another configuration."""

    key: str
    variant: str
    config: Mapping[str, object]
    reason: str = ""
    user_id: None = None

    def run(self, desk: Desk) -> dict[str, object]:
        """Return the variant as it is then, with its configuration."""
        bandit = existing(desk, self.key).bandit
        try:
            arm = bandit.experiment.arm(self.variant)
        except UnknownVariant as error:  # under the name that the field has in the request
            raise InvalidInput([Problem("key", problem.message) for problem in error.problems]) from error
        try:
            bandit.change(self.variant, self.config, reason=self.reason, actor=API)
        except InvalidExperiment as error:  # the same; a fault of all configurations together has come with this one
            places = [
                "config" if problem.field == "variants" else problem.field.removeprefix(f"variants[{arm}].")
                for problem in error.problems
            ]
            messages = [problem.message for problem in error.problems]
            raise InvalidInput([*map(Problem, places, messages)]) from error
        config = bandit.experiment.variants[arm].config
        return {"experiment": self.key, **variant_state(bandit, arm), "config": config}


@dataclass(frozen=True, slots=True)
class RollBack:
    """An earlier version of a variant again."""

    key: str
    variant: str
    version: int | None = None
    reason: str = ""
    user_id: None = None

    def run(self, desk: Desk) -> dict[str, object]:
        """Return the variant as it is then, with its configuration."""
        bandit = existing(desk, self.key).bandit
        try:
            arm = bandit.experiment.arm(self.variant)
        except UnknownVariant as error:  # it is a part of the path
            raise NoSuchVariant(error.problems[0].message) from error
        bandit.roll_back(self.variant, self.version, reason=self.reason, actor=API)
        config = bandit.experiment.variants[arm].config
        return {"experiment": self.key, **variant_state(bandit, arm), "config": config}


@dataclass(frozen=True, slots=True)
class Force:
    """Give a user a variant by hand, or take that back."""

    key: str
    user: str
    variant: str | None
    reason: str = ""
    user_id: None = None  # what is stored of the user does not matter

    def run(self, desk: Desk) -> None:
        """Do it."""
        bandit = existing(desk, self.key).bandit
        if self.variant is None:
            bandit.release(self.user, reason=self.reason, actor=API)
        else:
            bandit.force(self.user, self.variant, reason=self.reason, actor=API)


@dataclass(frozen=True, slots=True)
class Expose:
    """Let another share of users in; None: what the declaration says."""

    key: str
    exposure: float | None
    reason: str = ""
    user_id: None = None

    def run(self, desk: Desk) -> None:
        """Do it."""
        existing(desk, self.key).bandit.set_exposure(self.exposure, reason=self.reason, actor=API)


@dataclass(frozen=True, slots=True)
class Tick:
    """Let time pass."""

    key: str
    user_id: None = None

    def run(self, desk: Desk) -> None:
        """Close and renew what is due."""
        live = desk.live(self.key)
        if live is not None:
            live.bandit.tick()
            live.quiet_until = live.clock() + 10.0  # taken back if the tick changed something


def existing(desk: Desk, key: str) -> Live:
    """Return an experiment.

    Raises:
        UnknownExperiment: There is none with this key.
    """
    live = desk.live(key)
    if live is None:
        raise UnknownExperiment(key)
    return live
