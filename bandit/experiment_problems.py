"""From what pydantic found to sentences for people: where, what was received, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bandit.errors import InvalidInput, Problem
from bandit.wording import path, received, unknown_name

Keys = Mapping[str, str | None]
"""The keys of a table, each with what it is (None: it has a default)."""

_ALLOWED = {
    "bool_type": "true or false",
    "dict_type": "a table of names and values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a table",
    "string_type": "text",
    "string_unicode": "text without lone surrogates",
    "tuple_type": "a list",
}

MOST_REPORTED = 200


def problems(details: Iterable[Mapping[str, object]], tables: Mapping[str, Keys]) -> tuple[Problem, ...]:
    """Every fault of a document, in its order; the rest as a number where there are more than 200.

    Args:
        details: The dictionaries that `pydantic.ValidationError.errors()` returns.
        tables: Keys of each table by its name, those of the top level under the empty name.
    """
    found = [problem for detail in details for problem in _translate(detail, tables)]
    if len(found) > MOST_REPORTED:
        rest = Problem("", f"and {len(found) - MOST_REPORTED} more problems")
        return (*found[:MOST_REPORTED], rest)
    return tuple(found)


def _translate(detail: Mapping[str, object], tables: Mapping[str, Keys]) -> Iterator[Problem]:
    """The fault or faults that one error of pydantic stands for."""
    location = detail["loc"]
    assert isinstance(location, tuple)  # noqa: S101  (pydantic's contract, not input)
    context = detail.get("ctx")
    cause = context.get("error") if isinstance(context, dict) else None
    if isinstance(cause, InvalidInput):
        for problem in cause.problems:
            yield Problem(path(location, problem.field), problem.message)
    else:
        yield Problem(path(location), _sentence(detail, location, tables))


def _table(location: tuple[object, ...], tables: Mapping[str, Keys]) -> str:
    """Return the name of the table in which a key is, the innermost that is known."""
    names = [str(part) for part in location[:-1] if isinstance(part, str)]
    inside = [".".join(names[:depth]) for depth in range(len(names), 0, -1)]
    return next((name for name in inside if name in tables), "") if names else ""


def _sentence(detail: Mapping[str, object], location: tuple[object, ...], tables: Mapping[str, Keys]) -> str:
    """What to say of one fault that one of pydantic's own checks found."""
    kind, shown = str(detail["type"]), received(detail["input"])
    context = detail.get("ctx")
    keys = tables.get(_table(location, tables), {})
    if kind == "missing":
        what = keys.get(str(location[-1]))
        return f"missing; {what}" if what else "missing"
    if kind == "extra_forbidden":
        return f"unknown key; {unknown_name(str(location[-1]), keys)}"
    if kind == "invalid_key":
        return "received a key that is not text, allowed: text"
    if isinstance(context, dict) and "error" in context:
        return str(context["error"])
    if isinstance(context, dict) and "expected" in context:
        return f"received {shown}, allowed: {str(context['expected']).replace(' or ', ', ')}"
    return f"received {shown}, allowed: {_ALLOWED.get(kind, detail['msg'])}"
