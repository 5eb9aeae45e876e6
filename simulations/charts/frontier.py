"""What is gained while learning against how long it takes to decide, over floors, as a specification of Vega-Lite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simulations.charts.style import DASHES, HEIGHT, PALETTE, SHAPES, WIDTH, Spec, columns, scale, whole

SURE = 1.96
"""Standard errors on either side of a mean that its error bar is long."""

NEAR = 0.05
"""Part of the whole width and height within which texts at points would overlap."""

_REWARD = "reward_acted_on"
_GAIN = "reward_acted_on_over_fixed"


def frontier(
    rows: Sequence[Mapping[str, Any]], metric: str, subtitle: Sequence[str] = (), better: str = "higher"
) -> Spec:
    """Return one point per set-up: reward against users to a decision, with a line through the floors of a policy.

    Args:
        rows: Each with `policy`, `floor` (None: it has none), `users_to_decision`, `reward_acted_on`, and both with
            `_se`. Where all but the fixed split also have `reward_acted_on_over_fixed` with `_se`, the gain over it is
            drawn: differences of pairs of runs, with much less noise, around the fixed split at 0.
        metric: The goal.
        subtitle: Lines about the world and the runs.
        better: Direction of the goal: a gain is what is better.
    """
    paired = any(_GAIN in row for row in rows) and all(_GAIN in row or row["policy"] == "fixed" for row in rows)
    sign = -1.0 if paired and better == "lower" else 1.0
    points = [_point(row, _GAIN if paired else _REWARD, sign) for row in rows]
    policies = list(dict.fromkeys(point["policy"] for point in points))
    y_title = f"{metric} per user" + (", gain over the fixed split" if paired else "")
    x: Spec = {
        "type": "quantitative",
        "title": "mean users to a decision",
        "scale": {"zero": False, "padding": 30},
        "axis": {"tickCount": 8},
    }
    y: Spec = {"type": "quantitative", "title": y_title, "scale": {"zero": False, "padding": 20}}
    legend = {"columns": columns(policies), "symbolSize": 90, "symbolType": None, "symbolStrokeWidth": 0}
    by_policy: Spec = {"field": "policy", "type": "nominal", "title": None, "legend": legend}
    hue, dash, shape = ({**by_policy, "scale": scale(policies, each)} for each in (PALETTE, DASHES, SHAPES))
    bar: Spec = {"type": "rule", "strokeWidth": 1.2, "opacity": 0.6}
    tooltip = [
        {"field": "policy", "type": "nominal"},
        {"field": "label", "type": "nominal", "title": "set-up"},
        {"field": "users", "type": "quantitative", "format": ",.0f"},
        {"field": "reward", "type": "quantitative", "format": ",.5~g"},
    ]
    body: Spec = {
        "data": {"values": points},
        "width": WIDTH,
        "height": HEIGHT,
        "encoding": {"x": {"field": "users", **x}, "y": {"field": "reward", **y}},
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {"color": hue, "strokeDash": dash, "order": {"field": "floor", "type": "quantitative"}},
            },
            {"mark": bar, "encoding": {"color": hue, "x": {"field": "users_low", **x}, "x2": {"field": "users_high"}}},
            {
                "mark": bar,
                "encoding": {"color": hue, "y": {"field": "reward_low", **y}, "y2": {"field": "reward_high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"color": hue, "shape": shape, "tooltip": tooltip},
            },
            {
                "data": {"values": _labels(points)},
                "mark": {"type": "text", "align": "left", "dx": 8, "dy": 12, "fontSize": 12},
                "encoding": {"text": {"field": "label", "type": "nominal"}},
            },
        ],
    }
    reading = [
        "reward of all users of a run, if everybody gets what was decided from the decision on; bars: 95% confidence",
        "numbers at the points: least share of each variant",
    ]
    return whole("Frontier: what is gained against how long it takes to decide", [*reading, *subtitle], body)


def _labels(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what stands at the points: one text for those so near to each other that texts would overlap."""
    wide, high = (max(p[name] for p in points) - min(p[name] for p in points) for name in ("users", "reward"))
    found: list[dict[str, Any]] = []
    for point in points:
        for label in found:
            if (
                abs(label["users"] - point["users"]) <= NEAR * wide
                and abs(label["reward"] - point["reward"]) <= NEAR * high
            ):
                label["label"] += f", {point['label']}"
                break
        else:
            found.append({name: point[name] for name in ("users", "reward", "label")})
    return found


def _point(row: Mapping[str, Any], reward: str, sign: float) -> dict[str, Any]:
    """Return what is drawn of a row; the fixed split gains nothing over itself."""
    middle, error = sign * row.get(reward, 0.0), row.get(f"{reward}_se") or 0.0
    users, users_error = row["users_to_decision"], row["users_to_decision_se"] or 0.0
    floor = row["floor"]
    return {
        "policy": row["policy"],
        "floor": floor,
        "label": row["policy"] if floor is None else f"{floor:g}",
        "users": users,
        "users_low": users - SURE * users_error,
        "users_high": users + SURE * users_error,
        "reward": middle,
        "reward_low": middle - SURE * error,
        "reward_high": middle + SURE * error,
    }
