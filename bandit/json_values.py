"""Values that JSON can carry: text, finite numbers, true, false, null, lists and objects."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from bandit.errors import InvalidExperiment, Problem
from bandit.wording import path, received

DEEPEST = 20
"""Levels of lists and objects inside each other."""

_ALLOWED = "text, finite numbers, true, false, null, lists and objects"


def json_object(value: object) -> dict[str, Any]:
    """A deep copy of an object of JSON values, so that it is nobody else's to change.

    Raises:
        InvalidExperiment: It is no mapping, or holds something that JSON cannot carry; with its place.
    """
    if not isinstance(value, Mapping):
        _refuse((), f"received {received(value)}, allowed: a table of names and JSON values")
    copy = _copy(value, ())
    assert isinstance(copy, dict)  # noqa: S101  (a mapping was given)
    return copy


def content_hash(value: Mapping[str, object]) -> str:
    """Return the first 12 hex digits of the SHA-256 of JSON values: another one whenever a value is another.

    Of keys in order, without blanks, as UTF-8; 1, 1.0 and true are three values, as they are to an application.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _copy(value: object, place: tuple[object, ...]) -> object:
    """A copy of the value found at a place; tuples become lists."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, (int, float)):
        return _number(value, place)
    if not isinstance(value, (Mapping, list, tuple)):
        _refuse(place, f"received {received(value)}, allowed: {_ALLOWED}")
    if len(place) >= DEEPEST:
        _refuse((), f"received values nested more than {DEEPEST} levels deep, allowed: at most {DEEPEST}")
    if isinstance(value, Mapping):
        return {_name(name, place): _copy(item, (*place, name)) for name, item in value.items()}
    return [_copy(item, (*place, index)) for index, item in enumerate(value)]


def _name(name: object, place: tuple[object, ...]) -> str:
    if not isinstance(name, str):
        _refuse(place, f"received the key {received(name)}, allowed: text")
    return _text(name, place)


def _text(text: str, place: tuple[object, ...]) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(place, f"received {received(text)}, allowed: text without lone surrogates")
    return text


def _number(number: float, place: tuple[object, ...]) -> float:
    if isinstance(number, int):
        if not -(2**63) <= number < 2**64:
            _refuse(place, f"received {received(number)}, allowed: integers of 64 bits")
    elif not math.isfinite(number):
        _refuse(place, f"received {number}, allowed: finite numbers")
    return number


def _refuse(place: tuple[object, ...], message: str) -> NoReturn:
    raise InvalidExperiment([Problem(path(place), message)])
