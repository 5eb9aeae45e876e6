"""A copy of a store that is being written to.

`VACUUM INTO` writes a compact copy as of one moment and lets the server go on; SQLite's online backup begins anew
with each commit of somebody else, so under load it never ends.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bandit import BanditError
from server.schema import open_stored


class BackupFailed(BanditError):
    """No copy of the store was made."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied.

    Attributes:
        experiments: How many.
        users: Assigned ones.
        rewards: Stored calls of `/reward`.
        size: Bytes of the copy.
    """

    experiments: int
    users: int
    rewards: int
    size: int


def backup(store: Path, target: Path) -> Copied:
    """Copy a store as it is at one moment, of this version or an older one.

    The copy gets its name when it is complete, checked by SQLite and on the disk.

    Args:
        store: The file.
        target: The copy; must not exist.

    Raises:
        StoreProblem: `store` is no store.
        BackupFailed: The target exists, cannot be written, or the copy is damaged; there is no copy then.
    """
    if target.exists():
        raise BackupFailed(f"'{target}' exists; give the copy a name that is free")
    with closing(open_stored(store, older=True)) as db:
        try:
            with TemporaryDirectory(prefix=".bandit-backup-", dir=target.parent) as folder:
                part = Path(folder) / "copy.db"
                db.execute("VACUUM INTO ?", (str(part),))
                copied = _checked(part)
                _make_durable(part)
                if target.exists():
                    raise BackupFailed(f"'{target}' came to exist meanwhile; nothing was copied")
                part.rename(target)
                _make_durable(target.parent)
                return copied
        except (OSError, sqlite3.Error) as error:
            raise BackupFailed(f"cannot copy '{store}' to '{target}': {error}") from error


def _checked(path: Path) -> Copied:
    with closing(sqlite3.connect(path)) as db:
        damages = [text for (text,) in db.execute("PRAGMA integrity_check") if text != "ok"]
        if damages:
            raise BackupFailed(f"the copy is damaged, so it was not kept: {'; '.join(damages[:3])}")
        experiments, users, rewards = db.execute(
            "SELECT (SELECT count(*) FROM experiments), (SELECT count(*) FROM assignments),"
            " (SELECT count(*) FROM rewards)"
        ).fetchone()
    return Copied(experiments, users, rewards, path.stat().st_size)


def _make_durable(path: Path) -> None:
    """Wait until the disk has a file, or a folder's names: SQLite does not do so for a copy."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
