"""Rows of a log, as they stream from a CSV or JSONL file, plain or gzip."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from bandit.wording import received
from simulations.logs.faults import Faults, refuse_log

ROWS_AT_ONCE = 4096
"""Rows of a chunk: enough to make the work per chunk cheap, few enough for rows with long texts."""

SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

_GZIP = b"\x1f\x8b"
_LONGEST_FIELD = 64 * 2**20  # prompts and answers may be long


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, column by column.

    Attributes:
        lines: Line of the file where each row begins.
        columns: Cells of each column, by name in the order of the file: text, or JSON values; None is an empty one.
        typed: Whether cells are JSON values.
    """

    lines: list[int]
    columns: dict[str, tuple[object, ...]]
    typed: bool


def read_chunks(path: Path, faults: Faults, watch: Callable[[int], None]) -> Iterator[Chunk]:
    """Yield the rows of a file; rows that are none are noted as faults and left out.

    Args:
        path: .csv, .jsonl or .ndjson, with .gz behind it or not.
        faults: Takes the faults.
        watch: Told the bytes of the file that were read, as they are.

    Raises:
        InvalidInput: The file cannot be read as a whole, or its header is wrong.
    """
    chunks = _csv_chunks if _form(path) == "csv" else _jsonl_chunks
    with _opened(path) as file:
        raw = file.peek(2)[:2] if isinstance(file, io.BufferedReader) else b""
        packed = raw == _GZIP
        if path.suffix.lower() == ".gz" and not packed:
            raise refuse_log("", "is not gzip although its name ends with .gz; rename it, or compress it")
        binary = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if packed else file
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        last, before = 0, 0
        try:
            for chunk in chunks(text, faults):
                last = chunk.lines[-1]
                yield chunk
                watch(file.tell() - before)
                before = file.tell()
        except UnicodeDecodeError:
            raise refuse_log("", f"is not UTF-8 (after line {last or 1}); save it as UTF-8") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise refuse_log("", f"is damaged gzip ({error}); compress it again") from None


def _form(path: Path) -> str:
    names = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    form = SUFFIXES.get(names[0].lower()) if names else None
    if form is None:
        allowed = f"{', '.join(SUFFIXES)}, with .gz or not"
        raise refuse_log("", f"received a name that ends with '{''.join(names)}', allowed: {allowed}")
    return form


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.is_dir():
        raise refuse_log("", "is a directory; name a file in it")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise refuse_log("", "no such file; check the path") from None
    except OSError as error:
        raise refuse_log("", f"cannot be read: {error.strerror or error}") from None
    with file:
        yield file


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let fields of a CSV be longer than the 128 KiB that the standard library allows."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_chunks(text: Iterable[str], faults: Faults) -> Iterator[Chunk]:
    rows = csv.reader(text, strict=True)
    with _long_fields():
        names = _header(rows)
        lines: list[int] = []
        block: list[list[str]] = []
        last = rows.line_num
        try:
            for row in rows:
                line, last = last + 1, rows.line_num
                if len(row) != len(names):
                    if row:
                        faults.add(line, None, f"received {len(row)} fields, allowed: {len(names)}, as in line 1")
                    continue
                lines.append(line)
                block.append(row)
                if len(block) == ROWS_AT_ONCE:
                    yield _chunk_of(names, lines, block)
                    lines, block = [], []
        except csv.Error as error:
            faults.add(rows.line_num, None, f"is not CSV: {error}; quote the field or remove the character")
        if block:
            yield _chunk_of(names, lines, block)


def _chunk_of(names: list[str], lines: list[int], block: list[list[str]]) -> Chunk:
    return Chunk(
        lines, {name: cells for name, cells in zip(names, zip(*block, strict=True), strict=True) if name}, False
    )


def _header(rows: Iterator[list[str]]) -> list[str]:
    """Return the names of the columns; one without a name (an index that was written along) is not read."""
    try:
        names = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise refuse_log("line 1", f"is not CSV: {error}; quote the field or remove the character") from None
    if not any(names):
        raise refuse_log("line 1", "received no names of columns, allowed: a header such as user_id,variant,resolved")
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise refuse_log("line 1", f"received column {received(twice[0])} more than once, allowed: each name once")
    return names


def _jsonl_chunks(text: Iterable[str], faults: Faults) -> Iterator[Chunk]:
    lines: list[int] = []
    block: list[dict[str, object]] = []
    for line, row_text in enumerate(text, 1):
        if not row_text.strip():
            continue
        try:
            row = json.loads(row_text, parse_constant=str, object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            faults.add(line, None, f"is not JSON: {_json_fault(error)}; one object per line is allowed")
            continue
        if not isinstance(row, dict):
            faults.add(line, None, f'received {received(row)}, allowed: an object such as {{"user_id": …}}')
            continue
        lines.append(line)
        block.append(row)
        if len(block) == ROWS_AT_ONCE:
            yield _objects(lines, block)
            lines, block = [], []
    if block:
        yield _objects(lines, block)


def _json_fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, (json.JSONDecodeError, _DuplicateKey)):
        return str(error)
    return "a number of thousands of digits"  # the only other thing that the standard library refuses


class _DuplicateKey(ValueError):
    pass


def _objects(lines: list[int], block: list[dict[str, object]]) -> Chunk:
    names = dict.fromkeys(name for row in block for name in row)
    return Chunk(lines, {name: tuple([row.get(name) for row in block]) for name in names}, True)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _DuplicateKey(f"duplicate key {received(twice)}")
    return table
