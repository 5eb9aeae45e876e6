"""Options of `bandit-sim plan` that give a number to a name: `METRIC=VALUE`, `A=0.5,B=0.5`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import typer

from bandit.wording import received


def named_numbers(given: Iterable[str], option: str) -> dict[str, float]:
    """Return numbers by name, from texts `NAME=VALUE`; a name may itself have an equals sign.

    Args:
        given: The texts.
        option: Name of the option, for the messages.

    Raises:
        typer.BadParameter: A text has no name or no finite number, or a name comes twice.
    """
    numbers: dict[str, float] = {}
    for each in given:
        name, _, value = (part.strip() for part in each.rpartition("="))
        number = _number(value)
        if not name or number is None:
            example = "A=0.5" if option == "--split" else "harmful=0.005"
            message = f"received {received(each)}, allowed: NAME=VALUE with a number, such as {example}"
            raise typer.BadParameter(message, param_hint=option)
        if name in numbers:
            raise typer.BadParameter(f"received {received(name)} again, allowed: each once", param_hint=option)
        numbers[name] = number
    return numbers


def split_of(text: str) -> dict[str, float]:
    """Return the share of each variant, from a text `A=0.5,B=0.25,C=0.25`.

    Raises:
        typer.BadParameter: It is no such text.
    """
    return named_numbers(text.split(","), "--split")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
