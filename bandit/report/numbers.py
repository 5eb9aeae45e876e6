"""Numbers of a report: as JSON can hold them, and as people read them."""

from __future__ import annotations

import math

NOTHING = "–"


def number(x: float) -> float | None:
    """Return a number that JSON can hold, or None."""
    return float(x) if math.isfinite(x) else None


def ends(low: float, high: float) -> tuple[float, float] | None:
    """Return an interval, or None where an end is not finite."""
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def e_value(log: float) -> float:
    """Return exp(log), kept where a float has a number for it."""
    return math.exp(min(float(log), 690.0))


def percent(share: float, digits: int = 3) -> str:
    """Return a share as per cent with so many significant digits."""
    return f"{100.0 * share:.{digits}g} %"


def level(value: float | None, *, is_share: bool) -> str:
    """Return a mean outcome for people: a share as per cent, anything else in four digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return percent(value) if is_share else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def about(count: float) -> str:
    """Return a count in two significant digits."""
    if count < 100:
        return f"{math.ceil(count)}"
    digits = 10.0 ** (math.floor(math.log10(count)) - 1)
    return f"{math.ceil(count / digits) * digits:,.0f}"


def days(length: float) -> str:
    """Return a time in days, or in hours below two of them."""
    if length < 1.0 / 24.0:
        return "less than an hour"
    if length < 2.0:
        hours = math.ceil(24.0 * length - 1e-9)
        return "1 hour" if hours == 1 else f"{hours} hours"
    return f"{math.ceil(length):,} days"
