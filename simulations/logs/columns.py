"""Which column of a log says what: found by its name, or named by an option."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from bandit.wording import listed, received, unknown_name
from simulations.logs.faults import refuse_log

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": ("user_id", "user", "unit"),
    "variant": ("variant", "variant_id", "arm", "group"),
    "time": ("time", "timestamp", "created_at", "ts"),
    "epoch": ("epoch",),
    "propensity": ("propensity",),
    "request": ("request_id", "request"),
    "failed": ("failed",),
}
"""What a column may say, and the names that it usually has; the first that is there is taken."""


@dataclass(frozen=True, slots=True)
class Named:
    """Columns named by options; None: look for the usual names.

    Attributes:
        user: Who.
        variant: What they got.
        time: When.
        epoch: Number of the allocation that they were drawn from.
        propensity: Probability with which the row's own variant was drawn; with `.<variant>` behind it that of
            each variant.
    """

    user: str | None = None
    variant: str | None = None
    time: str | None = None
    epoch: str | None = None
    propensity: str | None = None


@dataclass(frozen=True, slots=True)
class Roles:
    """What the columns of a log say.

    Attributes:
        column: Column of each role that there is one for.
        each: Column of each variant's propensity, by the variant's key.
        others: Columns that may be metrics.
    """

    column: Mapping[str, str]
    each: Mapping[str, str]
    others: tuple[str, ...]

    def hidden(self, later: Iterable[str]) -> str | None:
        """Return the first of some later columns that would have had a role, or None."""
        names = {name for role, usual in USUAL_NAMES.items() if role not in self.column for name in usual}
        return next((n for n in later if n.lower() in names or n.lower().startswith("propensity.")), None)


def roles_of(columns: Collection[str], named: Named, metrics: Collection[str]) -> Roles:
    """Return the roles of columns.

    Args:
        columns: Names of all columns.
        named: What was said of them.
        metrics: Columns known to be metrics: they have no other role unless it was said.

    Raises:
        InvalidLog: A column was named that is not there, or no column says the variant.
    """
    free = {name.lower(): name for name in reversed(list(columns)) if name not in metrics}
    found: dict[str, str] = {}
    for role, names in USUAL_NAMES.items():
        said = getattr(named, role, None)
        if said is not None and said not in columns and not (role == "propensity" and _each(columns, said)):
            raise refuse_log(f"--{role}", f"there is no column '{said}'; {unknown_name(said, columns)}")
        column = said if said is not None else next((free[name] for name in names if name in free), None)
        if column is None or column not in columns:
            continue
        other = next((other for other, taken in found.items() if taken == column), None)
        if other is not None:
            message = f"received {received(column)}, the column that says the {other}; allowed: another column"
            raise refuse_log(f"--{role}", message)
        found[role] = column
    if "variant" not in found:
        usual = listed(USUAL_NAMES["variant"])
        separated = len(columns) == 1 and any(mark in next(iter(columns)) for mark in ";\t|")
        hint = " (separate them by commas)" if separated else ""
        message = (
            f"no column says the variant; name it with --variant, or use {usual}. Columns: {listed(columns)}{hint}"
        )
        raise refuse_log("line 1", message)
    prefix = named.propensity or found.get("propensity", "propensity")
    each = _each(columns, prefix)
    taken = {*found.values(), *each.values()}
    return Roles(found, each, tuple(name for name in columns if name not in taken))


def _each(columns: Iterable[str], prefix: str) -> dict[str, str]:
    start = f"{prefix}."
    return {name.removeprefix(start): name for name in columns if name.startswith(start) and name != start}
