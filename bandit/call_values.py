"""How many calls had which value, for display: the quantile that a limit is about, over calls instead of users.

A guardrail on a quantile tests users, each with the share of their calls above the limit, because calls of one user go
together. People know "the P95" over calls, so it is shown beside. Values are counted in buckets 2 % wide, as in other
sketches with a relative error (Masson, Rim, Lee, 2019, DDSketch): a few hundred counts hold any number of calls. They
belong to the arm's present generation. Nothing is decided by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from bandit.experiment import Experiment

WIDTH = 1.02
"""Upper end of a bucket over its lower end."""

_LOG_WIDTH = math.log(WIDTH)
_ZERO = 100_000  # codes of positive buckets lie above it, of negative ones below its negative; 0 is 0


class CallValues:
    """Counts of calls by metric, arm and bucket.

    Args:
        experiment: Those of its metrics are counted that have a limit on a quantile.

    Attributes:
        unwritten: (Metric, arm) whose counts changed, for a store to empty when it has written them.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.unwritten: set[tuple[str, int]] = set()
        self._counts: dict[str, list[dict[int, int]]] = {
            rail.metric: [{} for _ in range(experiment.n_arms)]
            for rail in experiment.guardrails
            if rail.quantile is not None
        }

    def __contains__(self, metric: str) -> bool:
        """Whether calls of a metric are counted."""
        return metric in self._counts

    def count(self, metric: str, arm: int, value: float, by: int = 1) -> None:
        """Count a call with this value, or with −1 take one back."""
        counts, bucket = self._counts[metric][arm], _bucket(value)
        counts[bucket] = counts.get(bucket, 0) + by
        self.unwritten.add((metric, arm))

    def clear(self, arm: int) -> None:
        """Begin anew: the arm is another generation."""
        for metric, of_arms in self._counts.items():
            of_arms[arm].clear()
            self.unwritten.add((metric, arm))

    def of(self, metric: str, arm: int) -> Mapping[int, int]:
        """Return how many calls of an arm are in each bucket."""
        return self._counts[metric][arm]

    def quantile(self, metric: str, arm: int, q: float) -> float | None:
        """Return the value that a share q of calls does not exceed, within 1 %; None without calls.

        Args:
            metric: One that is counted.
            arm: Index of the arm.
            q: In (0, 1).
        """
        counts = self._counts[metric][arm]
        wanted, seen = q * sum(counts.values()), 0
        for bucket, n in sorted(counts.items()):
            seen += n
            if n and seen >= wanted:
                return _value(bucket)
        return None

    @property
    def saved(self) -> list[tuple[str, int, int, int]]:
        """Metric, arm, bucket and number of calls of all that are not empty."""
        return [
            (metric, arm, bucket, n)
            for metric, of_arms in self._counts.items()
            for arm, counts in enumerate(of_arms)
            for bucket, n in counts.items()
            if n
        ]

    def restore(self, saved: Iterable[tuple[str, int, int, int]]) -> None:
        """Take over what was saved: all that the arms have that occur in it."""
        counts_of: dict[tuple[str, int], dict[int, int]] = {}
        for metric, arm, bucket, n in saved:
            counts_of.setdefault((metric, arm), {})[bucket] = n
        for (metric, arm), counts in counts_of.items():
            if metric in self._counts:
                self._counts[metric][arm] = counts


def quantiles(experiment: Experiment, values: CallValues) -> Mapping[tuple[int, int], float]:
    """Return the quantile over calls by guardrail, a row in file order, and arm; absent without calls."""
    found = {
        (row, arm): values.quantile(rail.metric, arm, rail.quantile)
        for row, rail in enumerate(experiment.guardrails)
        if rail.quantile is not None
        for arm in range(experiment.n_arms)
    }
    return {place: value for place, value in found.items() if value is not None}


def _bucket(value: float) -> int:
    if value == 0.0:
        return 0
    code = math.ceil(math.log(abs(value)) / _LOG_WIDTH) + _ZERO
    return code if value > 0.0 else -code


def _value(bucket: int) -> float:
    """Return the middle of a bucket."""
    if bucket == 0:
        return 0.0
    return math.copysign(math.exp((abs(bucket) - _ZERO) * _LOG_WIDTH) * 2.0 / (1.0 + WIDTH), bucket)
