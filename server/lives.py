"""The experiments that the writer holds in memory, loaded from the store when they are not as it has them."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator

from server.errors import Unreadable
from server.live import Live
from server.store import Store

log = logging.getLogger("bandit.server")


class Lives:
    """Every experiment by its key; used by the writer thread alone.

    Args:
        store: Where they are.
        time: Seconds since 1970.
        monotonic: Seconds of a clock that nobody sets.

    Attributes:
        used: Those of the current transaction, known to be as stored.
        unreadable: Versions of those whose rows cannot be loaded; the others are served all the same.
    """

    def __init__(self, store: Store, time: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.used: dict[str, Live] = {}
        self.unreadable: dict[str, int] = {}
        self._store = store
        self._time = time
        self._monotonic = monotonic
        self._all: dict[str, Live] = {}

    def __iter__(self) -> Iterator[tuple[str, Live]]:
        """Iterate over keys and experiments."""
        return iter(list(self._all.items()))

    def get(self, key: str) -> Live | None:
        """Return an experiment as it is in this transaction, loading it if another process changed it.

        Raises:
            Unreadable: Its rows cannot be loaded.
        """
        live = self.used.get(key)
        if live is not None:
            return live
        version = self._store.version(key)
        if version is None:
            return None
        live = self._all.get(key)
        if live is None or live.version != version:
            live = self._refresh(key, version)
            if live is None:
                raise Unreadable(key)
        self.used[key] = live
        return live

    def unchanged(self, key: str) -> Live | None:
        """Return an experiment if it is as stored; to be called inside a transaction, which need not be a write one."""
        live = self._all.get(key)
        return live if live is not None and live.version == self._store.version(key) else None

    def changed(self) -> list[Live]:
        """Load those that are not as stored and return them; what could not be loaded is tried again."""
        self.unreadable.clear()
        stored = self._store.versions()
        old = [key for key, version in stored.items() if key not in self._all or self._all[key].version != version]
        return [live for key in old if (live := self._refresh(key, stored[key])) is not None]

    def drop(self) -> None:
        """Let go of what this transaction used: the engine is ahead of the store."""
        for key in self.used:
            self._all.pop(key, None)

    def _refresh(self, key: str, version: int) -> Live | None:
        """Bring an experiment up to date: by what was counted elsewhere, or where more has changed, as a whole."""
        live = self._all.get(key)
        news = None if live is None else self._store.news(live.id, live.version, live.bandit.closed_epochs)
        if live is None or news is None:
            return self._load(key, version)
        live.catch_up(news)
        return live

    def _load(self, key: str, version: int) -> Live | None:
        """Load an experiment; None if its rows are bad, which must not keep the others from being served."""
        if self.unreadable.get(key) == version:
            return None
        try:
            stored = self._store.load(key)
            live = None if stored is None else Live(stored, self._store, self._time, self._monotonic)
        except sqlite3.OperationalError:  # the store as a whole
            raise
        except Exception:
            log.exception("experiment '%s' cannot be loaded; the others are served", key)
            self._all.pop(key, None)
            live = None
        if live is None:
            self.unreadable[key] = version
        else:
            self._all[key] = live
        return live
