"""The simulator's README shows what is printed. `python -m tests.simulations.test_readme` writes it again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tests.test_docs as docs
from tests.readme import Tour

README = Path(__file__).parents[2] / "simulations" / "README.md"
PLAYED = ("## A launch, rehearsed", "## Guardrails and changes")
"""The headings of the sections that show output; each ends at the next heading."""


def played(text: str) -> str:
    """Return a README with the present output of these sections."""
    for title in PLAYED:
        before, heading, rest = text.partition(f"{title}\n")
        section, following, after = rest.partition("\n## ")
        with tempfile.TemporaryDirectory() as directory:
            text = before + heading + Tour(Path(directory)).play(section) + following + after
    return text


def test_the_sections_with_output_show_what_is_printed() -> None:
    text = README.read_text(encoding="utf-8")

    assert all(title in text for title in PLAYED)
    assert docs.masked(text) == docs.masked(played(text))


if __name__ == "__main__":
    README.write_text(played(README.read_text(encoding="utf-8")), encoding="utf-8")
