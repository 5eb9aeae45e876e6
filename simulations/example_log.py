"""A log to try `bandit-sim analyze` on: what an A/B test of the example experiment would have left behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

N_USERS = 6_000
DAYS = 14.0

_RESOLVED = {"A": 0.30, "B": 0.36}
_LATENCY = {"A": 900.0, "B": 1_000.0}  # means, ms
_COST = {"A": 0.020, "B": 0.021}  # means, dollars
_START = datetime(2026, 3, 2, 8, tzinfo=UTC)


def example_log() -> Iterator[str]:
    """Yield the lines of a CSV: a row per user of a split in halves, over two weeks, the same in every call."""
    rng = Random(1)  # noqa: S311 (an example, no secret)
    yield "time,user_id,variant,resolved,latency_ms,safety_flag,cost_usd"
    for user in range(N_USERS):
        time = _START + timedelta(days=DAYS * user / N_USERS)
        variant = rng.choice("AB")
        resolved = int(rng.random() < _RESOLVED[variant])
        latency = rng.gammavariate(16.0, _LATENCY[variant] / 16.0)
        flagged = int(rng.random() < 0.003)
        cost = rng.gammavariate(9.0, _COST[variant] / 9.0)
        when = time.isoformat(timespec="seconds").replace("+00:00", "Z")
        yield f"{when},u{user + 1},{variant},{resolved},{latency:.0f},{flagged},{cost:.4f}"
