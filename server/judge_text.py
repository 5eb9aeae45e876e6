"""What judges did, as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from server.judge_process import Work
from server.judge_runs import Summary, version_of

_NUMBERS = ("judged", "counted", "late", "ignored", "unscored", "again later", "tokens in", "tokens out", "cost US$")


def judged(done: Sequence[tuple[Work, Summary]]) -> Table | str:
    """Return a table with a line for each judge, and below it what keeps one from going on."""
    if not done:
        return "no experiment has a judge; [[judges]] in the experiment file declares one"
    notes = [note for work, summary in done for note in _notes(work, summary)]
    table = Table(box=box.SIMPLE_HEAD, caption="\n".join(notes), caption_justify="left")
    for column in ("experiment", "judge", "version", *_NUMBERS):
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for work, summary in done:
        became = [summary.became[name] for name in ("counted", "late", "ignored", "unscored")]
        counts = (summary.judged, *became, summary.postponed, summary.prompt_tokens, summary.completion_tokens)
        row = (work.experiment.key, work.judge.key, version_of(work.judge), *(f"{n:,}" for n in counts))
        table.add_row(*row, _cost(summary))
    return table


def _cost(summary: Summary) -> str:
    if summary.without_price == summary.judged:
        return "unknown" if summary.judged else "0"
    more = f" + {summary.without_price:,} unknown" if summary.without_price else ""
    return f"{summary.cost_usd:.4f}{more}"


def _notes(work: Work, summary: Summary) -> list[str]:
    name, notes = f"{work.experiment.key}, {work.judge.key}: ", []
    if summary.reasons:
        notes.append(name + "unscored, " + ", ".join(f"{reason} {n:,}" for reason, n in summary.reasons.most_common()))
    if summary.became["late"]:
        notes.append(name + "late scores came after their users' window; nobody learns from them")
    if summary.out_of_budget:
        notes.append(name + "the day's budget is spent; the rest waits for the next day (UTC)")
    if summary.postponed:
        notes.append(name + f"the model server does not answer now: {summary.fault}")
    return notes
