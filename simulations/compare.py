"""Policies side by side in one world: the same experiment, users and seeds under each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import get_args

import numpy as np

from bandit import __version__
from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.experiment_parts import PolicyKind
from bandit.wording import received, unknown_name
from simulations.baselines import Baseline, Floors, baselines, floors
from simulations.paths import Path, path_of
from simulations.records import Tape
from simulations.runner import run_epochs
from simulations.scores import Estimate, Score, score
from simulations.worlds import World

POLICIES: tuple[str, ...] = get_args(PolicyKind)
"""Names of the policies that the engine has."""

UNGUARDED = " (no guardrails)"
"""Added to a policy's name: the same policy, but nothing is suspended and no share is shrunk."""

FIXED = "fixed"

PAIRED = ("reward_per_user", "regret", "reward_acted_on", "users_to_decision")
"""Numbers of which policies are compared run by run."""

_HALF_LIFE = "half_life"
_NEVER = "none"

Watcher = Callable[[str, int], None]
"""Is told after each epoch the policy and how many users it had, over all runs."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several policies came to in one world.

    Attributes:
        experiment: What was asked.
        world: The truth.
        seed: Repeats the same numbers on the same versions.
        users: Users of each run.
        replications: Runs of each policy.
        policies: Scores by name, in the order asked for; where guardrails are simulated, beside each policy the same
            one without them.
        paths: How the runs of each went, by the same names; empty: nobody asked for pictures.
    """

    experiment: Experiment
    world: World
    seed: int
    users: int
    replications: int
    policies: Mapping[str, Score]
    paths: Mapping[str, Path] = field(default_factory=dict, compare=False, repr=False)

    @property
    def baselines(self) -> Mapping[str, Baseline]:
        """What it would be worth to give one variant to everybody, by variant; no luck is in it."""
        return baselines(self.world, self.users)

    @property
    def bounds(self) -> Floors | None:
        """What no policy can beat, for binary goals in a world that does not change; None for others."""
        return floors(self.world, self.users)

    def against_fixed(self, name: str) -> Mapping[str, Estimate]:
        """Return by number how much more a policy has than the fixed split, over pairs of runs with the same luck.

        Empty where there is no fixed split to compare with.
        """
        base = self.policies.get(FIXED)
        if base is None or name == FIXED:
            return {}
        own = self.policies[name].each
        return {key: Estimate.of(own[key] - base.each[key]) for key in PAIRED if key in own and key in base.each}

    def to_dict(self) -> dict[str, object]:
        """Return the JSON contract, schema 1."""
        bounds = self.bounds
        return {
            "schema": 1,
            "version": __version__,
            "seed": self.seed,
            "users": self.users,
            "replications": self.replications,
            "not_simulated": list(self.world.not_simulated),
            "policies": {name: self._policy(name) for name in self.policies},
            "baselines": {arm: asdict(each) for arm, each in self.baselines.items()},
            "bounds": None if bounds is None else asdict(bounds),
        }

    def _policy(self, name: str) -> dict[str, object]:
        paired = self.against_fixed(name)
        fields = {key: value for each, estimate in paired.items() for key, value in estimate.fields(each).items()}
        return {**self.policies[name].to_dict(), "against_fixed": fields}


def compare(
    world: World,
    policies: Sequence[str],
    *,
    users: int = 10_000,
    replications: int = 1_000,
    seed: int = 1,
    floor: float | None = None,
    control_floor: float | None = None,
    watch: Watcher | None = None,
    decide: bool = True,
    draw: bool = False,
) -> Comparison:
    """Return how policies fare in a world.

    Every policy starts from the same seeds, so its numbers do not depend on the others asked for. Where the world says
    something of guardrails each policy is run with and without them, from the same luck: what is gained, and what it
    costs.

    Args:
        world: The truth, and the experiment it is about.
        policies: Names, see `settings_of`.
        users: Users of each run, 1 or more.
        replications: Runs of each policy, 1 or more.
        seed: Not negative.
        floor: Least share of each arm instead of the experiment's; "fixed" has none.
        control_floor: Least share of control instead of the experiment's.
        watch: Called after each epoch.
        decide: Whether to say when runs would be decided, which takes about as long as running them.
        draw: Whether to keep the paths that pictures show.

    Raises:
        InvalidInput: A policy is unknown, the floors do not fit, or a half-life is in time.
    """
    world = world.until(users)
    scores: dict[str, Score] = {}
    paths: dict[str, Path] = {}
    for policy in policies:
        asked = under(world.experiment, policy, floor, control_floor)
        for name, guarded in entries(world, policy).items():
            told = None if watch is None else _about(watch, name)
            tape = Tape() if draw else None
            scores[name] = run_policy(
                world, asked, users, replications, seed, told, guarded=guarded, decide=decide, tape=tape
            )
            if tape is not None:
                paths[name] = path_of(asked, world, tape)
    return Comparison(world.experiment, world, seed, users, replications, scores, paths)


def run_policy(
    world: World,
    asked: Experiment,
    users: int,
    replications: int,
    seed: int,
    watch: Callable[[int], None] | None = None,
    *,
    guarded: bool = True,
    decide: bool = True,
    tape: Tape | None = None,
) -> Score:
    """Return what one policy comes to: the same seed is the same luck for every policy.

    Args:
        world: The truth.
        asked: Its experiment, under the policy.
        users: Users of each run, 1 or more.
        replications: Runs, 1 or more.
        seed: Not negative.
        watch: Told after each epoch how many users it had, over all runs.
        guarded: Whether guardrails are looked at.
        decide: Whether to say when runs are decided.
        tape: Keeps every epoch, for the caller; empty before.
    """
    world = world.until(users)
    horizons = np.full(replications, users, dtype=np.int64)
    tape = Tape() if decide and tape is None else tape
    runs = run_epochs(asked, world.phases(guarded=guarded), horizons, np.random.SeedSequence(seed), watch, tape)
    return score(asked, world, runs, tape if decide else None)


def entries(world: World, policy: str) -> dict[str, bool]:
    """Return the runs that a policy is given in a world, by name, and whether guardrails are looked at in each."""
    return {policy: True, policy + UNGUARDED: False} if world.simulated else {policy: True}


def settings_of(policy: str) -> dict[str, object]:
    """Return the policy settings that a name stands for.

    A name is one of `POLICIES`, or one with a half-life in users, such as "thompson:half_life=5000";
    "thompson:half_life=none" forgets nothing, also where the experiment says that it should.

    Raises:
        InvalidInput: The name stands for nothing.
    """
    kind, colon, setting = policy.partition(":")
    if kind not in POLICIES:
        raise InvalidInput([Problem("policies", f"unknown policy; {unknown_name(kind, POLICIES)}")])
    if not colon:
        return {"kind": kind}
    name, _, value = setting.partition("=")
    if name != _HALF_LIFE:
        message = f"received {received(setting)} after {kind}, allowed: {_HALF_LIFE}=USERS or {_HALF_LIFE}={_NEVER}"
        raise InvalidInput([Problem("policies", message)])
    if value == _NEVER:
        return {"kind": kind, _HALF_LIFE: None}
    if not (value.isascii() and value.isdigit() and 0 < int(value[:20]) <= 10**15):
        message = (
            f"received {_HALF_LIFE}={received(value)}, allowed: a whole number of users from 1 to 10^15, as a world "
            f"has no clock, or {_NEVER}"
        )
        raise InvalidInput([Problem("policies", message)])
    return {"kind": kind, _HALF_LIFE: int(value)}


def under(
    experiment: Experiment, policy: str, floor: float | None = None, control_floor: float | None = None
) -> Experiment:
    """Return the experiment under another policy and other floors; None keeps a floor.

    "fixed" is the file's split if the file's policy is "fixed", else the equal one. A half-life of the file acts on
    every policy that forgets, unless the name has one.

    Args:
        experiment: What is asked.
        policy: A name, see `settings_of`.
        floor: Least share of each arm.
        control_floor: Least share of control.

    Raises:
        InvalidInput: The policy is unknown or the floors do not fit.
    """
    changes = settings_of(policy)
    if changes["kind"] == "fixed" and experiment.policy.kind != "fixed":
        changes["split"] = None
    if floor is not None:
        changes["floor"] = floor
    if control_floor is not None:
        changes["control_floor"] = control_floor
    return experiment.with_policy(**changes)


def _about(watch: Watcher, name: str) -> Callable[[int], None]:
    return lambda users: watch(name, users)
