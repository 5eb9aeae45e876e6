"""Pictures of a comparison as specifications of Vega-Lite, with their data inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bandit.arrays import FloatArray
from simulations.charts.style import HEIGHT, PANEL_HEIGHT, PANEL_WIDTH, WIDTH, Spec, colour, series, users_axis, whole
from simulations.compare import Comparison
from simulations.paths import CREDIBLE, INNER, Band, Path
from simulations.tables import MOST_TOLD
from simulations.worlds import World

_FEW = 5
"""Variants that a subtitle names; of more it gives the range."""

_WITHIN = f"band: from the {INNER[0]:.0%} to the {INNER[1]:.0%} quantile of the runs"


def pictures(result: Comparison) -> dict[str, Spec]:
    """Return all pictures of a comparison, by the name of their file.

    That of exposure is left out where no variant breaks a limit.

    Args:
        result: Compared with `draw`.
    """
    found = {
        "regret": regret(result),
        "reward": reward(result),
        "allocation": allocation(result),
        "posteriors": posteriors(result),
        "decisions": decision_times(result),
    }
    if any(path.exposed.mean[-1] > 0.0 for path in result.paths.values()):
        found["exposure"] = exposure(result)
    return found


def regret(result: Comparison) -> Spec:
    """Return cumulative regret over users, a line with a band for each policy."""
    title = "Regret: what is lost against the best variant"
    y_title = f"regret so far, {result.experiment.goal.metric} × users"
    bands = {name: path.regret for name, path in result.paths.items()}
    return _by_policy(result, title, bands, _y(y_title, zero=True))


def reward(result: Comparison) -> Spec:
    """Return expected reward per user so far, a line with a band for each policy."""
    goal = result.experiment.goal
    title = f"Reward: {goal.metric} per user so far"
    bands = {name: path.reward for name, path in result.paths.items()}
    return _by_policy(result, title, bands, _y(f"{goal.metric} per user so far ({goal.better} is better)"))


def exposure(result: Comparison) -> Spec:
    """Return users so far on variants that truly break a limit, a line with a band for each policy."""
    title = "Exposure: users on a variant that truly breaks a limit"
    bands = {name: path.exposed for name, path in result.paths.items()}
    return _by_policy(result, title, bands, _y("such users of a run so far", zero=True))


def allocation(result: Comparison) -> Spec:
    """Return the share of each variant over users, a small picture for each policy."""
    y = _y("probability of the variant", domain=[0.0, 1.0], percent=True)
    bands = {name: path.allocation for name, path in result.paths.items()}
    rows = _rows_by_arm(result, bands)
    return _by_arm(result, "Allocation: where each policy sends users", [_WITHIN], rows, y, [])


def posteriors(result: Comparison) -> Spec:
    """Return what each policy believes of each variant over users, with the truth as thin lines."""
    title = "Posteriors: what each policy believes of each variant"
    subtitle = f"band: {CREDIBLE:.0%} credible interval, its ends averaged over runs; thin black lines: the truth"
    bands = {name: path.posterior for name, path in result.paths.items()}
    rows = _rows_by_arm(result, bands)
    truths = {(name, arm): path.truth[:, k] for name, path in result.paths.items() for k, arm in _arms(result)}
    places = {name: {int(users): at for at, users in enumerate(path.users)} for name, path in result.paths.items()}
    for row in rows:
        row["truth"] = _short(truths[row["policy"], row["arm"]][places[row["policy"]][row["users"]]])
    truth: Spec = {
        "mark": {"type": "line", "strokeWidth": 1, "stroke": "#222222", "interpolate": "step-before"},
        "encoding": {"y": {"field": "truth", "type": "quantitative"}, "detail": {"field": "arm"}},
    }
    y = _y(f"mean of {result.experiment.goal.metric}")
    return _by_arm(result, title, [subtitle], rows, y, [truth])


def decision_times(result: Comparison) -> Spec:
    """Return the share of runs that are decided after so many users; names say how many never are."""
    rows, names = [], []
    for policy, path in result.paths.items():
        undecided = float(np.isinf(path.decided_after).mean())
        names.append(f"{policy}: {f'{undecided:.1%}' if undecided else 'none'} undecided")
        shares = (path.decided_after[:, np.newaxis] <= path.users).mean(axis=0)
        rows += [
            {"policy": names[-1], "users": int(users), "mean": _short(share)}
            for users, share in zip(path.users, shares, strict=True)
        ]
    y = _y("share of the runs that are decided", domain=[0.0, 1.0], percent=True)
    line = {"type": "line", "strokeWidth": 2.2, "interpolate": "step-after"}
    body: Spec = {
        "data": {"values": rows},
        "width": WIDTH,
        "height": HEIGHT,
        "encoding": {"x": _users(result)},
        "layer": [
            {"mark": line, "encoding": {"y": {"field": "mean", **y}, **series("policy", names)}},
            _hover("policy", names, edges=False),
        ],
    }
    subtitle = [f"undecided: by {result.users:,} users the evidence says of no variant what to do", *setting(result)]
    return whole("Decisions: after how many users a run is decided", subtitle, body)


def setting(result: Comparison) -> list[str]:
    """Return in which world pictures were found, and how: lines of a subtitle."""
    starts = [0, *(change.after_users for change in result.world.changes)]
    truths = [
        (f"after {start:,} users " if start else "") + _truth(stretch)
        for start, stretch in zip(starts, result.world.stretches, strict=True)
    ]
    if len(truths) > MOST_TOLD:
        truths = [truths[0], "step by step", truths[-1]]
    metric = result.experiment.goal.metric
    return [
        f"{result.replications:,} runs of {result.users:,} users, seed {result.seed}; {result.experiment.key}",
        f"true mean of {metric}: {'; '.join(truths)}",
    ]


def _truth(world: World) -> str:
    """Return the true means of a world in a few words."""
    arms, means = world.experiment.arms, world.means
    if len(arms) > _FEW:
        return f"{means.min():.4g} to {means.max():.4g} over {len(arms)} variants"
    return ", ".join(f"{arm} {mean:.4g}" for arm, mean in zip(arms, means, strict=True))


def _by_policy(result: Comparison, title: str, bands: Mapping[str, Band], y: Spec) -> Spec:
    """Return one picture with a line and a band for each policy."""
    rows = [row for name, band in bands.items() for row in _rows(result.paths[name], band, policy=name)]
    body: Spec = {
        "data": {"values": rows},
        "width": WIDTH,
        "height": HEIGHT,
        "encoding": {"x": _users(result)},
        "layer": [*_band_and_line("policy", list(bands), y), _hover("policy", list(bands))],
    }
    return whole(title, [_WITHIN, *setting(result)], body)


def _by_arm(
    result: Comparison, title: str, subtitle: Sequence[str], rows: list[dict[str, Any]], y: Spec, more: Sequence[Spec]
) -> Spec:
    """Return a small picture for each policy, with a line and a band for each variant."""
    arms = result.experiment.arms
    body: Spec = {
        "data": {"values": rows},
        "facet": {"field": "policy", "type": "nominal", "title": None, "sort": list(result.paths)},
        "columns": min(len(result.paths), 2),
        "spec": {
            "width": PANEL_WIDTH,
            "height": PANEL_HEIGHT,
            "encoding": {"x": _users(result, (1,))},
            "layer": [*_band_and_line("arm", arms, y, more), _hover("arm", arms)],
        },
    }
    return whole(title, [*subtitle, *setting(result)], body)


def _band_and_line(field: str, names: Sequence[str], y: Spec, between: Sequence[Spec] = ()) -> list[Spec]:
    """Return a band and over it its line, for each of some series; many bands are paler."""
    opacity = min(0.12, 0.5 / len(names))
    return [
        {
            "mark": {"type": "area", "opacity": opacity},
            "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}, "color": colour(field, names)},
        },
        *between,
        {
            "mark": {"type": "line", "strokeWidth": 2.2},
            "encoding": {"y": {"field": "mean", **y}, **series(field, names)},
        },
    ]


def _hover(field: str, names: Sequence[str], *, edges: bool = True) -> Spec:
    """Return points that show themselves and their numbers under the pointer; only a page can use them."""
    columns = ["mean", *(("low", "high") if edges else ())]
    return {
        # Not the nearest point: Vega-Lite 6 then reads no name from its row and says "undefined".
        "params": [{"name": "under", "select": {"type": "point", "on": "pointerover", "clear": "pointerout"}}],
        "mark": {"type": "point", "filled": True, "size": 150},
        "encoding": {
            "y": {"field": "mean", "type": "quantitative"},
            "color": colour(field, names),
            "opacity": {"condition": {"param": "under", "empty": False, "value": 1}, "value": 0},
            "tooltip": [
                {"field": field, "type": "nominal"},
                {"field": "users", "type": "quantitative", "format": ",d"},
                *({"field": column, "type": "quantitative", "format": ",.5~g"} for column in columns),
            ],
        },
    }


def _y(title: str, *, zero: bool = False, domain: list[float] | None = None, percent: bool = False) -> Spec:
    scale: Spec = {"zero": zero} if domain is None else {"domain": domain}
    axis: Spec = {"format": ".0%"} if percent else {}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _users(result: Comparison, ticks: Sequence[int] = (1, 2, 5)) -> Spec:
    firsts = [int(path.users[0]) for path in result.paths.values()]
    return users_axis(min(firsts), result.users, ticks)


def _arms(result: Comparison) -> Iterable[tuple[int, str]]:
    return enumerate(result.experiment.arms)


def _rows_by_arm(result: Comparison, bands: Mapping[str, Band]) -> list[dict[str, Any]]:
    return [
        row
        for name, band in bands.items()
        for k, arm in _arms(result)
        for row in _rows(
            result.paths[name], Band(band.mean[:, k], band.low[:, k], band.high[:, k]), policy=name, arm=arm
        )
    ]


def _rows(path: Path, band: Band, **names: str) -> list[dict[str, Any]]:
    """Return a row per point; numbers have the digits that are seen."""
    columns: tuple[FloatArray, ...] = (band.mean, band.low, band.high)
    return [
        {**names, "users": int(users), "mean": _short(mean), "low": _short(low), "high": _short(high)}
        for users, mean, low, high in zip(path.users, *columns, strict=True)
    ]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
