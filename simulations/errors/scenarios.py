"""The scenarios of `error-rates`: one base case, each factor varied by itself, and what is known to break tests.

Base case: two equal arms with a rate of 0.5, 10,000 users, Thompson sampling, epochs of 50 users or 2 %, a floor of
0.05 for every arm, control too. The engine's default gives control 0.2, which is easier for inference, so it is a
variation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bandit.experiment import Experiment, parse
from simulations.errors.readings import EveryReward, OpenEpochs, Reading, closed, missing_left_out
from simulations.errors.worlds import Skewed, Truth, answered_rates, moving_rates, rates, user_means

USERS = 10_000
WINDOW = 1_000
"""Users who come in the time that outcomes may take, where they take time."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A question of an experiment to a world.

    Attributes:
        name: What it is called on the command line and in results.
        group: Heading in the table.
        experiment: Arms, floors, schedule; its horizon is the length of a run.
        truth: What the users do.
        readings: How runs are read: the product's way under "", others under a word of their own.
        window: Further users after which an epoch is closed.
        quick: Whether it is among the few of a quick run.
        drifts: Whether the base rate moves for all arms alike.
    """

    name: str
    group: str
    experiment: Experiment
    truth: Truth
    readings: Mapping[str, Reading] = field(default_factory=lambda: {"": closed})
    window: int = 0
    quick: bool = False
    drifts: bool = False

    @property
    def users(self) -> int:
        """Users of a run."""
        return self.experiment.analysis.horizon_users or USERS


def asked(
    arms: int = 2,
    users: int = USERS,
    goal: Mapping[str, object] | None = None,
    missing: str | None = None,
    **policy: object,
) -> Experiment:
    """Return an experiment with a binary goal, unless said; floor 0.05 for all arms, unless said.

    Args:
        arms: How many.
        users: Horizon.
        goal: Instead of the binary one.
        missing: What a user without an outcome counts.
        policy: Settings of the policy; `control_floor` follows `floor`, unless said.
    """
    settings = {"floor": 0.05, **policy}
    settings = {"control_floor": settings["floor"], **settings}
    if settings.get("kind") == "fixed":
        settings = {name: value for name, value in settings.items() if "floor" not in name}
    return parse(
        {
            "key": "error-rates",
            "salt": "error-rates",
            "variants": [{"key": f"v{arm}", "control": arm == 0} for arm in range(arms)],
            "goal": dict(goal or {"metric": "success", "kind": "binary"}),
            "policy": settings,
            "rewards": {} if missing is None else {"missing": missing},
            "analysis": {"horizon_users": users, "min_days": 0},  # a world without a clock
        }
    )


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name, in the order of the table."""
    parts = (_floors, _rare, _drift, _batches, _many_arms, _skewed, _clusters, _answers, _power)
    return {scenario.name: scenario for part in parts for scenario in part()}


def _floors() -> Iterator[Scenario]:
    group, even = "equal arms at 0.5", rates(0.5, 0.5)
    yield Scenario("equal-split", group, asked(kind="fixed"), even)
    yield Scenario("floor-0.01", group, asked(floor=0.01), even)
    yield Scenario("base", group, asked(), even, quick=True)
    yield Scenario("floor-0.1", group, asked(floor=0.1), even)
    yield Scenario("default-floors", group, asked(floor=0.1, control_floor=0.2), even)


def _rare() -> Iterator[Scenario]:
    group, rare = "equal arms at 0.02", rates(0.02, 0.02)
    for floor in (0.01, 0.05, 0.1):
        yield Scenario(f"rate-0.02-floor-{floor}", group, asked(floor=floor), rare, quick=floor == 0.05)
    yield Scenario("rate-0.02-batch-1", group, asked(min_batch=1), rare)
    yield Scenario("rate-0.02-users-1000", group, asked(users=1_000), rare)


def _drift() -> Iterator[Scenario]:
    group, moving = "both arms move from 0.3 to 0.7", moving_rates(lambda moment: [0.3 + 0.4 * moment] * 2)
    for floor in (0.01, 0.05, 0.1):
        yield Scenario(f"drift-floor-{floor}", group, asked(floor=floor), moving, quick=floor == 0.05, drifts=True)
    down = moving_rates(lambda moment: [0.05 - 0.04 * moment] * 2)
    yield Scenario("drift-rare", "both arms move from 0.05 to 0.01", asked(), down, drifts=True)


def _batches() -> Iterator[Scenario]:
    group, even = "equal arms at 0.5, other batches", rates(0.5, 0.5)
    yield Scenario("batch-1", group, asked(min_batch=1), even, quick=True)
    yield Scenario("batch-500", group, asked(min_batch=500), even)
    yield Scenario("batch-1-users-1000", group, asked(users=1_000, min_batch=1), even)
    yield Scenario("batch-1-no-warmup", group, asked(min_batch=1, warmup=0, floor=0.01), even)


def _many_arms() -> Iterator[Scenario]:
    for arms, floors in ((4, (0.01, 0.05, 0.1)), (10, (0.01,))):
        for floor in floors:
            quick = arms == 4 and floor == 0.05
            equal = rates(*[0.5] * arms)
            yield Scenario(
                f"arms-{arms}-floor-{floor}", f"{arms} equal arms at 0.5", asked(arms, floor=floor), equal, quick=quick
            )
    default = asked(10, floor=0.02, control_floor=0.2)
    yield Scenario("arms-10-default-floors", "10 equal arms at 0.5", default, rates(*[0.5] * 10))
    yield Scenario("arms-10-rate-0.02", "10 equal arms at 0.02", asked(10, floor=0.02), rates(*[0.02] * 10))
    moving = moving_rates(lambda moment: [0.3 + 0.4 * moment] * 10)
    yield Scenario("arms-10-drift", "10 arms move from 0.3 to 0.7", asked(10, floor=0.02), moving, drifts=True)


def _skewed() -> Iterator[Scenario]:
    goal = {"metric": "cost", "kind": "numeric"}
    for sigma in (1.0, 2.0):
        for floor in (0.01, 0.05, 0.1):
            group = f"lognormal, log-sd {sigma:g}"
            quick = sigma == 1.0 and floor == 0.05
            yield Scenario(
                f"lognormal-{sigma:g}-floor-{floor}", group, asked(goal=goal, floor=floor), Skewed(sigma), quick=quick
            )
    yield Scenario(
        "lognormal-2-users-50000", "lognormal, log-sd 2", asked(goal=goal, users=50_000, min_batch=500), Skewed(2.0)
    )
    for sigma, cap in ((1.0, 10.0), (2.0, 20.0), (2.0, 100.0)):
        experiment = asked(goal={**goal, "cap": cap})
        name = f"lognormal-{sigma:g}-cap-{cap:g}"
        yield Scenario(name, "lognormal of mean 1, cut at a cap", experiment, Skewed(sigma, cap=cap))


def _clusters() -> Iterator[Scenario]:
    for rewards in (5, 20):
        readings: dict[str, Reading] = {"": closed, "every-reward": EveryReward(rewards)}
        truth = user_means(0.5, rewards, correlation=0.2)
        group = "users with several rewards, correlation 0.2"
        yield Scenario(f"rewards-{rewards}", group, asked(), truth, readings, quick=rewards == 20)


def _answers() -> Iterator[Scenario]:
    delays = {(0, 0): (0.0, WINDOW), (0, 1): (0.0, WINDOW), (1, 0): (0.0, WINDOW), (1, 1): (0.0, 100.0)}
    late: dict[str, Reading] = {"": closed, "open-epochs": OpenEpochs(delays)}
    group = "outcomes late, or not known"
    yield Scenario("delay", group, asked(), rates(0.5, 0.5), late, WINDOW, quick=True)
    by_arm = answered_rates(lambda moment: 0.3 + 0.2 * moment, [(0.5, 0.5), (0.7, 0.7)])
    yield Scenario("response-by-arm", group, asked(missing="ignore"), by_arm, quick=True, drifts=True)
    far_apart = answered_rates(lambda _: 0.02, [(0.9, 0.9), (0.3, 0.3)])
    yield Scenario("response-by-arm-rare", group, asked(missing="ignore"), far_apart)
    by_outcome = answered_rates(lambda _: 0.5, [(0.8, 0.9), (0.8, 0.3)])
    both: dict[str, Reading] = {"": closed, "missing-left-out": missing_left_out}
    yield Scenario("response-by-outcome", group, asked(missing="worst"), by_outcome, both)


def _power() -> Iterator[Scenario]:
    novel = moving_rates(lambda moment: [0.5, 0.6 if moment < 0.2 else 0.47])
    yield Scenario("novelty", "0.5; 0.6 for the first fifth, then 0.47", asked(), novel)
    for better in (0.55, 0.6):
        group, truth = f"0.5 and {better:g}", rates(0.5, better)
        gap = f"{better - 0.5:.2f}"
        yield Scenario(f"gain-{gap}-equal-split", group, asked(kind="fixed"), truth)
        for floor in (0.01, 0.05, 0.1) if better == 0.55 else (0.05,):
            yield Scenario(f"gain-{gap}-floor-{floor}", group, asked(floor=floor), truth, quick=floor == 0.05)
        if better == 0.55:
            default = asked(floor=0.1, control_floor=0.2)
            yield Scenario(f"gain-{gap}-default-floors", group, default, truth)
    for cap in (np.inf, 10.0):
        goal = {"metric": "cost", "kind": "numeric", **({"cap": cap} if np.isfinite(cap) else {})}
        experiment = asked(goal=goal, floor=0.1, control_floor=0.2)
        name = f"gain-lognormal-cap-{cap:g}" if np.isfinite(cap) else "gain-lognormal"
        yield Scenario(name, "lognormal, log-sd 1, means 1 and 1.15", experiment, Skewed(1.0, (1.0, 1.15), cap))
    group, truth, users = "0.5, 0.55, 0.52, 0.5", rates(0.5, 0.55, 0.52, 0.5), 20_000
    yield Scenario("gain-4-arms-equal-split", group, asked(4, users, kind="fixed"), truth)
    yield Scenario("gain-4-arms-floor-0.05", group, asked(4, users), truth)
    yield Scenario("gain-4-arms-floor-0.1", group, asked(4, users, floor=0.1), truth)
    yield Scenario("gain-4-arms-floor-0.02-control-0.2", group, asked(4, users, floor=0.02, control_floor=0.2), truth)
