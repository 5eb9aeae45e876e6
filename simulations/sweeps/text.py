"""A sweep as tables: for each horizon what a set-up gains, and how long it takes to decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from simulations.compare import FIXED
from simulations.scores import Estimate
from simulations.tables import shown

_COLUMNS = {
    "reward_acted_on": "gain, acted on",
    "reward_per_user": "gain, else",
    "users_to_decision": "users to a decision",
    "decided": "decided",
    "wrong_decision": "wrongly",
    "share_best": "on a best variant",
    "exposed_to_breach": "exposed to a breach",
}
_PERCENT = ("decided", "wrong_decision", "share_best")
_GAINS = ("reward_acted_on", "reward_per_user")

LEGEND = (
    "gain: goal outcome per user against that of the fixed split, run by run on the same luck; acted on: if everybody"
    " gets what was decided from the decision on. Users to a decision: the horizon where there is none. ± is one"
    " standard error."
)


def sweep_tables(rows: Sequence[dict[str, Any]], better: str = "higher") -> list[Table]:
    """Return a table for each horizon, a line for each set-up.

    Args:
        rows: Of a sweep.
        better: Direction of the goal; a gain is what is better.
    """
    sign = 1.0 if better == "higher" else -1.0
    return [_table(users, [row for row in rows if row["users"] == users], sign) for users in _each(rows, "users")]


def _table(users: int, rows: Sequence[dict[str, Any]], sign: float) -> Table:
    varied = [name for name in ("policy", "floor", "control_floor", "growth") if len(_each(rows, name)) > 1]
    columns = {
        name: text for name, text in _COLUMNS.items() if name != "exposed_to_breach" or any(r[name] for r in rows)
    }
    table = Table(title=f"{users:,} users", title_justify="left", box=box.SIMPLE_HEAD)
    for name in varied or ["policy"]:
        table.add_column(name.replace("_", " "))
    for text in columns.values():
        table.add_column(text, justify="right")
    for row in rows:
        cells = [_setting(row, name) for name in varied or ["policy"]]
        table.add_row(*cells, *(_number(row, name, sign) for name in columns))
    return table


def _each(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _setting(row: dict[str, Any], name: str) -> str:
    value = row[name]
    return str(value) if name == "policy" else "" if row["policy"] == FIXED and name != "growth" else _or_files(value)


def _or_files(value: float | None) -> str:
    return "file's" if value is None else f"{value:g}"


def _number(row: dict[str, Any], name: str, sign: float) -> str:
    if name not in _GAINS:
        return shown(Estimate(row[name], row[f"{name}_se"]), percent=name in _PERCENT)
    gain = row.get(f"{name}_over_fixed")
    if gain is None or not row[name] - gain:
        return ""
    fixed = row[name] - gain
    error = row[f"{name}_over_fixed_se"]
    return shown(Estimate(sign * gain / abs(fixed), None if error is None else error / abs(fixed)), percent=True)
