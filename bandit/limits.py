"""What the limit of a guardrail is about: a rate or a mean, absolute or relative to control."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from bandit.experiment import Guardrail

LimitOf = Literal["rate", "mean", "rate ratio", "mean ratio"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as a number.

    Attributes:
        of: What is limited. A quantile limits a rate, the share of calls above a value, or the ratio of two such rates.
        above: Whether an arm has to be above it; else below.
        declared: The limit: a rate, a mean, or a ratio to control. An arm beyond it breaches.
        certified: The same with the tolerance: an arm on the right side of it is certified.
    """

    of: LimitOf
    above: bool
    declared: float
    certified: float

    @property
    def is_relative(self) -> bool:
        """Whether it is a ratio to control."""
        return self.of in {"rate ratio", "mean ratio"}


def limit_of(guardrail: Guardrail) -> Limit:
    """Return the limit of a guardrail."""
    above = guardrail.limit_kind in {"min", "max_decrease"}
    declared = _declared(guardrail)
    factor = 1.0 - guardrail.tolerance if above else 1.0 + guardrail.tolerance
    return Limit(_of(guardrail), above, declared, declared * factor)


def _of(guardrail: Guardrail) -> LimitOf:
    if guardrail.kind == "binary" or guardrail.quantile is not None:
        return "rate ratio" if guardrail.is_relative else "rate"
    return "mean ratio" if guardrail.is_relative else "mean"


def _declared(guardrail: Guardrail) -> float:
    match guardrail.limit_kind:
        case "max_increase":
            return 1.0 + (guardrail.max_increase or 0.0)
        case "max_decrease":
            return 1.0 - (guardrail.max_decrease or 0.0)
        case "min":
            return guardrail.min or 0.0
        case "max":
            return (guardrail.max or 0.0) if guardrail.quantile is None else share_above(guardrail.quantile)


def share_above(quantile: float) -> float:
    """Return the share of calls above the quantile of a level in (0, 1), above 0: 0.05 above 0.95."""
    return float(1 - Decimal(str(quantile)))  # the difference of the floats would be 0.050000000000000044


def limit_in_words(guardrail: Guardrail) -> str:
    """Return what a guardrail demands, as a phrase."""
    if guardrail.at is not None:
        increase = 100.0 * (guardrail.max_increase or 0.0)
        return f"calls above {guardrail.at:g} at most {increase:.3g} % more often than control"
    if guardrail.quantile is not None:
        return f"at most {100.0 * share_above(guardrail.quantile):.3g} % of calls above {guardrail.max:g}"
    unit, scale = (" %", 100.0) if guardrail.kind == "binary" else ("", 1.0)
    match guardrail.limit_kind:
        case "max_increase":
            return f"at most {100.0 * (guardrail.max_increase or 0.0):.3g} % above control"
        case "max_decrease":
            return f"at most {100.0 * (guardrail.max_decrease or 0.0):.3g} % below control"
        case "min":
            return f"at least {scale * (guardrail.min or 0.0):.4g}{unit}"
        case "max":
            return f"at most {scale * (guardrail.max or 0.0):.4g}{unit}"
