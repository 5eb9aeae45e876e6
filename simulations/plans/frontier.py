"""What a policy that moves traffic does to a plan, by simulation: reward against the time to a decision, over floors.

The world is the plan's own: control at the baseline, the first treatment better by `mde`, all others like control.
Guardrails are not in it; they are sized in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bandit.experiment import Experiment
from simulations.compare import FIXED, PAIRED, run_policy
from simulations.plans.sizing import Sizing
from simulations.scores import Estimate, Score
from simulations.sweeps.settings import Setting
from simulations.world_files import parse_world
from simulations.worlds import World

FLOORS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
"""Least shares that are tried, as far as they fit."""

LONGER = 2.0
"""The horizon, in users that a fixed split needs for looks at any time."""

_MOST_USERS = 10**9


@dataclass(frozen=True, slots=True)
class Point:
    """What one set-up comes to.

    Attributes:
        setting: The set-up; floor None is the file's own floors.
        score: Its numbers.
        over_fixed: By number how much more it has than the fixed split, over pairs of runs.
        days: Days until the mean users to a decision have come, without the reward window.
    """

    setting: Setting
    score: Score
    over_fixed: dict[str, Estimate]
    days: float

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        setting = self.setting
        fields: dict[str, object] = {}
        for name, estimate in {**self.score.numbers, **self.score.deciding}.items():
            fields |= estimate.fields(name)
        for name, estimate in self.over_fixed.items():
            fields |= estimate.fields(f"{name}_over_fixed")
        return {
            "policy": setting.policy, "floor": setting.floor, "control_floor": setting.control_floor,
            "days_to_decision": self.days, **fields,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frontier:
    """Reward against the time to a decision.

    Attributes:
        users: Horizon of each run.
        replications: Runs.
        seed: Repeats the same numbers on the same version.
        power: Share of runs that have to be decided by the horizon for a set-up to be advised.
        better: Direction of the goal.
        notes: What in the simulated world is not as the plan has it, one sentence each.
        points: The file's floors, then one least share of every variant after the other.
        fixed: The fixed split.
    """

    users: int
    replications: int
    seed: int
    power: float
    better: str
    notes: tuple[str, ...]
    points: tuple[Point, ...]
    fixed: Point

    @property
    def best(self) -> Point:
        """The set-up with the most reward for all users of a run, if everybody gets what was decided from then on.

        Of those that decide often enough; the fixed split if none does.
        """
        enough = (point for point in self.points if (point.score.deciding["decided"].value or 0.0) >= self.power)
        return max((*enough, self.fixed), key=self._gain)

    @property
    def sign(self) -> float:
        """1 where a higher goal is better, else −1: times it, a difference is a gain."""
        return 1.0 if self.better == "higher" else -1.0

    def _gain(self, point: Point) -> float:
        found = point.over_fixed.get("reward_acted_on")
        return 0.0 if found is None or found.value is None else self.sign * found.value

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        return {
            "users": self.users,
            "replications": self.replications,
            "seed": self.seed,
            "points": [point.to_dict() for point in self.points],
            "fixed": self.fixed.to_dict(),
            "power": self.power,
            "best": {"policy": self.best.setting.policy, "floor": self.best.setting.floor},
        }


def frontier(
    sized: Sizing,
    sd: float | None = None,
    *,
    users: int | None = None,
    replications: int = 400,
    seed: int = 1,
    watch: Callable[[Sequence[Setting]], Callable[[Setting, int], None] | None] = lambda _: None,
) -> Frontier:
    """Return what the plan's experiment comes to under its policy (Thompson sampling if it is fixed), floor by floor.

    Args:
        sized: The plan.
        sd: Standard deviation of a user's outcome, as the plan was given it; numeric goals only.
        users: Horizon; None: twice what a fixed split needs for looks at any time.
        replications: Runs of each set-up.
        seed: Not negative; every set-up meets the same luck.
        watch: Told the set-ups; returns what is told after each epoch.

    Raises:
        InvalidInput: The experiment cannot be run so.
    """
    experiment = sized.experiment
    if experiment.half_life_seconds is not None:
        experiment = experiment.with_policy(half_life=None)  # there is no clock to forget by
    world = planned_world(experiment, sized, sd)
    horizon = _horizon(sized) if users is None else users
    kind = "thompson" if experiment.policy.kind == FIXED else experiment.policy.kind
    most = 1.0 / experiment.n_arms
    own = Setting(kind, None, None, None, horizon)
    tried = [Setting(kind, floor, floor, None, horizon) for floor in FLOORS if floor < most - 1e-9]
    every = [own.fixed, own, *tried]
    tell = watch(every)
    scores = {
        each: run_policy(
            world, each.asked(experiment), horizon, replications, seed,
            None if tell is None else partial(tell, each),
        )
        for each in every
    }  # fmt: skip
    base = scores[own.fixed]

    def point(setting: Setting) -> Point:
        found = scores[setting]
        paired = PAIRED if setting != own.fixed else ()
        over = {name: Estimate.of(found.each[name] - base.each[name]) for name in paired}
        return Point(setting, found, over, sized.traffic.enrolment_days(found.until_decision))

    points = tuple(map(point, (own, *tried)))
    better, notes = experiment.goal.better, world.notes
    return Frontier(horizon, replications, seed, sized.plan.power, better, notes, points, point(own.fixed))


def planned_world(experiment: Experiment, sized: Sizing, sd: float | None) -> World:
    """Return the world of a plan: control at the baseline, the first treatment better by `mde`, others like control."""
    goal, need = experiment.goal, sized.plan
    better = next(arm for arm, variant in enumerate(experiment.variants) if not variant.control)

    def law(mean: float) -> object:
        return mean if goal.kind == "binary" else {"mean": mean, "sd": sd}

    laws = {
        key: {goal.metric: law(need.target if arm == better else need.baseline)}
        for arm, key in enumerate(experiment.arms)
    }
    return parse_world(experiment, {"variants": laws})


def _horizon(sized: Sizing) -> int:
    known = sized.any_time or sized.one_look
    return min(math.ceil(LONGER * known.size.total), _MOST_USERS)
