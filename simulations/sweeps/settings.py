"""Set-ups: what a sweep varies, and the experiment that each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from bandit.experiment import Experiment
from simulations.compare import FIXED, under


@dataclass(frozen=True, slots=True)
class Setting:
    """One set-up.

    Attributes:
        policy: Its name, as `compare` takes it.
        floor: Least share of each variant; None: the experiment's.
        control_floor: Least share of control; None: the experiment's.
        growth: An epoch ends when users have grown by this part; None: the experiment's.
        users: Users of each run.
    """

    policy: str
    floor: float | None
    control_floor: float | None
    growth: float | None
    users: int

    def asked(self, experiment: Experiment) -> Experiment:
        """Return the experiment under this set-up.

        Raises:
            InvalidInput: The policy is unknown, or a number does not fit the experiment.
        """
        found = under(experiment, self.policy, self.floor, self.control_floor)
        return found if self.growth is None else found.with_policy(growth=self.growth)

    @property
    def fixed(self) -> Setting:
        """The fixed split that it is measured against: as many users, and looks at the same moments."""
        return Setting(FIXED, None, None, self.growth, self.users)


def settings(
    policies: Sequence[str],
    floors: Sequence[float | None],
    control_floors: Sequence[float | None],
    growths: Sequence[float | None],
    horizons: Sequence[int],
) -> list[Setting]:
    """Return all combinations in order, each once: floors are nothing to a fixed split."""
    every = (
        Setting(policy, floor, control_floor, growth, users)
        for users, growth, policy, floor, control_floor in product(horizons, growths, policies, floors, control_floors)
    )
    return list(dict.fromkeys(each.fixed if each.policy == FIXED else each for each in every))
