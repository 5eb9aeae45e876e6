"""Users until even an arm that stays at its floor can be analysed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bandit.experiment import Experiment
from bandit.inference.welch import FEWEST_EVENTS


@dataclass(frozen=True, slots=True)
class FloorUsers:
    """When every arm has enough events at its floor.

    Attributes:
        events: Events, and non-events, that each arm should have.
        arm: Key of the arm that gets there last.
        floor: Its floor.
        users: Users with an outcome in all arms together, by then; None: it may never get there, its floor is 0.
    """

    events: int
    arm: str
    floor: float
    users: int | None


def users_at_floors(experiment: Experiment, baseline: float) -> FloorUsers | None:
    """Return the users until every arm has 25 events and as many non-events, if each got no more than its floor.

    Args:
        experiment: Gives floors and goal.
        baseline: The rate of every arm, in (0, 1).

    Returns:
        None for a numeric goal, which has no events, and for the policy `fixed`, which has no floors.
    """
    if experiment.goal.kind == "numeric" or experiment.policy.kind == "fixed":
        return None
    arm = min(range(experiment.n_arms), key=experiment.floors.__getitem__)
    floor = experiment.floors[arm]
    users = math.ceil(FEWEST_EVENTS / (floor * min(baseline, 1.0 - baseline)) * (1.0 - 1e-12)) if floor > 0 else None
    return FloorUsers(FEWEST_EVENTS, experiment.arms[arm], floor, users)
