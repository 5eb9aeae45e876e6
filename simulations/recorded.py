"""Recorded experiments: a CSV of impressions and clicks per arm, read strictly, line by line."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bandit.errors import InvalidInput, Problem
from bandit.wording import received
from simulations.files import faults_in, read_bytes, refuse

COLUMNS = ("test_id", "arm", "impressions", "clicks")

_NAMES = ", ".join(COLUMNS)
_GZIP = b"\x1f\x8b"
_COUNT = re.compile(r"[0-9]{1,12}")
_MOST_PROBLEMS = 20


class InvalidRecords(InvalidInput):
    """A file of recorded experiments is not right; the problems name its lines."""


@dataclass(frozen=True, slots=True)
class RecordedTest:
    """What was counted in one test.

    Attributes:
        test_id: Its name.
        impressions: Users per arm, at least 1 each, shape (n_arms,); the first arm of the file is control.
        clicks: Successes among them, same shape.
    """

    test_id: str
    impressions: tuple[int, ...]
    clicks: tuple[int, ...]


def read_records(path: Path) -> list[RecordedTest]:
    """Return the tests of a CSV file, plain or gzip, in the order of their first lines.

    Raises:
        InvalidInput: The file cannot be read, or lines are wrong; each named with its number, up to 20 of them.
    """
    content = read_bytes(path)
    if content[:2] == _GZIP:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            refuse(path, f"is damaged gzip ({error}); compress it again")
    elif path.suffix.lower() == ".gz":
        refuse(path, "is not gzip although its name ends with .gz; rename it, or compress it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(path, f"is not UTF-8 (at byte {error.start}); save it as UTF-8")
    with faults_in(path):
        return parse_records(text)


def parse_records(text: str) -> list[RecordedTest]:
    """Return the tests of a CSV text with the columns `COLUMNS`; others are ignored.

    Raises:
        InvalidRecords: Columns are missing, there are no rows, or lines are wrong.
    """
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[Problem] = []
    tests: dict[str, dict[str, tuple[int, int]]] = {}
    first_lines: dict[tuple[str, str], int] = {}
    try:
        places = _places(next(lines, []))
        for row in lines:
            if not row:
                continue
            fault = _fault(row, places) or _repeated(row, places, lines.line_num, first_lines)
            if fault:
                found.append(Problem(f"line {lines.line_num}", fault))
                continue
            test_id, arm, impressions, clicks = (row[place] for place in places)
            tests.setdefault(test_id, {})[arm] = int(impressions), int(clicks)
    except csv.Error as error:
        found.append(Problem(f"line {lines.line_num}", f"is not CSV: {error}; quote the field or remove the character"))
    if not found and not tests:
        found.append(Problem("line 2", "missing; one row per arm of a test"))
    if found:
        raise InvalidRecords(list(_first(found)))
    return [_test(test_id, arms) for test_id, arms in tests.items()]


def _places(header: list[str]) -> list[int]:
    """Return where the columns stand."""
    names = [name.strip() for name in header]
    problems = [
        Problem(
            "line 1", f"{names.count(column) or 'no'} columns '{column}'; exactly one of each of {_NAMES} is needed"
        )
        for column in COLUMNS
        if names.count(column) != 1
    ]
    if problems:
        raise InvalidRecords(problems)
    return [names.index(column) for column in COLUMNS]


def _fault(row: list[str], places: list[int]) -> str | None:
    """Say what is wrong with the values of a row and what would be right, or None."""
    if len(row) <= max(places):
        return f"received {len(row)} fields, allowed: at least {max(places) + 1}, as in the first line"
    test_id, arm, impressions, clicks = (row[place] for place in places)
    for name, value in (("test_id", test_id), ("arm", arm)):
        if not value.strip():
            return f"{name} is empty; name it"
    for name, value in (("impressions", impressions), ("clicks", clicks)):
        if not _COUNT.fullmatch(value):
            return f"{name}: received {received(value)}, allowed: a whole number from 0 to 999999999999"
    if int(impressions) == 0:
        return "impressions: received 0, allowed: 1 or more; leave out an arm that nobody saw"
    if int(clicks) > int(impressions):
        return f"clicks: received {clicks}, allowed: at most the impressions, {impressions}; count each user once"
    return None


def _repeated(row: list[str], places: list[int], line: int, first_lines: dict[tuple[str, str], int]) -> str | None:
    """Say that an arm came before, or None; its line is noted."""
    test_id, arm = row[places[0]], row[places[1]]
    first = first_lines.setdefault((test_id, arm), line)
    if first == line:
        return None
    return f"received arm {received(arm)} of test {received(test_id)} again (line {first}), allowed: once; add them up"


def _test(test_id: str, arms: dict[str, tuple[int, int]]) -> RecordedTest:
    impressions, clicks = zip(*arms.values(), strict=True)
    return RecordedTest(test_id, impressions, clicks)


def _first(found: list[Problem]) -> Iterator[Problem]:
    """Yield the first problems, and how many more there are."""
    yield from found[:_MOST_PROBLEMS]
    if len(found) > _MOST_PROBLEMS:
        yield Problem("", f"and {len(found) - _MOST_PROBLEMS} more lines")
