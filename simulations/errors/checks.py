"""What is promised of guardrails: a check is runs, a number that comes of them, and the bound that it has to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment, parse
from simulations.scores import Estimate

Numbers = Mapping[str, FloatArray]
"""By reading, one number per run: "" as the product reads, others under a word of their own."""

Kind = Literal["false suspension", "delay", "late change", "false certificate", "goal"]

WORDS: Mapping[Kind, str] = {
    "false suspension": "share of runs in which an arm at its limits is ever suspended",
    "delay": "median users of the arm until suspension, over ln(4/share)/kl(level, limit)",
    "late change": "median users from the change to suspension, over those of an e-process without restarts",
    "false certificate": "share of runs in which an arm at its limit is ever certified",
    "goal": "share of runs in which equal arms are ever told apart, over all generations",
}
"""What is measured, in words."""


@dataclass(frozen=True, slots=True)
class Check:
    """A promise about guardrails, and the runs that test it.

    Attributes:
        name: What it is called on the command line and in results.
        group: Heading in the table.
        kind: What is measured.
        bound: What that may be at most.
        users: Users simulated in a run.
        numbers: From runs and seeds to one number per run and reading: whether it happened, or the users until it did
            (infinity: not in this run; nan: the question did not arise).
        chunk: Runs at a time: bounds memory.
        target: What the median of a delay is divided by.
        quick: Whether it is among the few of a quick run.
    """

    name: str
    group: str
    kind: Kind
    bound: float
    users: int
    numbers: Callable[[int, np.random.SeedSequence], Numbers]
    chunk: int = 250
    target: float | None = None
    quick: bool = False

    def rows(self, numbers: Numbers) -> list[CheckRow]:
        """Return the rows of the table from the numbers of all runs, the product's first."""
        if self.kind == "late change":
            ours, plain = numbers[""], numbers["plain"]
            return [CheckRow(self, "", _ratio_of_medians(ours, plain), _median(ours).value, _median(plain).value)]
        if self.target is not None:
            median = _median(numbers[""])
            return [CheckRow(self, "", _over(median, self.target), median.value, self.target)]
        return [CheckRow(self, reading, Estimate.of(values)) for reading, values in numbers.items()]


@dataclass(frozen=True, slots=True)
class CheckRow:
    """What came of one check, read in one way.

    Attributes:
        check: Which.
        reading: "" as the product does, else what was done instead.
        number: What was measured.
        median_users: Median users of a delay; None where nothing is delayed.
        against: What it was divided by.
    """

    check: Check
    reading: str
    number: Estimate
    median_users: float | None = None
    against: float | None = None

    @property
    def name(self) -> str:
        """The check, with the reading if it is not the product's."""
        return f"{self.check.name}:{self.reading}" if self.reading else self.check.name

    @property
    def bound(self) -> float | None:
        """What the number may be at most; None if it is read as the product does not."""
        return None if self.reading else self.check.bound

    def missed(self, luck: float) -> bool:
        """Whether the number is above its bound by more than so many standard errors."""
        if self.bound is None or self.number.value is None:
            return False
        return self.number.value > self.bound + luck * (self.number.error or 0.0)

    def to_dict(self) -> dict[str, object]:
        """Return JSON values."""
        fields: dict[str, object] = {"group": self.check.group, "kind": self.check.kind, "users": self.check.users}
        fields |= self.number.fields("value")
        fields |= {"bound": self.bound}
        if self.median_users is not None:
            fields |= {"median_users": self.median_users, "against_users": self.against}
        return fields


def guarded(rails: Sequence[Mapping[str, object]], arms: int = 2, **policy: object) -> Experiment:
    """Return an experiment with a binary goal and these guardrails; an equal split, unless said.

    Args:
        rails: Tables of the guardrails.
        arms: How many.
        policy: Settings of the policy.
    """
    return parse(
        {
            "key": "error-rates",
            "salt": "error-rates",
            "variants": [{"key": f"v{arm}", "control": arm == 0} for arm in range(arms)],
            "goal": {"metric": "success", "kind": "binary"},
            "guardrails": [dict(rail) for rail in rails],
            "policy": {"kind": "fixed", **policy},
        }
    )


def _median(users: FloatArray) -> Estimate:
    """Return the median and its standard error, from the order statistics one standard error to either side.

    None where half of the runs, or nearly, have no end.
    """
    ordered = np.sort(users[~np.isnan(users)])
    if not len(ordered):
        return Estimate(None, None)
    half = 0.5 / np.sqrt(len(ordered))
    low, middle, high = (float(np.quantile(ordered, q, method="nearest")) for q in (0.5 - half, 0.5, 0.5 + half))
    return Estimate(middle, (high - low) / 2.0) if np.isfinite(high) else Estimate(None, None)


def _over(number: Estimate, by: float) -> Estimate:
    if number.value is None or number.error is None:
        return number
    return Estimate(number.value / by, number.error / by)


def _ratio_of_medians(ours: FloatArray, plain: FloatArray) -> Estimate:
    """Return the ratio, with the error as if the two were independent: they are not, so it is less."""
    one, other = _median(ours), _median(plain)
    if not one.value or not other.value or one.error is None or other.error is None:
        return Estimate(None, None)
    ratio = one.value / other.value
    return Estimate(ratio, ratio * float(np.hypot(one.error / one.value, other.error / other.value)))
