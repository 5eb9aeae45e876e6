"""Markdown from texts that users named: they can neither break a table nor become markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARKS = re.compile(r"([\\`*_\[\]<>|#~&$])")
_FIRST = re.compile(r"^([-+=]|\d{1,9}[.)](?=\s|$))")  # a list item or a heading, where it stands first


def text(value: str) -> str:
    r"""Return a text on one line with every mark of Markdown escaped.

    Example:
        >>> text("a|b_c")
        'a\\|b\\_c'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    escaped = _MARKS.sub(r"\\\1", line)
    return _FIRST.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", escaped)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "l") -> list[str]:
    """Return the lines of a table.

    Args:
        head: Names of the columns, Markdown already.
        rows: Cells, Markdown already, each row as long as `head`.
        align: A letter per column: l is left, r right; columns beyond are right.
    """
    marks = ["---" if side == "l" else "---:" for side in align.ljust(len(head), "r")]
    return ["| " + " | ".join(cells) + " |" for cells in (head, marks, *rows)]
