"""One page with all pictures and numbers of a comparison: a single file that loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from rich.table import Table

from bandit import __version__
from simulations.advice import advice
from simulations.charts.render import converter
from simulations.charts.specs import setting
from simulations.charts.style import FONT, Spec
from simulations.compare import Comparison
from simulations.files import refuse
from simulations.sweeps.run import world_name
from simulations.tables import comparison_sentences, comparison_tables

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""Content security policy of the page: the browser itself refuses every request and every evaluation of text."""

_STYLE = f"""
body {{ font-family: {FONT}; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; line-height: 1.45; }}
h1 {{ font-size: 1.6rem; margin-bottom: 0.3rem; }}
h2 {{ font-size: 1.2rem; margin-top: 2.2rem; }}
.advice {{ border-left: 4px solid #0072b2; padding: 0.2rem 1rem; background: #f3f8fb; }}
figure {{ margin: 1.5rem 0; overflow-x: auto; break-inside: avoid; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25rem 0.8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; white-space: normal; }}
footer {{ margin-top: 2.5rem; font-size: 0.85rem; color: #555; }}
"""

_DRAW = """
const options = {ast: true, renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false}};
const pictures = JSON.parse(document.getElementById("pictures").textContent);
for (const [name, spec] of Object.entries(pictures)) {
  vegaEmbed(document.getElementById(`picture-${name}`), spec, options).catch((error) => {
    document.getElementById(`picture-${name}`).textContent = `This picture cannot be drawn: ${error.message}`;
  });
}
"""


def page(result: Comparison, pictures: Mapping[str, Spec]) -> str:
    """Return the page as HTML.

    Args:
        result: What was compared.
        pictures: By name; names of letters alone.

    Raises:
        InvalidInput: vl-convert is not installed.
    """
    advised = advice(result)
    told = [sentence for sentence in comparison_sentences(result) if sentence not in advised]
    experiment = result.experiment
    drawn = _in_script(json.dumps(pictures, allow_nan=False, separators=(",", ":")))
    parts = [
        f"<h1>{escape(experiment.key)}: policies side by side</h1>",
        *_paragraphs([experiment.hypothesis] if experiment.hypothesis else []),
        *_paragraphs(setting(result)),
        *(['<div class="advice">', *_paragraphs(advised), "</div>"] if advised else []),
        "<h2>Pictures</h2>",
        "<p>Point at a line to read its numbers; the menu at a picture's corner saves it.</p>",
        "<noscript><p>Pictures are drawn by a script in this file: it has to be allowed.</p></noscript>",
        *(f'<figure id="picture-{escape(name)}"></figure>' for name in pictures),
        "<h2>Numbers</h2>",
        *(f'<div class="table">{_table(table)}</div>' for table in comparison_tables(result)),
        *_paragraphs(told),
        f"<footer>{_provenance(result)}</footer>",
        f'<script type="application/json" id="pictures">{drawn}</script>',
        f"<script>{converter().javascript_bundle()}</script>",
        f"<script>{_DRAW}</script>",
    ]
    return _document(f"{experiment.key}: policies side by side", parts)


def write_page(path: Path, result: Comparison, pictures: Mapping[str, Spec]) -> None:
    """Write the page to a file.

    Raises:
        InvalidInput: The file cannot be written, or vl-convert is not installed.
    """
    text = page(result, pictures)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        refuse(path, f"cannot be written: {error.strerror or error}")


def _document(title: str, parts: Iterable[str]) -> str:
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
    ]
    return "\n".join([*head, *parts, "</body>", "</html>", ""])


def _paragraphs(sentences: Iterable[str]) -> list[str]:
    return [f"<p>{escape(sentence)}</p>" for sentence in sentences]


def _table(table: Table) -> str:
    """Return a table of the command line as HTML."""
    head = "".join(f"<th>{escape(str(column.header))}</th>" for column in table.columns)
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _provenance(result: Comparison) -> str:
    return escape(
        f"bandit-sim {__version__}; seed {result.seed}; {result.replications:,} runs of {result.users:,} users for "
        f"each policy; experiment and world {world_name(result.world)}. The same four give the same numbers."
    )


def _in_script(text: str) -> str:
    """Return JSON that cannot end the script element that it stands in, whatever names are in it."""
    return text.replace("<", "\\u003c")
