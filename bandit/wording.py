"""How a value that was received is shown in a message: short, on one line, never failing."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

LONGEST = 80
"""Characters shown of a received value."""


class _ShortRepr(reprlib.Repr):
    """A repr that is short also where values are nested deeper or are longer than repr can follow."""

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 256:
            return f"a whole number of {x.bit_length()} bits"  # Python refuses to print the longest ones
        return super().repr_int(x, level)


_REPR = _ShortRepr()
_REPR.maxstring = _REPR.maxother = LONGEST - 4
_REPR.maxlevel = 3


def received(value: object) -> str:
    """The repr of a value, cut to about 80 characters."""
    shown = _REPR.repr(value)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def listed(names: Iterable[str]) -> str:
    """Names in quotes with commas between them: `'A', 'B'`."""
    return ", ".join(received(name) for name in names)


def unknown_name(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not among the known ones: the nearest one, and all of them."""
    names = list(known)
    nearest = difflib.get_close_matches(name[:LONGEST], names, n=1)
    hint = f"did you mean {received(nearest[0])}? " if nearest else ""
    return f"{hint}allowed: {listed(names)}"


def path(location: Iterable[object], inner: str = "") -> str:
    """A place in a document as people write it: `guardrails[0].max`."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = str(step)
            plain = name if name.isprintable() and len(name) <= LONGEST else received(name)
            text += f".{plain}" if text else plain
    return f"{text}.{inner}" if text and inner and not inner.startswith("[") else text + inner
