"""Ids that the server makes."""

from __future__ import annotations

import os
import time

_RANDOM = 10
"""Random bytes in an id."""

_MANY = 400
"""Ids for which random bytes are asked of the system at a time: a call to it takes longer than all the rest."""

_pool: list[bytes] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)


def new_id() -> str:
    """Return a UUID of version 7: ids made one after another sort so, and rows of them lie side by side."""
    if not _pool:
        many = os.urandom(_RANDOM * _MANY)
        _pool.extend(many[place : place + _RANDOM] for place in range(0, len(many), _RANDOM))
    at, random = f"{time.time_ns() // 1_000_000:012x}", _pool.pop().hex()
    return f"{at[:8]}-{at[8:]}-7{random[:3]}-{'89ab'[int(random[3], 16) & 3]}{random[4:7]}-{random[7:19]}"
