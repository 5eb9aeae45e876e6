"""The simulator's README shows what is printed. `python -m tests.simulations.test_readme` writes it again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tests.test_docs as docs
from tests.readme import Tour

README = Path(__file__).parents[2] / "simulations" / "README.md"
PLAYED = "## Guardrails and changes"
"""The heading of the section that shows output; it ends at the next one."""


def played(text: str) -> str:
    """Return a README with the present output of that section."""
    before, heading, rest = text.partition(f"{PLAYED}\n")
    section, following, after = rest.partition("\n## ")
    with tempfile.TemporaryDirectory() as directory:
        return before + heading + Tour(Path(directory)).play(section) + following + after


def test_the_section_on_guardrails_and_changes_shows_what_is_printed() -> None:
    text = README.read_text(encoding="utf-8")

    assert PLAYED in text
    assert docs.masked(text) == docs.masked(played(text))


if __name__ == "__main__":
    README.write_text(played(README.read_text(encoding="utf-8")), encoding="utf-8")
