"""The frontier of a plan, as people read it."""

from __future__ import annotations

from rich import box
from rich.table import Table

from bandit.report.numbers import percent
from simulations.charts.frontier import frontier as picture
from simulations.charts.style import Spec
from simulations.compare import FIXED
from simulations.plans.frontier import Frontier, Point
from simulations.plans.sizing import Sizing
from simulations.scores import Estimate
from simulations.tables import shown

_HEAD = ("gain, acted on", "gain, else", "users to a decision", "days", "decided", "on the best variant")


def frontier_picture(sized: Sizing, found: Frontier) -> Spec:
    """Return the frontier as a picture."""
    rows = [point.to_dict() for point in (*found.points[1:], found.fixed)]
    runs = f"{found.replications:,} runs of {found.users:,} users, seed {found.seed}; {sized.experiment.key}"
    world = f"control at {sized.plan.baseline:.4g}, one variant at {sized.plan.target:.4g}, all others like control"
    return picture(rows, sized.experiment.goal.metric, (runs, world), found.better)


def frontier_parts(sized: Sizing, found: Frontier) -> list[str | Table]:
    """Return the frontier as a table, what it says, and what it rests on."""
    table = Table(title="Moving traffic, by simulation", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("least share")
    for name in _HEAD:
        table.add_column(name, justify="right")
    for point in (*found.points, found.fixed):
        table.add_row(_name(point), *_cells(point, found))
    return [table, *_sentences(sized, found)]


def _name(point: Point) -> str:
    if point.setting.policy == FIXED:
        return "fixed split"
    return "as in the file" if point.setting.floor is None else percent(point.setting.floor)


def _cells(point: Point, found: Frontier) -> list[str]:
    reward = found.sign * abs(found.fixed.score.numbers["reward_per_user"].value or 0.0)
    deciding = point.score.deciding
    return [
        _relative(point.over_fixed.get("reward_acted_on"), reward),
        _relative(point.over_fixed.get("reward_per_user"), reward),
        shown(deciding["users_to_decision"]),
        f"{point.days:,.1f}",
        shown(deciding["decided"], percent=True),
        shown(point.score.numbers["share_best"], percent=True),
    ]


def _relative(found: Estimate | None, reward: float) -> str:
    if found is None or found.value is None or not reward:
        return ""
    error = None if found.error is None else found.error / abs(reward)
    return shown(Estimate(found.value / reward, error), percent=True)


def _sentences(sized: Sizing, found: Frontier) -> list[str]:
    best, own, fixed = found.best, found.points[0], found.fixed
    goal = sized.experiment.goal
    policy = own.setting.policy
    if best is fixed:
        advice = (
            f"Launch a fixed split: no least share that decides {percent(found.power)} of the runs gives more, if"
            " everybody gets what was decided from the decision on."
        )
    else:
        floors = "the floors of the file" if best is own else f"a least share of {_name(best)}"
        advice = (
            f"Launch {policy} with {floors}: of all that decide {percent(found.power)} of the runs it gains most,"
            f" {_cells(best, found)[0]} of {goal.metric} over {found.users:,} users against a fixed split, if"
            f" everybody gets what was decided from the decision on. It decides after {best.days:,.1f} days in the"
            f" mean, the fixed split after {fixed.days:,.1f}."
        )
    legend = (
        f"gain: by how much {goal.metric} per user is better than under the fixed split, on the same luck; acted on:"
        " everybody gets what was decided from then on; else: nobody does. A lower least share gains more while it"
        " learns, and takes longer to decide."
    )
    world = (
        f"The world: control at {sized.plan.baseline:.4g}, one variant at {sized.plan.target:.4g}, all others like"
        f" control; {found.replications:,} runs of {found.users:,} users, seed {found.seed}; ± is one standard error."
        " Rewards come at once; guardrails are not in it."
    )
    return [advice, legend, world, *(f"Note: {note}." for note in found.notes)]
