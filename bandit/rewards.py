"""What a reward says, checked before anything is touched, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bandit.errors import InvalidReward, Problem
from bandit.experiment import Experiment
from bandit.experiment_parts import LARGEST_VALUE
from bandit.measures import FAILED, metric_bounds, metric_kinds


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of each metric of a reward.

    Attributes:
        accepted: Stored and counted.
        duplicate: The same request id, metric, user and value came before; nothing changed.
        late: After the user's window; stored, not learned.
        ignored: Stored, counted for nobody, with the reason; a retry cannot change it.
    """

    accepted: tuple[str, ...] = ()
    duplicate: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)


_MOST_RECEIPTS = 256


class Receipts:
    """Makes receipts; the usual one, with every metric accepted, once."""

    def __init__(self) -> None:
        self._all_accepted: dict[tuple[str, ...], Receipt] = {}

    def accepted(self, metrics: Iterable[str]) -> Receipt:
        """Return the receipt of metrics that all counted."""
        names = tuple(metrics)
        receipt = self._all_accepted.get(names)
        if receipt is None:
            receipt = Receipt(accepted=names)
            if len(self._all_accepted) < _MOST_RECEIPTS:  # ten metrics have millions of orders
                self._all_accepted[names] = receipt
        return receipt

    def of(self, became: Mapping[str, str]) -> Receipt:
        """Return the receipt, given what became of each metric: "" if it counted, else the reason."""
        if not any(became.values()):
            return self.accepted(became)

        def those(what: str) -> tuple[str, ...]:
            return tuple(name for name, result in became.items() if result == what)

        ignored = {name: result for name, result in became.items() if result not in ("", "duplicate", "late")}
        return Receipt(those(""), those("duplicate"), those("late"), ignored)


RETURNED = "returned"
"""Why a value counts for guardrails alone: its user came back in a later window."""


class Recorded(NamedTuple):
    """One stored value, under its key (request id, metric).

    Attributes:
        user_id: Whose it is.
        value: The value as received.
        reason: Why it was credited to nobody ("late", "other_variant", …), or to guardrails alone ("returned");
            None: it was credited.
        firsts: Bit i is set if it was the user's first call on measure i.
        revision: How often the value was replaced before.
    """

    user_id: str
    value: float
    reason: str | None
    firsts: int = 0
    revision: int = 0


_NUMBERS = frozenset((bool, int, float))
_UNKNOWN = (1.0, 0.0)  # bounds that nothing fits


class MetricRules:
    """The values that an experiment's metrics may have.

    Args:
        experiment: Declares goal and guardrails.
        counts_failures: Whether "did not fail" is a value that counts somewhere.
    """

    def __init__(self, experiment: Experiment, *, counts_failures: bool = False) -> None:
        self._goal = experiment.goal.metric
        self._counts_failures = counts_failures
        self._bounds: dict[str, tuple[float, float] | None] = {}  # None: binary
        for metric, kind in metric_kinds(experiment).items():
            low, high = metric_bounds(experiment, metric)
            self._bounds[metric] = None if kind == "binary" else (max(low, -LARGEST_VALUE), min(high, LARGEST_VALUE))

    @property
    def names(self) -> tuple[str, ...]:
        """Metrics that a reward may name."""
        return tuple(self._bounds)

    def calls(self, metrics: Mapping[str, object] | float, failed: bool | None) -> dict[str, float]:
        """Return the values of a reward by metric; a report on failure is a value of "failed".

        Args:
            metrics: Value per metric; a bare number is the goal's.
            failed: Whether the call failed, or None.

        Raises:
            InvalidReward: With every fault, or if there is nothing in it.
        """
        kind = metrics.__class__
        if kind is not dict and (kind in _NUMBERS or not isinstance(metrics, Mapping)):  # `isinstance` takes its time
            metrics = {self._goal: metrics}
        values = self.check(metrics)  # type: ignore[arg-type]  # a mapping, as seen above
        if failed is not None:
            if failed not in (True, False):
                raise InvalidReward([Problem("failed", f"received {failed!r}, allowed: True, False or None")])
            if failed or self._counts_failures:
                values[FAILED] = float(failed)
        if not values:
            raise InvalidReward([Problem("metrics", "received none, allowed: at least one, or `failed`")])
        return values

    def check(self, metrics: Mapping[str, object]) -> dict[str, float]:
        """Return the values as floats.

        Raises:
            InvalidReward: A metric is unknown or its value is not allowed; every fault is named.
        """
        values: dict[str, float] = {}
        problems: list[Problem] | None = None
        bounds_of = self._bounds
        for name, value in metrics.items():
            bounds, kind = bounds_of.get(name, _UNKNOWN), value.__class__
            if kind not in _NUMBERS and isinstance(value, np.generic):
                value = value.item()  # noqa: PLW2901 (a number of an array is as good as Python's)
                kind = value.__class__
            # True == 1 == 1.0 for a binary metric; no other type of JSON's is a number.
            if bounds is None:
                good = kind in _NUMBERS and (value == 0 or value == 1)  # noqa: PLR1714 - a look into a tuple takes longer
            else:
                good = (kind is float or kind is int) and bounds[0] <= value <= bounds[1]  # type: ignore[operator]
            if good:
                values[name] = float(value)  # type: ignore[arg-type]  # a number, as seen above
            else:
                problems = [*(problems or ()), Problem(f"metrics.{name}", self._fault(name, value))]
        if problems is not None:
            raise InvalidReward(problems)
        return values

    def _fault(self, name: str, value: object) -> str:
        if name not in self._bounds:
            hint = f"; send the field `{FAILED}` instead" if name == FAILED else ""
            return f"unknown metric, allowed: {', '.join(sorted(self._bounds))}{hint}"
        bounds = self._bounds[name]
        if bounds is None:
            return f"received {_shown(value)}, allowed: 0, 1, true or false"
        return f"received {_shown(value)}, allowed: a number from {bounds[0]:g} to {bounds[1]:g}"


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge integer"
    return text if len(text) <= 60 else text[:57] + "..."
