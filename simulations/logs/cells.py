"""Cells of a log to numbers: texts of a CSV, values of JSON.

The tables remember what they have read, so a column of few different values costs one look-up per cell.
Nothing is guessed: what cannot be read is `WRONG`, never empty.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from bandit.errors import InvalidId
from bandit.experiment_parts import LARGEST_VALUE
from bandit.wording import received

EMPTY = math.nan
"""Number of an empty cell."""

WRONG = math.inf
"""Number of a cell that is none; no number of a log is infinite."""

NOBODY = -1
"""Code of a cell that is no name; see `Codes.faults`."""

NO_NAME = -2
"""Code of an empty cell."""

_MOST_KEPT = 100_000
_WORDS = {"true": 1.0, "false": 0.0}
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_FIRST_MILLISECONDS = 1e11  # as seconds the year 5138, as milliseconds 1973
_LAST_MILLISECONDS = 1e14

_Value = TypeVar("_Value", float, int)


def values(table: Mapping[object, _Value], cells: Iterable[object]) -> list[_Value]:
    """Return the table's value of each cell; one that is itself a list or object is read as its text."""
    cells = list(cells)
    try:
        return [table[cell] for cell in cells]
    except TypeError:  # not hashable
        return [table[received(cell) if isinstance(cell, (list, dict)) else cell] for cell in cells]


class Numbers(dict[object, float]):
    """Number of a cell: `EMPTY` for an empty one, 1 and 0 for true and false, `WRONG` for anything else.

    Args:
        typed: Whether cells are JSON values: text is then no number.
    """

    def __init__(self, *, typed: bool) -> None:
        super().__init__()
        self._typed = typed

    def __missing__(self, cell: object) -> float:
        """Read a cell that did not come before."""
        value = self._read(cell)
        if len(self) < _MOST_KEPT:
            self[cell] = value
        return value

    def _read(self, cell: object) -> float:
        if cell is None or cell == "":
            return EMPTY
        if isinstance(cell, (bool, int, float)):
            return float(cell) if abs(cell) <= LARGEST_VALUE else WRONG
        text = str(cell).strip()
        if self._typed:
            return WRONG
        if not text:
            return EMPTY
        if _NUMBER.fullmatch(text):
            value = float(text)
            return value if abs(value) <= LARGEST_VALUE else WRONG
        return _WORDS.get(text.lower(), WRONG)


class Times(dict[object, float]):
    """Seconds since 1970 of a cell: ISO 8601, without a zone in UTC, or a number of seconds or milliseconds.

    Numbers are all of one unit, that of the first; from 1e11 on they are milliseconds.
    """

    ALLOWED = "a time of ISO 8601, such as 2026-01-31T12:00:00Z, or seconds or milliseconds since 1970, all of one unit"

    def __init__(self) -> None:
        super().__init__()
        self._in_milliseconds: bool | None = None

    def __missing__(self, cell: object) -> float:
        """Read a cell that did not come before."""
        value = self._read(cell)
        if len(self) < _MOST_KEPT:
            self[cell] = value
        return value

    def _read(self, cell: object) -> float:
        if cell is None or cell == "":
            return EMPTY
        if isinstance(cell, bool) or not isinstance(cell, (str, int, float)):
            return WRONG
        if not isinstance(cell, str):
            return self._since_1970(cell)
        text = cell.strip()
        if _NUMBER.fullmatch(text):
            return self._since_1970(float(text))
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return WRONG
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()

    def _since_1970(self, number: float) -> float:
        if not 0.0 <= number < _LAST_MILLISECONDS:
            return WRONG
        in_milliseconds = number >= _FIRST_MILLISECONDS
        if self._in_milliseconds is None:
            self._in_milliseconds = in_milliseconds
        if in_milliseconds != self._in_milliseconds:
            return WRONG
        return number / 1000.0 if in_milliseconds else number


class Codes(dict[object, int]):
    """Number of a name, from 0 in the order in which names come first.

    Whole numbers of JSON are names too.

    Args:
        check: Returns the name or raises `InvalidId`.
        known: The names allowed, with these codes; None: all.

    Attributes:
        names: The name of each code.
    """

    def __init__(self, check: Callable[[str, str], str], known: Iterable[str] | None = None) -> None:
        super().__init__()
        self.names: list[str] = []
        self._check = check
        for name in known or ():
            self[name] = len(self.names)
            self.names.append(name)
        self._closed = known is not None

    def __missing__(self, cell: object) -> int:
        """Give a name its code."""
        if cell is None or cell == "":
            return NO_NAME
        name = self._name(cell)
        if name is None:
            return NOBODY
        code = self.get(name)
        if code is None:
            if self._closed:
                return NOBODY
            code = len(self.names)
            self.names.append(name)
            self[name] = code
        self[cell] = code
        return code

    def _name(self, cell: object) -> str | None:
        if isinstance(cell, bool) or not isinstance(cell, (str, int)):
            return None
        try:
            return self._check(str(cell), "")
        except InvalidId:
            return None
