"""Columns that hold JSON text: of a user outcomes and visits, of a call of `/reward` its values, sums, counts.

Numbers are written so that they are read back to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bandit.measures import N
from bandit.outcomes import Outcome
from bandit.rewards import Recorded
from bandit.users import Visit

_encode = msgspec.json.Encoder().encode
_State = float | tuple[int, float, float]
_outcomes = msgspec.json.Decoder(dict[int, _State]).decode
_visits = msgspec.json.Decoder(dict[int, tuple[int, int, _State]]).decode
_sums = msgspec.json.Decoder(list[list[float]]).decode
_counts = msgspec.json.Decoder(dict[int, int]).decode
_values = msgspec.json.Decoder(dict[str, tuple[float, str | None, int, int]]).decode


def outcomes_text(outcomes: Mapping[int, Outcome]) -> str | None:
    """Return the outcome states of a user by measure as text, None if there are none."""
    return _encode(outcomes).decode() if outcomes else None


def outcomes_from(text: str | None) -> dict[int, Outcome]:
    """Return what `outcomes_text` was given.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return {} if text is None else _outcomes(text)


def visits_text(visits: Mapping[int, Visit]) -> str | None:
    """Return the latest visits of a user by measure as text, None if there are none."""
    return _encode(visits).decode() if visits else None


def visits_from(text: str | None) -> dict[int, Visit]:
    """Return what `visits_text` was given.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return {} if text is None else {measure: Visit(*visit) for measure, visit in _visits(text).items()}


def sums_text(sums: Sequence[Sequence[float]]) -> str:
    """Return the sums of a cell, a row per measure, as text; a row of zeros is left out."""
    return _encode([row if row and row[N] else () for row in sums]).decode()


def sums_from(text: str) -> list[list[float]]:
    """Return what `sums_text` was given, with an empty row for one of zeros.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return _sums(text)


def counts_text(counts: Mapping[int, int]) -> str:
    """Return how many calls an arm has in each bucket as text; an empty bucket is left out."""
    return _encode({bucket: n for bucket, n in counts.items() if n}).decode()


def counts_from(text: str) -> dict[int, int]:
    """Return what `counts_text` was given.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return _counts(text)


def values_text(values: Mapping[str, Recorded]) -> str:
    """Return what was stored of a call by metric as text: value, reason, first calls, revision."""
    return _encode({metric: recorded[1:] for metric, recorded in values.items()}).decode()


def values_from(user_id: str, text: str) -> dict[str, Recorded]:
    """Return what `values_text` was given of a user's call.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return {metric: Recorded(user_id, *rest) for metric, rest in _values(text).items()}
