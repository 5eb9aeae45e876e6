"""One outcome per user and measure, moved as further calls arrive.

Most users have one call, so the state of a single call is that bare number; from the second on it is
(calls, total, first).
"""

from __future__ import annotations

from bandit.measures import Measure

Outcome = float | tuple[int, float, float]
"""What is kept of a user's calls on a measure: the only call's value, or (calls, total, first value)."""


def with_call(outcome: Outcome | None, value: float) -> Outcome:
    """Return the state after one more call."""
    if outcome is None:
        return value
    calls, total, first = parts(outcome)
    return calls + 1, total + value, first


def with_replacement(outcome: Outcome, old: float, new: float, *, is_first: bool) -> Outcome:
    """Return the state after the value of one earlier call was corrected from old to new."""
    calls, total, first = parts(outcome)
    if calls == 1:
        return new
    return calls, total - old + new, new if is_first else first


def outcome_value(measure: Measure, outcome: Outcome) -> float:
    """Return the user's outcome y on the measure, cut at its cap."""
    calls, total, first = (1, outcome, outcome) if outcome.__class__ is float else outcome  # type: ignore[misc]  # a tuple
    per_user = measure.per_user
    if per_user == "mean":
        y = total / calls
    elif per_user == "any":
        y = 1.0 if total > 0 else 0.0
    else:
        y = first if per_user == "first" else total
    return y if measure.cap is None else min(y, measure.cap)


def parts(outcome: Outcome) -> tuple[int, float, float]:
    """Return (calls, total, first value)."""
    return (1, outcome, outcome) if isinstance(outcome, float) else outcome
