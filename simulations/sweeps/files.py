"""A sweep's file: a row a line, so that a sweep that was ended goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simulations.files import read_bytes, refuse
from simulations.sweeps.run import Task


def done_before(path: Path, work: Sequence[Task]) -> list[dict[str, Any]]:
    """Return the rows of a sweep that an earlier run of it has written; a half-written last line is cut off.

    Raises:
        InvalidInput: The file cannot be read, or has other rows than this sweep begins with.
    """
    if not path.exists():
        return []
    content = read_bytes(path)
    whole = content[: content.rfind(b"\n") + 1]
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found = json.loads(line)
        except ValueError:
            refuse(path, f"line {number} is no row of a sweep; name another file")
        expected = work[number - 1].identity if number <= len(work) else None
        if not isinstance(found, dict) or {key: found.get(key) for key in expected or {}} != expected:
            refuse(path, f"line {number} is of another sweep, version or seed; name another file")
        rows.append(found)
    if len(whole) < len(content):
        try:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        except OSError as error:
            refuse(path, f"cannot be written: {error.strerror or error}")
    return rows


def append(path: Path, row: dict[str, Any]) -> None:
    """Write one more row.

    Raises:
        InvalidInput: The file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        refuse(path, f"cannot be written: {error.strerror or error}")


def check_parquet(path: Path | None) -> None:
    """Refuse a Parquet file before the work is done if it could not be written after it.

    Raises:
        InvalidInput: `pyarrow` is not there.
    """
    if path is not None and find_spec("pyarrow") is None:
        refuse(path, "Parquet needs pyarrow: pip install 'adaptive-bandit[parquet]'")


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write all rows as a Parquet file; columns that have no number anywhere are null.

    Raises:
        InvalidInput: `pyarrow` is not there, or the file cannot be written.
    """
    check_parquet(path)
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415

    try:
        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    except OSError as error:
        refuse(path, f"cannot be written: {error.strerror or error}")
