"""Text to plain values, strictly: what TOML and JSON leave open is refused, with its place."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import NoReturn

from bandit.errors import InvalidExperiment, Problem
from bandit.wording import received

LARGEST_BYTES = 1_000_000
"""Size of an experiment file that is read."""

_LONGEST_CHAIN = 100  # dotted names in one key: tomllib takes memory in the square of them
_NAME = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_CHAIN = re.compile(rf"(?<![\w-]){_NAME}(?:[ \t]*+\.[ \t]*+{_NAME}){{{_LONGEST_CHAIN}}}")
_LONGEST_INTEGER = 20  # characters: every integer of 64 bits


def read_toml(text: str, what: str = "an experiment") -> dict[str, object]:
    """The table that a TOML text says.

    Args:
        text: The text.
        what: What it should be, for the messages.

    Raises:
        InvalidExperiment: The text is empty, over 1 MB, or not TOML; with line and column.
    """
    return _read(text, "TOML", _loads_toml, what)


def read_json(text: str | bytes, what: str = "an experiment") -> dict[str, object]:
    """The object that a JSON text says; duplicate keys, NaN, Infinity and huge integers are refused.

    Args:
        text: The text.
        what: What it should be, for the messages.

    Raises:
        InvalidExperiment: The text is empty, over 1 MB, not UTF-8, no object, or not JSON (with
            line and column).
    """
    if len(text) > LARGEST_BYTES:
        _refuse(f"received more than {LARGEST_BYTES} bytes, allowed: at most {LARGEST_BYTES} (1 MB)")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        _refuse(f"received bytes that are not UTF-8 (at byte {error.start}), allowed: UTF-8")
    return _read(decoded, "JSON", _loads_json, what)


def _read(text: str, language: str, loads: Callable[[str], object], what: str) -> dict[str, object]:
    """The top-level object of a text, with every failure in words."""
    _check_text(text, language, what)
    try:
        document = loads(text)
    except RecursionError:
        _refuse(f"not {language}: nested too deeply")
    except ValueError as error:  # covers JSONDecodeError, TOMLDecodeError and integers too long to read
        _refuse(f"not {language}: {error}")
    if not isinstance(document, dict):
        _refuse(f"received {received(document)}, allowed: an object with the keys of {what}")
    return document


def _check_text(text: str, language: str, what: str) -> None:
    """Refuse what no parser should have to see."""
    if len(text) > LARGEST_BYTES or len(text.encode(errors="surrogatepass")) > LARGEST_BYTES:
        _refuse(f"received more than {LARGEST_BYTES} bytes, allowed: at most {LARGEST_BYTES} (1 MB)")
    if not text.strip():
        _refuse(f"received an empty text, allowed: {what} in {language}")
    if text.startswith("\ufeff"):
        _refuse("received a byte order mark at line 1, column 1, allowed: UTF-8 without one")
    nul = text.find("\0")
    if nul >= 0:
        line, column = _place(text, nul)
        _refuse(f"received a NUL character at line {line}, column {column}, allowed: {language} text")


def _refuse(message: str) -> NoReturn:
    raise InvalidExperiment([Problem("", message)])


def _loads_toml(text: str) -> object:
    """TOML, with a line and column also for what ends too early."""
    chain = _LONG_CHAIN.search(text)
    if chain is not None:
        line, column = _place(text, chain.start())
        msg = f"received more than {_LONGEST_CHAIN} names joined by dots at line {line}, column {column}"
        raise ValueError(msg)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, column = _place(text, len(text))
        end = f"at line {line}, column {column}, the end"
        raise ValueError(str(error).replace("at end of document", end)) from None
    except ValueError:  # Python reads no decimal integer of more than 4300 digits
        msg = "received an integer of thousands of digits, allowed: integers of 64 bits"
        raise ValueError(msg) from None


def _place(text: str, index: int) -> tuple[int, int]:
    """Line and column of a character, both from 1."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _loads_json(text: str) -> object:
    """JSON as RFC 8259 has it, without the extensions and leniencies of the standard library."""
    return json.loads(text, parse_constant=_no_constant, parse_int=_integer, object_pairs_hook=_no_duplicates)


def _no_constant(name: str) -> NoReturn:
    msg = f"received {name}, allowed: finite numbers"
    raise ValueError(msg)


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        msg = f"received an integer of {len(digits)} characters, allowed: integers of 64 bits"
        raise ValueError(msg)
    return int(digits)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        msg = f"duplicate key {received(twice)}, allowed: each key once"
        raise ValueError(msg)
    return table
