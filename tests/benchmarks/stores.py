"""Stores with many users: assigned by the engine and written by the store itself, without HTTP."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from bandit import Bandit, Experiment, parse
from server.live import Live
from server.operations import SERVER
from server.schema import connect_read_only
from server.store import Store

KEY = "benchmark"

STRIDE = 1_640_531_527
"""Odd, so that multiples of it modulo 2^32 visit every number; Lua's doubles hold them exactly up to `MOST_USERS`."""

MOST_USERS = 5_000_000

_CHUNK = 50_000
"""Users in one transaction."""


def experiment() -> Experiment:
    """Return four variants with a config each, a binary goal and a limit on the latency."""
    variants = [
        {
            "key": key,
            "control": key == "A",
            "config": {"model": "small-instruct", "prompt": f"v{number}", "temperature": 0.7},
        }
        for number, key in enumerate("ABCD", 1)
    ]
    return parse(
        {
            "key": KEY,
            "salt": "benchmark",
            "variants": variants,
            "goal": {"metric": "resolved", "kind": "binary"},
            "guardrails": [{"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}],
            "rewards": {"window": "24h"},  # nobody's ends while the benchmark runs
        }
    )


def user_id(number: int) -> str:
    """Return the id of a known user; neighbours in number lie far apart in the store."""
    return f"{number * STRIDE % 2**32:08x}"


def fill(path: Path, users: int) -> None:
    """Make a store with a running experiment and this many assigned users who have no rewards yet."""
    with closing(Store(path)) as store:
        store.db.execute("PRAGMA synchronous = OFF")
        store.db.execute("PRAGMA cache_size = -1000000")
        asked = experiment()
        store.begin()
        store.create(asked, Bandit(asked, time.time, running=False).saved_state, time.time())
        stored = store.load(KEY)
        assert stored is not None
        live = Live(stored, store, time.time, time.monotonic)
        live.start(actor=SERVER)
        _write(store, live)
        for start in range(0, users, _CHUNK):
            store.begin()
            for number in range(start, min(start + _CHUNK, users)):
                live.choose(user_id(number))
            _write(store, live)


def _write(store: Store, live: Live) -> None:
    changes = live.changes()
    assert changes is not None
    store.write(live.id, live.version + 1, changes)
    store.commit()
    live.written()
    live.forget()


def counted(path: Path, kind: str) -> int:
    """Return how many requests of a kind the store has taken so far; 0 of kinds that store nothing."""
    sql = {
        "new": "SELECT sum(assigned) FROM cells",
        "reward": "SELECT count(*) FROM rewards",
        "random_reward": "SELECT count(*) FROM rewards",
    }
    if kind not in sql:
        return 0
    with closing(connect_read_only(path)) as db:
        return int(db.execute(sql[kind]).fetchone()[0])
