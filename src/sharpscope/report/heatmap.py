"""Every measure against every outcome at a glance: τ_b, with and without the control."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sharpscope.report.chart import Chart, Column, Spec
from sharpscope.report.numbers import coefficient, name_of

_ROW = 34


def heatmap(found: pd.DataFrame, titles: Mapping[str, str]) -> Chart | None:
    """Return the heat-map of Kendall's τ_b, None where there is no value at all.

    A value stands in bold where its interval leaves out zero; a cell without a value shows a dash.
    """
    rows = found[found["method"] == "kendall"]
    if not len(rows) or not np.isfinite(rows["value"]).any():
        return None
    data: dict[str, Column] = {
        name: [] for name in ("measure", "column", "value", "low", "high", "text", "clear")
    }
    for _, row in rows.iterrows():
        value, low, high = (float(row[name]) for name in ("value", "low", "high"))
        control = f"|given {name_of(row['given'])}" if row["given"] else "|"
        data["measure"].append(titles.get(row["measure"], row["measure"]))
        data["column"].append(name_of(row["target"]) + control)
        data["value"].append(value if np.isfinite(value) else None)
        data["low"].append(low if np.isfinite(low) else None)
        data["high"].append(high if np.isfinite(high) else None)
        data["text"].append(coefficient(value))
        data["clear"].append(bool(low > 0 or high < 0))
    columns = list(dict.fromkeys(data["column"]))
    outcomes = [column.split("|")[0] for column in columns]
    columns.sort(key=lambda column: outcomes.index(column.split("|")[0]))  # each beside its control
    order = list(dict.fromkeys(data["measure"]))
    x = {
        "field": "column",
        "type": "ordinal",
        "sort": columns,
        "title": None,
        "axis": {
            "orient": "top",
            "labelAngle": 0,
            "labelExpr": "split(datum.label, '|')",
            "labelLimit": 130,
            "labelPadding": 19,
            "domain": False,
            "ticks": False,
        },
    }
    y = {
        "field": "measure",
        "type": "ordinal",
        "sort": order,
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelLimit": 150, "labelPadding": 8},
    }
    scale = {"domain": [-1, 1], "domainMid": 0, "range": "diverging", "interpolate": "lab"}
    cell = {
        "mark": {"type": "rect", "cornerRadius": 3, "tooltip": {"content": "data"}},
        "encoding": {
            "color": {"field": "value", "type": "quantitative", "scale": scale, "legend": None},
        },
    }
    words: list[Spec] = [
        {
            "transform": [{"filter": f"{'' if clear else '!'}datum.clear"}],
            "mark": {
                "type": "text",
                "fontSize": 12.5,
                "fontWeight": 700 if clear else 400,
                "tooltip": {"content": "data"},
            },
            "encoding": {"text": {"field": "text"}},
        }
        for clear in (True, False)
    ]
    return Chart(
        id="correlations",
        title="Rank correlation of every measure with every outcome",
        spec={"encoding": {"x": x, "y": y}, "layer": [cell, *words], "config": {"axis": {"grid": False}}},
        data=data,
        headings={
            "measure": "measure",
            "column": "outcome",
            "value": "τ_b",
            "low": "low",
            "high": "high",
        },
        description="Heat-map of Kendall's τ_b; the table below holds the same numbers with their intervals.",
        height=_ROW * len(order),
        lines=("Kendall’s τ_b; bold: the 95 % interval leaves out zero",),
    )
