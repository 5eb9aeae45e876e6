from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.markdown_text import table, text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain words, 5 % (0.3)", "plain words, 5 % (0.3)"),
        ("a_b|c", r"a\_b\|c"),
        ("<script>", r"\<script\>"),
        ("- item", r"\- item"),
        ("12. item", r"12\. item"),
        ("0.3", "0.3"),
        ("two\nlines\x1b", "two lines"),
    ],
)
def test_marks_are_escaped_and_the_rest_stays(given: str, shown: str) -> None:
    assert text(given) == shown


@given(st.text())
def test_a_text_is_one_line_without_a_bare_mark(value: str) -> None:
    shown = text(value)

    assert shown.isprintable()
    assert re.search(r"[`*_\[\]<>|#~&$]", re.sub(r"\\.", "", shown)) is None


def test_a_table_has_a_row_of_alignments() -> None:
    assert table(("a", "b"), [("1", "2")]) == ["| a | b |", "| --- | ---: |", "| 1 | 2 |"]
