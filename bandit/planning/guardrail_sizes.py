"""Users that each guardrail needs, from what is expected of it, with every assumption named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bandit.errors import InvalidInput
from bandit.experiment import Experiment, Guardrail
from bandit.inference.any_time import FEWEST_USERS
from bandit.inference.shares import decision_level, planned_pair_users, planned_users
from bandit.limits import Limit, LimitOf, limit_of, share_above
from bandit.planning import certificates
from bandit.planning.expectations import Expectations, Option, expected_of

ASSUMED_SHARE_OF_LIMIT = 0.5
"""Without an expectation, a rate is taken to be half of its limit (for a `min`: half as often wrong as allowed) …"""

ASSUMED_MEAN_OF_LIMIT = 0.8
"""… a mean 80 % of it, and what is relative to control equal to control."""

ASSUMED_BASE = 0.1
"""Without a base, 1 in 10 users of control has what must not increase, or control's mean is a tenth of the cap, and
of control's calls as many are above `at` as are above the quantile; less where the expected ratio leaves no room."""

ASSUMED_BASE_OF_DECREASE = 0.9
"""What must not decrease, 9 in 10 have."""


@dataclass(frozen=True, slots=True)
class Certification:
    """What certifies one guardrail in an arm.

    Attributes:
        metric: Its metric.
        kind: What the limit is about: a rate or mean, absolute or as a ratio to control.
        side: Where the arm has to be shown to be: `below` the limit or `above` it.
        limit: The limit that is certified, tolerance included: a rate, a mean, or a ratio to control.
        expected: Expected level in the same unit.
        base: Control's rate (of a quantile: share of calls above `at`) or mean, for ratios; None otherwise, or where it
            does not matter.
        sd: Standard deviation of a user's outcome, for means; None otherwise, or where it does not matter.
        users: Users of the arm with a value, on the expected path; None: it cannot be certified.
        approximate: Whether the size is an approximation.
        method: The evidence that certifies, in words.
        assumed: What was not given, in words; empty if everything was.
        reason: Why it cannot be certified; None if it can.
    """

    metric: str
    kind: LimitOf
    side: Literal["below", "above"]
    limit: float
    expected: float
    base: float | None
    sd: float | None
    users: int | None
    approximate: bool
    method: str
    assumed: tuple[str, ...]
    reason: str | None


def certifications(
    experiment: Experiment, shares: Sequence[float], expectations: Expectations | None = None
) -> tuple[Certification, ...]:
    """Return what certifies each guardrail, in file order.

    The e-value has to reach 1/b, b half of an arm's share of alpha; no further correction, since all guardrails and
    the goal have to agree before an arm is deployed.

    Args:
        experiment: Gives guardrails, alpha, number of arms and horizon.
        shares: Share of each arm, above 0; the treatment with the smallest one decides.
        expectations: What is expected; what is missing is assumed, and said to be.

    Raises:
        InvalidInput: An expectation names no guardrail, or is out of range; with every fault.
    """
    numbers, problems = expected_of(experiment, expectations or Expectations())
    if problems:
        raise InvalidInput(problems)
    smallest = min(share for arm, share in enumerate(shares) if arm != experiment.control)
    pair_share = smallest / (smallest + shares[experiment.control])
    return tuple(
        _Question(experiment, guardrail, known, pair_share).answer()
        for guardrail, known in zip(experiment.guardrails, numbers, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    expected: float
    users: int | None
    method: str
    base: float | None = None
    sd: float | None = None
    approximate: bool = True


class _Question:
    """One guardrail with the numbers that are known of it, and notes of those that are not."""

    __slots__ = ("assumed", "experiment", "guardrail", "level", "limit", "numbers", "pair_share")

    def __init__(
        self, experiment: Experiment, guardrail: Guardrail, numbers: Mapping[Option, float], pair_share: float
    ) -> None:
        self.experiment = experiment
        self.guardrail = guardrail
        self.numbers = numbers
        self.pair_share = pair_share
        self.level = decision_level(experiment)
        self.limit = limit_of(guardrail)
        self.assumed: list[str] = []

    def answer(self) -> Certification:
        ask = {"rate": self._rate, "mean": self._mean, "rate ratio": self._rate_ratio, "mean ratio": self._mean_ratio}
        found = ask[self.limit.of]()
        return Certification(
            metric=self.guardrail.metric,
            kind=self.limit.of,
            side="above" if self.limit.above else "below",
            limit=self.limit.certified,
            expected=found.expected,
            base=found.base,
            sd=found.sd,
            users=found.users,
            approximate=found.approximate,
            method=found.method,
            assumed=tuple(self.assumed),
            reason=None if found.users is not None else _reason(self.limit, found.expected),
        )

    def _number(self, option: Option, otherwise: float, words: str) -> float:
        """Return the number given, or what is taken instead, with a note of that."""
        if option in self.numbers:
            return self.numbers[option]
        self.assumed.append(f"{words} (--{option})")
        return otherwise

    def _rate(self) -> _Answer:
        declared = self.limit.declared
        if self.limit.above:
            otherwise = 1.0 - (1.0 - declared) * ASSUMED_SHARE_OF_LIMIT
            expected = self._number("expect", otherwise, "half as often short of it as min allows")
        else:
            expected = self._number("expect", declared * ASSUMED_SHARE_OF_LIMIT, "half of the limit")
        users = certificates.users_for_rate(expected, self.limit.certified, self.level, above=self.limit.above)
        return _Answer(expected, users, "mixture e-process for a rate", approximate=False)

    def _mean(self) -> _Answer:
        cap, declared = self.guardrail.cap, self.limit.declared
        expected = self._number("expect", declared * ASSUMED_MEAN_OF_LIMIT, "80 % of the limit")
        sd = self._number(
            "sd-of", max(expected, 1e-15), "spread between users (standard deviation) as large as the expected mean"
        )
        if cap is not None:
            tolerance = self.guardrail.tolerance
            users = certificates.users_for_bounded_mean(expected, sd, declared, cap, self.level, tolerance)
            return _Answer(expected, users, "betting e-process for a mean with a cap", sd=sd)
        planned = planned_users(self.experiment) / self.experiment.n_arms
        users = self._by_sequence(self.limit.certified - expected, sd**2, planned, 1.0)
        return _Answer(expected, users, "confidence sequence for a mean", sd=sd)

    def _rate_ratio(self) -> _Answer:
        ratio, quantile, at = self._ratio(), self.guardrail.quantile, self.guardrail.at
        otherwise, words = ASSUMED_BASE_OF_DECREASE if self.limit.above else ASSUMED_BASE, "control's rate {:.3g}"
        if quantile is not None:
            otherwise, words = share_above(quantile), f"control's share of calls above {at:g} is {{:.3g}}"
        base = self._base(ratio, otherwise, 1.0, words)
        return _Answer(ratio, self._by_ratio(ratio, base), "ratio e-process", base=base)

    def _mean_ratio(self) -> _Answer:
        cap, ratio = self.guardrail.cap, self._ratio()
        if cap is not None:
            base = self._base(ratio, ASSUMED_BASE, cap, "control's mean {:.3g} of the cap")
            sd = self._number("sd-of", base, "spread between users (standard deviation) as large as control's mean")
            users = self._by_ratio(ratio, base / cap, sd / cap)
            return _Answer(ratio, users, "e-process for a ratio of means with a cap", base=base, sd=sd)
        given = {"base", "sd-of"} & set(self.numbers)
        base = self._number("base", self.numbers.get("sd-of", 1.0), "control's mean as large as its standard deviation")
        sd = self.numbers.get("sd-of", base)
        if given == {"base"}:
            self.assumed.append("spread between users (standard deviation) as large as control's mean (--sd-of)")
        limit, odds = self.limit.certified, self.pair_share / (1.0 - self.pair_share)
        margin = (ratio - limit if self.limit.above else limit - ratio) * base
        variance = sd**2 * (1.0 + limit**2 * odds)  # per user of the arm
        users = self._by_sequence(margin, variance, planned_pair_users(self.experiment), 1.0 / self.pair_share)
        method = "confidence sequence for a ratio of means"
        return _Answer(ratio, users, method, *((base, sd) if given else ()))  # else only sd/base matters, and is 1

    def _ratio(self) -> float:
        return 1.0 + self._number("expect", 0.0, "no change against control")

    def _base(self, ratio: float, otherwise: float, most: float, words: str) -> float:
        """Return control's level; the one assumed leaves room for the expected ratio."""
        assumed = min(otherwise, 0.5 / ratio) if ratio > 1.0 else otherwise
        return self._number("base", assumed * most, words.format(assumed))

    def _by_ratio(self, ratio: float, base: float, sd: float | None = None) -> int | None:
        limit, above = self.limit.certified, self.limit.above
        users = certificates.users_for_ratio(ratio, limit, base, self.pair_share, self.level, above=above, sd=sd)
        if users is None or sd is None:
            return users
        return users + math.ceil(self.pair_share * self.experiment.policy.min_batch)  # the first epoch is not bet on

    def _by_sequence(self, margin: float, variance: float, planned: float, per_user: float) -> int | None:
        users = certificates.users_for_mean(margin, variance, self.level, planned, per_user)
        return None if users is None else max(users, FEWEST_USERS)


def _reason(limit: Limit, expected: float) -> str:
    """Say why it cannot be certified."""
    if expected <= limit.certified if limit.above else expected >= limit.certified:
        side = "below" if limit.above else "above"
        return f"expected at the limit or {side} it: a variant there can never be certified"
    return "expected so near the limit that the evidence does not grow"
