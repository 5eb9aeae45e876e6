"""How good judges are, as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from bandit.inference.prediction_powered import Estimate, PredictionPowered, PredictionPoweredDifference, Refusal
from server.judge_quality import MetricQuality

FEWEST_BY_LENGTH = 10
"""From so many labels on the p-value of length may be trusted (`agreement.verbosity_bias`)."""


def quality(found: Sequence[MetricQuality]) -> list[Table | str]:
    """Return two tables for each judge and metric, with what they come to."""
    if not found:
        return ["the experiment has no judge; [[judges]] in its file declares one"]
    return [part for one in found for part in (_agreement(one), _estimates(one), *_notes(one))]


def _agreement(found: MetricQuality) -> Table | str:
    head = f"{found.judge} ({found.version or 'no score yet'}), {found.metric}: {found.n_scored:,} scored"
    if found.agreement is None:
        return f"{head}, none labelled; `bandit-server label --out FILE` gives people some to label"
    whole = found.agreement
    table = Table(title=f"{head}, {whole.n:,} labelled", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("judge beside people", "value", "95 %"):
        table.add_column(column, justify="left" if column[0] == "j" else "right")
    low, high = whole.accuracy.interval
    table.add_row("the same value", f"{whole.accuracy.share:.1%}", f"{low:.1%} to {high:.1%}")
    for name, kappa in (("kappa", whole.kappa), ("kappa, squared weights", whole.quadratic_kappa)):
        table.add_row(name, "–" if kappa.value is None else f"{kappa.value:.3f}", kappa.note)
    table.add_row("judge − people", f"{whole.bias.mean:+.3f}", _interval(whole.bias.interval, whole.bias.note))
    for variant, bias in found.bias_differs.items():
        test = bias.test
        shown = "–" if test is None else f"{test.difference:+.3f}"
        differs = bias.note if bias.differs is None else "differs" if bias.differs else "no difference seen"
        table.add_row(f"… in {variant} less that in control", shown, differs)
    return table


def _estimates(found: MetricQuality) -> Table:
    table = Table(title=f"{found.metric}, by people's measure", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "corrected", "95 %", "labels alone", "judge alone", "worth labels"):
        table.add_column(column, justify="left" if not column else "right")
    for name, mean in found.means.items():
        _row(table, name, mean)
    for name, difference in found.differences.items():
        _row(table, f"{name} − control", difference)
    return table


def _row(table: Table, name: str, found: PredictionPowered | PredictionPoweredDifference | Refusal) -> None:
    if isinstance(found, Refusal):
        table.add_row(name, "–", found.reason)
        return
    worth = f"{found.effective_labels:,.0f}" if isinstance(found, PredictionPowered) else f"x {found.gain:.1f}"
    row = (
        _value(found.corrected),
        _interval(found.corrected.interval),
        *map(_both, (found.labels_only, found.judge_only)),
    )
    table.add_row(name, *row, worth)


def _notes(found: MetricQuality) -> list[str]:
    notes = []
    if found.drift is not None and found.drift.p_value is not None and found.drift.trustworthy:
        p = found.drift.p_value
        notes.append(f"The judge's bias {'changed over time' if p < 0.05 else 'did not move over time'} (p = {p:.2g}).")
    length = found.verbosity
    if length is not None and length.rho is not None and length.p_value is not None and length.n >= FEWEST_BY_LENGTH:
        seen = "goes with" if length.p_value < 0.05 else "does not go with"
        notes.append(
            f"What the judge gives more than people {seen} the length of the answer"
            f" (Spearman {length.rho:+.2f}, p = {length.p_value:.2g})."
        )
    for name, mean in found.means.items():
        reasons = () if isinstance(mean, Refusal) else mean.reasons
        notes += [f"{name}: {reason}" for reason in reasons]
    return notes


def _value(estimate: Estimate) -> str:
    return f"{estimate.value:.4g}"


def _both(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{estimate.value:.4g} ({low:.4g} to {high:.4g})"


def _interval(interval: tuple[float, float] | None, note: str = "") -> str:
    return note if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
