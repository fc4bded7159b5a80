"""The figure of a loss surface: cells, contour lines, the model, and its trajectory where there is one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpscope.errors import InputError
from sharpscope.landscape.surface import Surface

Spec = dict[str, Any]

LEVELS = 12
"""Contour lines of a surface, evenly spaced in the logarithm of the loss where it spans a factor of 20."""

OVERLAP = 1.04
"""Width of a cell in steps of the grid: cells that only touch let the ground shine through between them."""

TRAJECTORY = "#d55e00"
"""Colour of a trajectory, which no loss has."""


def surface_figure(surface: Surface) -> Spec:
    """Return the loss over the plane as cells with contour lines; a cross marks the model, a line its trajectory.

    Raises `InputError` where no loss is finite, as of a call that ended before its first point.
    """
    finite = surface.losses[np.isfinite(surface.losses)]
    if not finite.size:
        raise InputError("a surface's chart needs a finite loss, this one has none; give it more time")
    low, high = float(finite.min()), float(finite.max())
    logarithmic = low > 0 and high / low > 20
    levels = (
        np.geomspace(low, high, LEVELS + 2)[1:-1] if logarithmic else np.linspace(low, high, LEVELS + 2)[1:-1]
    )
    half = [OVERLAP * float(axis[1] - axis[0]) / 2 for axis in (surface.x, surface.y)]
    cells = [
        {
            "x0": float(x) - half[0],
            "x1": float(x) + half[0],
            "y0": float(y) - half[1],
            "y1": float(y) + half[1],
            "loss": float(surface.losses[j, i]) if math.isfinite(surface.losses[j, i]) else None,
        }
        for j, y in enumerate(surface.y)
        for i, x in enumerate(surface.x)
    ]
    scale: Spec = {"scheme": "viridis", "reverse": True, **({"type": "log"} if logarithmic else {})}
    x = {"type": "quantitative", "title": "first direction", "scale": {"nice": False}}
    y = {"type": "quantitative", "title": "second direction", "scale": {"nice": False}}
    return {
        "width": 340,
        "height": 340,
        "layer": [
            {
                "data": {"values": cells},
                "mark": "rect",
                "encoding": {
                    "x": {**x, "field": "x0"},
                    "x2": {"field": "x1"},
                    "y": {**y, "field": "y0"},
                    "y2": {"field": "y1"},
                    "color": {
                        "field": "loss",
                        "type": "quantitative",
                        "scale": scale,
                        "legend": {"title": "loss", "orient": "right", "direction": "vertical", "tickCount": 5},
                    },
                },
            },
            {
                "data": {"values": _contours(surface, levels)},
                "mark": {"type": "line", "strokeWidth": 0.8, "color": "white", "opacity": 0.8},
                "encoding": {
                    "x": {**x, "field": "x"},
                    "y": {**y, "field": "y"},
                    "detail": {"field": "line"},
                    "order": {"field": "order"},
                },
            },
            *([] if surface.trajectory is None else [_path(surface.trajectory, x, y)]),
            {
                "data": {"values": [{"x": 0, "y": 0}]},
                "mark": {"type": "point", "shape": "cross", "size": 90, "color": "#fff", "stroke": "#111"},
                "encoding": {"x": {**x, "field": "x"}, "y": {**y, "field": "y"}},
            },
        ],
    }  # fmt: skip


def _path(trajectory: NDArray[np.float64], x: Spec, y: Spec) -> Spec:
    """Return the line through the earlier weights (k, 2), which ends at the model."""
    places = [*trajectory.tolist(), [0.0, 0.0]]
    return {
        "data": {"values": [{"x": a, "y": b, "order": i} for i, (a, b) in enumerate(places)]},
        "mark": {
            "type": "line", "color": TRAJECTORY, "strokeWidth": 2, "point": {"color": TRAJECTORY, "size": 30},
        },
        "encoding": {
            "x": {**x, "field": "x"}, "y": {**y, "field": "y"}, "order": {"field": "order"},
        },
    }  # fmt: skip


def _contours(surface: Surface, levels: NDArray[np.float64]) -> list[dict[str, object]]:
    from contourpy import contour_generator

    losses = np.where(np.isfinite(surface.losses), surface.losses, np.nan)
    lines = contour_generator(surface.x, surface.y, np.ma.masked_invalid(losses))
    rows: list[dict[str, object]] = []
    for i, level in enumerate(levels):
        for j, line in enumerate(lines.lines(float(level))):
            rows += [
                {"line": f"{i}-{j}", "order": n, "x": float(x), "y": float(y)}
                for n, (x, y) in enumerate(np.asarray(line))
            ]
    return rows
