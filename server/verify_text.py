"""What `verify` found, as people read it."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table

from bandit.measures import Measure, measures_of
from server.differences import Difference
from server.verify import Verdict, Verification


def tables(found: Verification) -> list[Table]:
    """Return one table with a line per experiment, and one more for each experiment with differences."""
    summary = Table(box=box.SIMPLE_HEAD)
    for column in ("experiment", "state", "epochs", "closed", "users", "rewards", "differences"):
        summary.add_column(column, justify="left" if column in ("experiment", "state") else "right", overflow="fold")
    for v in found.verdicts:
        counts = (v.epochs, v.closed, v.users, v.rewards, v.found.total)
        summary.add_row(v.key, v.state, *(f"{count:,}" for count in counts))
    return [summary, *(_differences(verdict) for verdict in found.verdicts if verdict.found.total)]


def conclusion(path: Path, found: Verification) -> str:
    """Return what it comes to."""
    damages = "".join(f"the file is damaged: {text}\n" for text in found.damages)
    n = sum(verdict.found.total for verdict in found.verdicts)
    said = "everything agrees" if not found.differences else "1 difference" if n == 1 else f"{n:,} differences"
    return f"{damages}{path}: {said}"


def _differences(verdict: Verdict) -> Table:
    shown, total = verdict.found.first, verdict.found.total
    more = "" if len(shown) == total else f", the first {len(shown):,} of {total:,}"
    table = Table(title=f"{verdict.key}: differences{more}", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("epoch", "variant", "measure", "what", "stored", "rebuilt"):
        table.add_column(column, overflow="fold")
    for difference in shown:
        table.add_row(*_place(verdict, difference), difference.what, str(difference.stored), str(difference.rebuilt))
    return table


def _place(verdict: Verdict, difference: Difference) -> tuple[str, str, str]:
    epoch, arm, slot = difference.epoch, difference.arm, difference.measure
    names = verdict.experiment.arms if verdict.experiment else ()
    measures = measures_of(verdict.experiment) if verdict.experiment else ()
    return (
        "" if epoch is None else str(epoch),
        "" if arm is None else names[arm] if 0 <= arm < len(names) else f"no. {arm}",
        "" if slot is None else _measure(measures[slot]) if 0 <= slot < len(measures) else f"no. {slot}",
    )


def _measure(measure: Measure) -> str:
    above = "" if measure.above is None else f" above {measure.above:g}"
    return f"{measure.metric}{above}, {measure.per_user}"
