"""Ids that the server makes."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """Return a UUID of version 7: ids made one after another sort so, and rows of them lie side by side."""
    at = f"{time.time_ns() // 1_000_000:012x}"
    random = os.urandom(10).hex()
    variant = "89ab"[int(random[3], 16) & 3]
    return f"{at[:8]}-{at[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"
