"""Memory of a user who is answered from memory: `python -m tests.benchmarks.memory`."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bandit import Bandit
from server.ids import new_id
from server.live import Live
from server.operations import SERVER
from server.store import Store
from server.views import GENERATION, View
from tests.benchmarks.stores import experiment

USERS = 2 * GENERATION
"""As many as an experiment remembers at most."""


def resident() -> int:
    """Return the bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Let a view remember users, as the service does, and print what they take each."""
    with TemporaryDirectory() as folder, closing(Store(Path(folder) / "x.db")) as store:
        asked = experiment()
        store.begin()
        store.create(asked, Bandit(asked, time.time, running=False).saved_state, time.time())
        stored = store.load(asked.key)
        assert stored is not None
        live = Live(stored, store, time.time, time.monotonic)
        live.start(actor=SERVER)
        view, answers = View(live), [live.choose(f"u{i}") for i in range(100)]
        before = resident()
        for i in range(USERS):
            view.remember(new_id(), answers[i % len(answers)], live.bandit)
        each = (resident() - before) / USERS
        print(f"{USERS:,} users with ids of 36 characters: {each:.0f} bytes each")  # noqa: T201 - what it says


if __name__ == "__main__":
    main()
