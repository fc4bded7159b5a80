"""Colours and type of the charts, on white and on dark ground.

Categories take Okabe and Ito's palette, which readers with any common colour blindness tell apart, darkened
or lightened until each keeps a contrast of at least 3 to 1 against its ground (WCAG 2.2, 1.4.11). Ordered
values take a ramp of one lightness direction. Colour never carries meaning alone: shapes, dashes, the data
tables and the tooltips repeat it.
"""

from __future__ import annotations

from typing import Any, Literal

Ground = Literal["light", "dark"]

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
"""The font of page and charts: the reader's own, since nothing is fetched."""

LARGEST_RAMP = 12
"""Values of a grid up to this many have a colour each; more share a continuous ramp."""

MOST_IN_ORDER = 30
"""A paper's figure tells up to this many numbers apart by colours in order, as many as a legend lists."""

_CATEGORIES = {
    "light": ["#0072b2", "#d55e00", "#00866a", "#b0578a", "#9a6b00", "#2b8cc4", "#7b4fa3", "#5a5a5a"],
    "dark": ["#56b4e9", "#f28e3c", "#2cc39b", "#e08fbf", "#e3b341", "#9ecae9", "#b99be0", "#bdbdbd"],
}
_RAMP = {
    "light": ["#3b0f6f", "#2c5f9e", "#1f9088", "#7a9a01", "#d98200"],
    "dark": ["#7d6bd6", "#4f9be0", "#35c2ad", "#a9d04a", "#ffc04d"],
}
_DIVERGING = {
    # No end is so strong that the ground's ink could not be read on it (contrast 4 and more).
    "light": ["#5b9fd0", "#aaccea", "#f5f4f1", "#f4c493", "#e0904a"],
    "dark": ["#2a6fa3", "#28506f", "#262a31", "#6b4526", "#a85f26"],
}
_INK = {
    "light": {"text": "#1d2330", "quiet": "#566072", "line": "#c9ced8", "grid": "#eceef2"},
    "dark": {"text": "#e8eaf0", "quiet": "#a6aebd", "line": "#4a5263", "grid": "#2c323e"},
}


def config(ground: Ground) -> dict[str, Any]:
    """Return the Vega-Lite configuration of a ground: fonts, colours, named colour ranges."""
    ink = _INK[ground]
    ramps = {f"ramp{n}": ramp(ground, n) for n in range(1, MOST_IN_ORDER + 1)}
    return {
        "font": FONT,
        "background": "transparent",
        # The page names each chart once and offers its data as a table; a label per mark would only be noise.
        "aria": False,
        "view": {"stroke": "transparent"},
        "mark": {"color": _CATEGORIES[ground][0]},
        "axis": {
            "labelColor": ink["quiet"],
            "titleColor": ink["text"],
            "labelFontSize": 11,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "titlePadding": 8,
            "domainColor": ink["line"],
            "tickColor": ink["line"],
            "gridColor": ink["grid"],
            "labelPadding": 4,
            "labelFlush": False,  # pushed inwards, the labels at the ends run into their neighbours
        },
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "labelColor": ink["quiet"],
            "titleColor": ink["text"],
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": 500,
            "labelLimit": 110,
            "titleLimit": 240,
            "symbolBaseFillColor": ink["quiet"],
            "symbolBaseStrokeColor": ink["quiet"],
            "symbolOpacity": 1,
            # Side by side, two legends run out of a narrow chart.
            "layout": {"top": {"anchor": "start", "direction": "vertical", "margin": 4}},
            "columns": 5,
            "columnPadding": 10,
            "rowPadding": 2,
            "offset": 8,
        },
        "title": {
            "color": ink["text"],
            "subtitleColor": ink["quiet"],
            "anchor": "start",
            "frame": "bounds",
            "fontSize": 13,
            "fontWeight": 600,
            "subtitleFontSize": 11.5,
            "subtitlePadding": 4,
            "offset": 10,
        },
        "text": {"color": ink["text"]},
        "rule": {"color": ink["quiet"]},
        "range": {
            "category": _CATEGORIES[ground],
            "ramp": ramp(ground, LARGEST_RAMP),
            "diverging": _DIVERGING[ground],
            "symbol": ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"],
            **ramps,
        },
    }


def ramp(ground: Ground, n: int) -> list[str]:
    """Return ``n`` colours evenly spaced along the ramp of a ground, dark or cool end first.

    >>> ramp("light", 2)
    ['#3b0f6f', '#d98200']
    >>> len(set(ramp("dark", 12)))
    12
    """
    stops = [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in _RAMP[ground]]
    colours = []
    for i in range(n):
        at = (len(stops) - 1) * (i / (n - 1) if n > 1 else 0.25)
        left = min(int(at), len(stops) - 2)
        mix = [a + (at - left) * (b - a) for a, b in zip(stops[left], stops[left + 1], strict=True)]
        colours.append("#" + "".join(f"{round(part):02x}" for part in mix))
    return colours
