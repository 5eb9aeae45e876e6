"""Default floors: reward against the time to a decision for 2, 3, 4 and 6 variants.

python -m tests.benchmarks.floors [--replications 1000]

Control resolves 30 %, one variant 33 %, all others as many as control; a run has twice the users that a fixed split
needs for looks at any time. Printed as Markdown.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bandit.experiment import Experiment, parse
from simulations.plans.frontier import Point, frontier
from simulations.plans.sizing import sizing
from simulations.scores import Estimate

ARMS = (2, 3, 4, 6)


def asked(n_arms: int) -> Experiment:
    """Return the experiment with so many variants and default floors."""
    variants = [{"key": key, "control": key == "A"} for key in "ABCDEF"[:n_arms]]
    goal = {"metric": "resolved", "kind": "binary", "baseline": 0.3, "mde": 0.1}
    return parse({"key": "floors", "variants": variants, "goal": goal})


def main(replications: Annotated[int, typer.Option(min=2, help="runs of each floor")] = 1_000, seed: int = 1) -> None:
    """Print the frontier for each number of variants."""
    typer.echo("| variants | least share | gain, acted on | gain, else | users to a decision | decided |")
    typer.echo("|---|---|---|---|---|---|")
    for n_arms in ARMS:
        experiment = asked(n_arms)
        found = frontier(sizing(experiment, 1000.0), replications=replications, seed=seed)
        reward = found.fixed.score.numbers["reward_per_user"].value or 1.0
        for point in (*found.points, found.fixed):
            name = _name(experiment, point)
            typer.echo(f"| {n_arms} | {name} | {_gains(point, reward)} | {_decides(point)} |")


def _name(experiment: Experiment, point: Point) -> str:
    if point.setting.policy == "fixed":
        return "fixed split"
    if point.setting.floor is not None:
        return f"{point.setting.floor:.0%}"
    control, floor = experiment.floors[:2]
    return f"default: {floor:.1%}, control {control:.0%}"


def _gains(point: Point, reward: float) -> str:
    cells = []
    for name in ("reward_acted_on", "reward_per_user"):
        found = point.over_fixed.get(name, Estimate(None, None))
        if found.value is None or found.error is None:
            cells.append("")
        else:
            cells.append(f"{100 * found.value / reward:.2f} ± {100 * found.error / reward:.2f} %")
    return " | ".join(cells)


def _decides(point: Point) -> str:
    decided = point.score.deciding["decided"].value or 0.0
    return f"{point.score.until_decision:,.0f} | {decided:.1%}"


if __name__ == "__main__":
    typer.run(main)
