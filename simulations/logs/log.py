"""A log of an experiment that ran elsewhere: a CSV or JSONL file, read strictly into arrays, a row each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.experiment_rules import MOST_VARIANTS
from bandit.ids import check_id, check_key
from bandit.wording import listed, received
from simulations.files import faults_in
from simulations.logs.cells import NO_NAME, NOBODY, WRONG, Codes, Numbers, Times, values
from simulations.logs.columns import Named, Roles, roles_of
from simulations.logs.faults import Faults, refuse_log
from simulations.logs.rows import Chunk, read_chunks

_Id = Callable[[object, str], str]

_NAME = "a name of 1 to 200 bytes of UTF-8 without control characters; of a variant also without '/'"
_PROBABILITY = "a probability above 0 and at most 1, that of the row's own variant"
_CHANCE = "a probability from 0 to 1"
_NUMBER = "a number from -1e15 to 1e15, true, false, or nothing"


@dataclass(frozen=True, slots=True)
class Log:
    """Rows of a log in the order of the file; every array has shape (n_rows,) unless said.

    Attributes:
        roles: Which column said what.
        lines: Line of each row.
        user: Code of the row's user, an index into `user_ids`; None: no column says users.
        user_ids: Users, in the order of their first rows.
        variant: Code of the row's variant, an index into `variants`.
        variants: Keys of variants: those known beforehand, or in the order of their first rows.
        time: Seconds since 1970; None: no column says the time.
        epoch: Code of the row's epoch, an index into `epochs`, negative where it is empty; None: no such column.
        epochs: Names of epochs.
        propensity: Probability of the row's own variant, nan where it is empty; None: no such column.
        each: Probability of each variant by its key, nan where it is empty.
        failed: 1 where the call failed, 0 where it did not, nan where nothing is said; None: no such column.
        metrics: Values of each column of numbers, nan where a cell is empty.
        unread: Columns that begin with a number but are not among the metrics, with the reason in words.
        texts: Columns that begin with no number, likewise.
    """

    roles: Roles
    lines: IntArray
    user: IntArray | None
    user_ids: list[str]
    variant: IntArray
    variants: list[str]
    time: FloatArray | None
    epoch: IntArray | None
    epochs: list[str]
    propensity: FloatArray | None
    each: dict[str, FloatArray]
    failed: FloatArray | None
    metrics: dict[str, FloatArray]
    unread: dict[str, str]
    texts: dict[str, str]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.lines)


def read_log(
    path: Path,
    named: Named | None = None,
    *,
    variants: Collection[str] | None = None,
    metrics: Collection[str] = (),
    only: bool = False,
    watch: Callable[[int], None] | None = None,
) -> Log:
    """Return the log of a .csv, .jsonl or .ndjson file, also with .gz behind it.

    Args:
        path: The file.
        named: Columns named by options.
        variants: The variants that it may name; None: whatever it names.
        metrics: Columns that have to be metrics: what is no number there is a fault. Elsewhere it makes the
            column no metric. The only column that could be a metric has to be one.
        only: Whether no other columns are read.
        watch: Told the bytes that were read, as they are.

    Raises:
        InvalidInput: The file cannot be read, or cells are wrong; each named with line and column, up to 20.
    """
    with faults_in(path):
        reader = _Reader(named or Named(), variants, frozenset(metrics), only=only)
        for chunk in read_chunks(path, reader.faults, watch or (lambda _: None)):
            reader.take(chunk)
        return reader.log()


class _Column:
    """A column of numbers as it grows."""

    def __init__(self, name: str, *, typed: bool, before: int) -> None:
        self.name = name
        self.faults = Faults()
        self.first_wrong = ""
        self._table = Numbers(typed=typed)
        self._parts = [np.full(before, np.nan)]
        self.seen = False
        self.is_text = False

    def take(self, lines: list[int], cells: tuple[object, ...], *, must: bool) -> FloatArray:
        """Read cells; the first that is not empty decides whether the column is one of numbers."""
        if self.is_text:
            return np.empty(0)
        numbers = np.array(values(self._table, cells))
        wrong = np.flatnonzero(np.isinf(numbers))
        if not self.seen:
            filled = np.flatnonzero(~np.isnan(numbers))
            self.seen = bool(filled.size)
            self.is_text = bool(filled.size) and not must and wrong.size > 0 and filled[0] == wrong[0]
        for index in wrong:
            self.faults.add(lines[index], self.name, f"received {received(cells[index])}, allowed: {_NUMBER}")
        if wrong.size and not self.first_wrong:
            self.first_wrong = f"line {lines[wrong[0]]} has {received(cells[wrong[0]])}, which is no number"
        self._parts.append(numbers)
        return numbers

    @property
    def numbers(self) -> FloatArray:
        """All cells so far."""
        return np.concatenate(self._parts)

    def pad(self, count: int) -> None:
        """Take so many empty cells."""
        self._parts.append(np.full(count, np.nan))


class _Reader:
    """Turns chunks of rows into arrays and collects what is wrong."""

    def __init__(self, named: Named, variants: Collection[str] | None, metrics: frozenset[str], *, only: bool) -> None:
        self.faults = Faults()
        self._named = named
        self._wanted = metrics
        self._only = only
        self._roles: Roles | None = None
        self._rows = 0
        self._lines: list[IntArray] = []
        self._codes = {
            "user": Codes(cast("_Id", check_id)),
            "variant": Codes(cast("_Id", check_key), variants),
            "epoch": Codes(cast("_Id", check_id)),
        }
        self._known = None if variants is None else list(variants)
        self._times = Times()
        self._tables: dict[str, Numbers] = {}
        self._parts: dict[str, list[FloatArray | IntArray]] = {}
        self._metrics: dict[str, _Column] = {}
        self._requests: dict[object, tuple[int, int]] = {}

    def take(self, chunk: Chunk) -> None:
        """Read a chunk."""
        if self._roles is None:
            self._roles = roles_of(chunk.columns.keys(), self._named, self._wanted)
        roles, n_rows = self._roles, len(chunk.lines)
        missing = (None,) * n_rows
        for role, column in roles.column.items():
            if role in self._codes:
                self._names(role, column, chunk, missing)
            elif role == "time":
                self._time(column, chunk, missing)
            elif role in ("propensity", "failed"):
                self._numbers(role, column, chunk, missing)
        for column in roles.each.values():
            self._numbers("each", column, chunk, missing)
        filled = self._take_metrics(roles, chunk)
        if "request" in roles.column:
            self._repeated(roles.column["request"], chunk, filled)
        self._lines.append(np.array(chunk.lines, dtype=np.int64))
        self._rows += n_rows

    def log(self) -> Log:
        """Return all rows.

        Raises:
            InvalidLog: Something was wrong.
        """
        roles = self._roles
        if roles is None:
            self.faults.refuse_any()
            raise refuse_log("line 2", "missing; at least one row per user is needed")
        numbers = {name: column for name, column in self._metrics.items() if not column.is_text and column.seen}
        must = self._wanted or (numbers if len(numbers) == 1 else ())
        for name in must:
            if name in self._metrics:
                self.faults.extend(self._metrics[name].faults)
        self._one_variant_only(roles.column["variant"])
        self.faults.refuse_any()
        good = {name: column for name, column in numbers.items() if not column.faults.count}
        texts = {name: column.first_wrong for name, column in self._metrics.items() if column.is_text}
        return Log(
            roles=roles,
            lines=np.concatenate(self._lines),
            user=self._ints("user"),
            user_ids=self._codes["user"].names,
            variant=np.concatenate(self._parts[roles.column["variant"]]).astype(np.int64),
            variants=self._codes["variant"].names,
            time=self._floats(roles.column.get("time")),
            epoch=self._ints("epoch"),
            epochs=self._codes["epoch"].names,
            propensity=self._floats(roles.column.get("propensity")),
            each={key: np.concatenate(self._parts[column]) for key, column in roles.each.items()},
            failed=self._floats(roles.column.get("failed")),
            metrics={name: column.numbers for name, column in good.items()},
            unread={name: column.first_wrong for name, column in numbers.items() if name not in good},
            texts=texts,
        )

    def _ints(self, role: str) -> IntArray | None:
        column = self._roles.column.get(role) if self._roles is not None else None
        return None if column is None else np.concatenate(self._parts[column]).astype(np.int64)

    def _floats(self, column: str | None) -> FloatArray | None:
        return None if column is None else np.concatenate(self._parts[column])

    def _names(self, role: str, column: str, chunk: Chunk, missing: tuple[None, ...]) -> None:
        cells = chunk.columns.get(column, missing)
        codes = np.array(values(self._codes[role], cells), dtype=np.int64)
        allowed = f"one of {listed(self._known)}" if role == "variant" and self._known is not None else _NAME
        worst = NOBODY if role == "epoch" else NO_NAME  # a later row of a user need not say the epoch again
        for index in np.flatnonzero((codes == NOBODY) | (codes == worst)):
            shown = "an empty cell" if codes[index] == NO_NAME else received(cells[index])
            self.faults.add(chunk.lines[index], column, f"received {shown}, allowed: {allowed}")
        if role == "variant" and len(self._codes[role].names) > MOST_VARIANTS:
            message = f"received more than {MOST_VARIANTS} variants, allowed: 2 to {MOST_VARIANTS}; see --variant"
            raise refuse_log(f"column {received(column)}", message)
        self._parts.setdefault(column, []).append(codes)

    def _time(self, column: str, chunk: Chunk, missing: tuple[None, ...]) -> None:
        cells = chunk.columns.get(column, missing)
        times = np.array(values(self._times, cells))
        for index in np.flatnonzero(~np.isfinite(times)):
            shown = received(cells[index]) if times[index] == WRONG else "an empty cell"
            self.faults.add(chunk.lines[index], column, f"received {shown}, allowed: {Times.ALLOWED}")
        self._parts.setdefault(column, []).append(times)

    def _numbers(self, role: str, column: str, chunk: Chunk, missing: tuple[None, ...]) -> None:
        cells = chunk.columns.get(column, missing)
        table = self._tables.setdefault(column, Numbers(typed=chunk.typed))
        numbers = np.array(values(table, cells))
        good, allowed = {
            "failed": ((numbers == 0) | (numbers == 1), "0, 1, true, false, or nothing"),
            "propensity": ((numbers > 0) & (numbers <= 1), _PROBABILITY),
            "each": ((numbers >= 0) & (numbers <= 1), _CHANCE),
        }[role]
        for index in np.flatnonzero(~(good | np.isnan(numbers))):
            self.faults.add(chunk.lines[index], column, f"received {received(cells[index])}, allowed: {allowed}")
        self._parts.setdefault(column, []).append(numbers)

    def _take_metrics(self, roles: Roles, chunk: Chunk) -> IntArray:
        """Read the columns that may be metrics; return for each row a bit per metric that it has a value of."""
        filled = np.zeros(len(chunk.lines), dtype=np.int64)
        later = [name for name in chunk.columns if name not in self._metrics and name not in roles.others]
        known = {*roles.column.values(), *roles.each.values()}
        hidden = roles.hidden(name for name in later if name not in known)
        if hidden is not None:
            message = f"begins only after line {chunk.lines[0]}, allowed: in the first rows; give it in every row"
            raise refuse_log(f"column {received(hidden)}", message)
        for name, cells in chunk.columns.items():
            if name in known or (self._only and name not in self._wanted):
                continue
            column = self._metrics.get(name)
            if column is None:
                column = self._metrics[name] = _Column(name, typed=chunk.typed, before=self._rows)
            numbers = column.take(chunk.lines, cells, must=name in self._wanted)
            if not column.is_text:
                bit = min(list(self._metrics).index(name), 62)
                filled |= (~np.isnan(numbers)).astype(np.int64) << bit
        for name, column in self._metrics.items():
            if name not in chunk.columns:
                column.pad(len(chunk.lines))
        return filled

    def _repeated(self, column: str, chunk: Chunk, filled: IntArray) -> None:
        """Note values that came before under the same request: per request and metric a value counts once."""
        cells = chunk.columns.get(column, ())
        for line, cell, bits in zip(chunk.lines, cells, filled.tolist(), strict=False):
            if cell is None or cell == "" or not bits:
                continue
            key = received(cell) if isinstance(cell, (list, dict)) else cell
            first, before = self._requests.get(key, (line, 0))
            if before & bits:
                message = f"received {received(cell)} again (line {first}), allowed: each value of a request once"
                self.faults.add(line, column, message)
            self._requests[key] = first, before | bits

    def _one_variant_only(self, column: str) -> None:
        seen = np.unique(np.concatenate(self._parts[column]))
        seen = seen[seen >= 0]
        if len(seen) == 1 and not self.faults.count:
            only = self._codes["variant"].names[int(seen[0])]
            raise refuse_log(
                f"column {received(column)}", f"received only {received(only)}, allowed: rows of two variants or more"
            )
