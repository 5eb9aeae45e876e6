"""The smallest number of users that reaches something."""

from __future__ import annotations

from collections.abc import Callable

MOST_USERS = 10**12
"""Sizes beyond are no plan."""


def smallest(reached: Callable[[int], bool]) -> int | None:
    """Return the smallest whole number from 1 that reaches, None above `MOST_USERS`.

    Args:
        reached: What is reached stays reached. Log e-values on an expected path are so: they grow from 0, or fall once
            and then rise.
    """
    high = 1
    while not reached(high):
        high *= 2
        if high > MOST_USERS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
