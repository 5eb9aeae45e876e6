"""One look for all pictures: readable for colour-blind people, and in print without colour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, Final

Spec = dict[str, Any]
"""A specification of Vega-Lite, or a part of one, as JSON values."""

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the language; nothing is loaded from there."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
"""Okabe and Ito's colours, dark ones first; without yellow, which is not seen on white."""

DASHES = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3), (14, 4), (4, 4), (12, 3, 2, 3, 2, 3), (1, 4))
"""Dashes of lines, so that one under another is seen in its gaps. There are 8 and 7 colours: 56 lines all differ."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
"""Shapes of points, likewise."""

WIDTH, HEIGHT = 640, 340
"""Of a picture's data, in pixels."""

PANEL_WIDTH, PANEL_HEIGHT = 310, 210
"""Of each of many small pictures side by side, two in a row."""

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

CONFIG: Final[Spec] = {
    "background": "white",
    "font": FONT,
    "view": {"stroke": "#cccccc"},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": "#e8e8e8",
        "labelColor": "#333333",
    },
    "legend": {
        "orient": "bottom",
        "labelFontSize": 12,
        "symbolType": "stroke",
        "symbolSize": 1000,
        "symbolOpacity": 1,
        "symbolStrokeWidth": 2.5,
        "title": None,
    },
    "header": {"labelFontSize": 13, "labelFontWeight": "bold", "labelAnchor": "start", "labelLimit": PANEL_WIDTH},
    "title": {
        "anchor": "start",
        "frame": "group",
        "fontSize": 16,
        "subtitleFontSize": 12,
        "subtitleColor": "#444444",
        "subtitlePadding": 5,
        "offset": 14,
        "limit": WIDTH,
    },
}

DECADES = 100.0
"""Users are shown on a logarithmic axis from this ratio of the last to the first on."""


def whole(title: str, subtitle: Sequence[str], body: Spec) -> Spec:
    """Return a picture with its title and the common look.

    Args:
        title: What is seen.
        subtitle: Lines under it: how to read it, and in which world it was found.
        body: Data, marks, encodings.
    """
    return {
        "$schema": SCHEMA,
        "config": CONFIG,
        "padding": 12,
        "title": {"text": title, "subtitle": list(subtitle)},
        **body,
    }


def series(field: str, names: Sequence[str]) -> Spec:
    """Return the encodings that tell lines apart, with their legend: colour and dash, in fixed order.

    Args:
        field: Column with the name of the series.
        names: All of them, in order.
    """
    legend = {"columns": columns(names), "labelLimit": WIDTH // columns(names) - 50}
    dash = {"field": field, "type": "nominal", "scale": scale(names, DASHES), "title": None, "legend": legend}
    return {"color": {**colour(field, names), "legend": legend}, "strokeDash": dash}


def columns(names: Sequence[str]) -> int:
    """Return how many names of a legend stand side by side: as many as there is room for."""
    room_of_a_letter, room_of_a_line = 6.5, 55
    return max(1, int(WIDTH / (room_of_a_line + room_of_a_letter * max(len(name) for name in names))))


def colour(field: str, names: Sequence[str]) -> Spec:
    """Return the encoding of colour alone, for bands and points; they share the legend of their lines."""
    return {"field": field, "type": "nominal", "scale": scale(names, PALETTE), "title": None}


def scale(names: Sequence[str], values: Sequence[object]) -> Spec:
    """Return a scale that gives names values in order, from the start again where there are too few."""
    return {"domain": list(names), "range": list(islice(cycle(values), len(names)))}


def users_axis(first: int, last: int, ticks: Sequence[int] = (1, 2, 5)) -> Spec:
    """Return the horizontal encoding of users: logarithmic where they span decades.

    Args:
        first: Users at the left end, 1 or more.
        last: Users at the right end, no fewer.
        ticks: Which multiples of powers of ten are labelled on a logarithmic axis.
    """
    log = last / first >= DECADES
    axis: Spec = {"format": "~s", "grid": True}
    if log:
        marks = (multiple * 10**power for power in range(len(str(last))) for multiple in ticks)
        axis["values"] = [mark for mark in marks if first <= mark <= last]
    return {
        "field": "users",
        "type": "quantitative",
        "title": "users of a run" + (" (logarithmic)" if log else ""),
        "scale": {"type": "log" if log else "linear", "domain": [first if log else 0, last], "nice": False},
        "axis": axis,
    }
