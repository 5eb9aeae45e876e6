"""Durations as people write them: `90s`, `15m`, `1.5h`, `7d`."""

from __future__ import annotations

import re

from bandit.wording import received

LONGEST_SECONDS = 366 * 86_400.0
"""A year; anything longer is a slip of the pen."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_FORMS = 'a duration as text, such as "90s", "15m", "1.5h" or "7d"'


def seconds(duration: object) -> float:
    """The length of a duration in seconds, above 0 and at most 366 days.

    Args:
        duration: A decimal number and one of the units s, m, h, d, without a space. Values that
            are not text are refused: a bare 3600 leaves the unit to guesswork.

    Raises:
        ValueError: It is no such text, or outside (0, 366d].

    Example:
        >>> seconds("1.5h")
        5400.0
    """
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None:
        msg = f"received {received(duration)}, allowed: {_FORMS}"
        raise ValueError(msg)
    length = float(match[1]) * _SECONDS[match[2]]
    if not 0.0 < length <= LONGEST_SECONDS:
        msg = f"received {received(duration)}, allowed: more than 0s and at most 366d"
        raise ValueError(msg)
    return length
