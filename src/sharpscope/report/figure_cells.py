"""A declared figure of a surface: the loss over a plane around a model, as coloured cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sharpscope.report.chart import Chart, Spec
from sharpscope.report.numbers import name_of, number
from sharpscope.report.scales import scale_of


def cells(chart_id: str, title: str, rows: pd.DataFrame, value: str) -> Chart:
    """Return the chart of one surface: ``rows`` hold a point each (``x``, ``y`` and the column ``value``)."""
    step = {axis: _step(rows[axis]) / 2 for axis in ("x", "y")}
    finite = rows[np.isfinite(rows[value])]
    scale = scale_of(finite[value])
    kind: Spec = (
        {"type": scale.kind, "constant": scale.constant} if scale.kind == "symlog" else {"type": scale.kind}
    )

    def side(field: str, name: str) -> Spec:
        plain = {"zero": False, "nice": False}
        return {
            "field": field,
            "type": "quantitative",
            "title": name,
            "scale": plain,
            "axis": {"grid": False},
        }

    colour = {
        "field": "value",
        "type": "quantitative",
        "title": name_of(value),
        "scale": {**kind, "scheme": "viridis", "reverse": True, "domain": [scale.domain[0], scale.domain[1]]},
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "tooltip": {"content": "data"}},
            "encoding": {
                "x": side("x0", "first direction"),
                "x2": {"field": "x1"},
                "y": side("y0", "second direction"),
                "y2": {"field": "y1"},
                "color": colour,
            },
        },
        {
            "transform": [{"filter": "datum.x == 0 && datum.y == 0"}],
            "mark": {"type": "point", "shape": "cross", "size": 90, "filled": True, "color": "#111111"},
            "encoding": {"x": side("x", "first direction"), "y": side("y", "second direction")},
        },
    ]
    data = {axis: [float(v) for v in finite[axis]] for axis in ("x", "y")}
    for axis in ("x", "y"):
        data[f"{axis}0"] = [float(v) - step[axis] for v in finite[axis]]
        data[f"{axis}1"] = [float(v) + step[axis] for v in finite[axis]]
    data["value"] = [float(f"{v:.6g}") for v in finite[value]]
    low, high = float(finite[value].min()), float(finite[value].max())
    return Chart(
        id=chart_id,
        title=title,
        spec={"layer": layers},
        data=data,
        headings={"x": "first direction", "y": "second direction", "value": name_of(value)},
        description=f"{title}, between {number(low)} and {number(high)}; the cross marks the model.",
        height=300,
        lines=("the cross marks the model",),
    )


def _step(values: pd.Series[float]) -> float:
    grid = np.unique(values.to_numpy())
    return float(np.diff(grid).min()) if len(grid) > 1 else 1.0
