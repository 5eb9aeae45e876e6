"""An analysis as text for people."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.markdown import Markdown

from bandit.markdown_text import text
from bandit.report import markdown
from bandit.report.setup_check import SetupCheck, setup_markdown
from simulations.logs.analysis import Analysis


def analysis_markdown(analysis: Analysis) -> str:
    """Return the report as Markdown, or, if one was asked for, the A/A check in its place."""
    if analysis.check is None:
        return markdown(analysis.report)
    return _check_markdown(analysis, analysis.check)


def show_analysis(analysis: Analysis, *, plain: bool) -> None:
    """Print an analysis to standard output: on a terminal rendered, unless plain Markdown is wanted."""
    found, console = analysis_markdown(analysis), Console()
    if plain or not console.is_terminal:
        typer.echo(found, nl=False)
    else:
        console.print(Markdown(found))


def _check_markdown(analysis: Analysis, check: SetupCheck) -> str:
    report = analysis.report
    shares = [f"{text(each.key)} {each.assigned:,}" for each in report.variants]
    lines = [
        f"# A/A check of {text(report.experiment)}",
        "",
        f"All variants had the same configuration · {report.assigned:,} {report.unit}s: {', '.join(shares)}",
        "",
        *setup_markdown(check),
        "",
        "## Notes",
        "",
        *(f"- {text(note)}" for note in report.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"
