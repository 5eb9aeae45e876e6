"""Which arm a user gets: a deterministic function of (salt, user, allocation).

The unit interval is cut at the cumulative probabilities of the arms; a user is the point that a hash
names. Another language reproduces it with SHA-256 alone; `tests/bandit/assignment_vectors.json` has
test vectors.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

_TWO_TO_MINUS_53 = 2.0**-53


def length_prefixed(*parts: str) -> bytes:
    """Join texts so that no two different lists give the same bytes.

    Each part is its UTF-8 length as four big-endian bytes, then its UTF-8 bytes: ("a", "bc") and
    ("ab", "c") differ.
    """
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


class UnitHash:
    """A hash of users onto [0, 1), fixed by a purpose and a salt.

    u(user) = (first 8 bytes of SHA-256(purpose, salt, user), big-endian, without its last 11 bits) x 2**-53,
    the three parts length-prefixed. 53 bits are what a double holds exactly, so u < 1 always.

    Args:
        purpose: "arm" draws an arm, "enrol" decides on enrolment: independent of each other.
        salt: The experiment's salt.
    """

    __slots__ = ("_prefix",)

    def __init__(self, purpose: str, salt: str) -> None:
        self._prefix = hashlib.sha256(length_prefixed(purpose, salt))

    def __call__(self, user_id: str) -> float:
        """Return the user's point in [0, 1), a multiple of 2**-53."""
        digest = self._prefix.copy()  # hashing the constant part once halves the cost of a draw
        encoded = user_id.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
        return (int.from_bytes(digest.digest()[:8], "big") >> 11) * _TWO_TO_MINUS_53


def thresholds(probabilities: Sequence[float]) -> tuple[float, ...]:
    """Return the upper end of each arm's interval on [0, 1).

    From the last arm with a positive probability on the end is exactly 1, so that rounding of the sum
    can neither leave a gap nor give a user to an arm with probability 0.

    Args:
        probabilities: Non-negative, sum 1 up to rounding, at least one positive.
    """
    ends = list(accumulate(probabilities))
    last = max(arm for arm, p in enumerate(probabilities) if p > 0)
    return tuple(ends[:last] + [1.0] * (len(ends) - last))


def arm_at(u: float, ends: Sequence[float]) -> int:
    """Return the first arm whose interval ends above u: arm k owns [ends[k-1], ends[k]).

    Args:
        u: A point in [0, 1).
        ends: Upper ends from `thresholds`.
    """
    return bisect_right(ends, u)
