"""A declared figure whose rows are runs: every run a point, means over seeds with intervals, a reference line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from sharpscope.analysis import summarise
from sharpscope.analysis.resampling import Floats
from sharpscope.report.chart import Chart, Column, Spec, cut_marks
from sharpscope.report.figure_axes import ColourScale, Side
from sharpscope.report.numbers import counted

_SIDESTEP = 0.012
"""Part of the axis by which the marks of one colour stand apart from the next colour's."""


def points(
    chart_id: str,
    title: str,
    rows: pd.DataFrame,
    x: Side,
    y: Side,
    colour: ColourScale | None,
    line: Floats | None = None,
    line_name: str | None = None,
) -> Chart:
    """Return the chart of ``rows`` (columns ``_x``, ``_y``, ``_c``, ``run_id``, ``seed``).

    Where x is a setting, large marks are means over seeds with Student's 95 % interval and small ones the runs;
    where it was measured, every run is a large mark. ``line`` holds the reference line's value in each row.
    """
    encoded = {"c": "_c"} if colour is not None else {}
    data: dict[str, Column] = {
        k: [] for k in ("kind", "x", "at", "y", "low", "high", "from", "to", "seeds", "id")
    }
    data |= {field: [] for field in encoded}

    def add(**row: Any) -> None:
        for name, column in data.items():
            value = row.get(name)
            column.append(None if isinstance(value, float) and not np.isfinite(value) else value)

    labels = colour.labels if colour is not None else ()

    def beside(value: Any, row: Mapping[Any, Any]) -> Any:
        if not x.grid or x.scale.kind == "ordinal" or len(labels) < 2:
            return x.value(value)
        place = labels.index(row["_c"]) - (len(labels) - 1) / 2
        return x.scale.shifted(float(value), place * min(_SIDESTEP, 0.05 / len(labels)))

    several = False
    if x.grid:
        log: Literal["linear", "log"] = "log" if y.scale.kind == "log" else "linear"
        seed = "seed" if "seed" in rows.columns else "run_id"
        for row in summarise(rows, ["_x", *encoded.values()], "_y", seed=seed, scale=log).to_dict("records"):
            low, high = float(row["low"]), float(row["high"])
            several |= row["seeds"] > 1
            add(
                kind="mean",
                x=x.value(row["_x"]),
                at=beside(row["_x"], row),
                y=float(row["mean"]),
                low=low,
                high=high,
                **{"from": y.scale.clip(low), "to": y.scale.clip(high)},
                seeds=int(row["seeds"]),
                **{field: row[column] for field, column in encoded.items()},
            )
    for row in rows.to_dict("records"):
        add(
            kind="run",
            x=x.value(row["_x"]),
            at=beside(row["_x"], row),
            y=float(row["_y"]),
            id=str(row["run_id"]),
            **{field: row[column] for field, column in encoded.items()},
        )
    drawn = line is not None and _has_line(rows, line)
    if drawn and line is not None:
        for at, height in sorted(set(zip(rows["_x"].tolist(), line.tolist(), strict=True))):
            add(kind="line", x=x.value(at), at=x.value(at), y=float(height))
    notes = []
    if x.grid:
        kind = "geometric mean" if y.scale.kind == "log" else "mean"
        notes.append(f"{kind} over seeds with its 95 % interval" if several else "one seed: no interval")
    if drawn and line_name is not None:
        notes.append(f"dashed: {_line_name(line_name, x)}")
    return Chart(
        id=chart_id,
        title=title,
        spec={"layer": _layers(x, y, colour, drawn)},
        data=data,
        headings={
            "kind": "row",
            "x": x.name,
            "y": y.name,
            "low": "low",
            "high": "high",
            "seeds": "seeds",
            "id": "run",
            **({"c": colour.name} if colour is not None else {}),
        },
        description=f"{title}, {counted(len(rows), 'run')}; {'; '.join(notes) or 'every run a point'}.",
        height=270,
        lines=tuple(notes),
    )


def _layers(x: Side, y: Side, colour: ColourScale | None, line: bool) -> list[Spec]:
    place = {"x": x.encoding("at", grid=False), "y": y.encoding("y")}
    encoded: Spec = {"color": colour.colour()} if colour is not None else {}
    offset: Spec = {}
    if x.scale.kind == "ordinal" and colour is not None:
        offset = {"xOffset": {"field": "c", "sort": list(colour.labels)}}
    tooltip = {"content": "data"}
    small = {"size": 16, "opacity": 0.4} if x.grid else {"size": 56, "opacity": 0.8}
    layers: list[Spec] = []
    if line:
        layers.append(
            {
                "transform": [{"filter": "datum.kind == 'line'"}],
                "mark": {"type": "line", "strokeDash": [6, 4], "strokeWidth": 1.4, "clip": True},
                "encoding": {**place, "color": {"value": "#888888"}},
            }
        )
    if x.grid:
        means = [{"filter": "datum.kind == 'mean'"}]
        if x.scale.kind != "ordinal":
            mark = {"type": "line", "strokeWidth": 1.6, "opacity": 0.85}
            layers.append({"transform": means, "mark": mark, "encoding": {**place, **encoded}})
        layers.append(
            {
                "transform": means,
                "mark": {"type": "rule", "strokeWidth": 1.6, "opacity": 0.75, "tooltip": tooltip},
                "encoding": {
                    "x": place["x"],
                    "y": {**y.encoding("from")},
                    "y2": {"field": "to"},
                    **encoded,
                    **offset,
                },
            }
        )
    layers.append(
        {
            "transform": [{"filter": "datum.kind == 'run'"}],
            "mark": {"type": "point", "filled": True, "tooltip": tooltip, **small},
            "encoding": {**place, **encoded, **offset},
        }
    )
    if x.grid:
        mark = {"type": "point", "filled": True, "size": 62, "opacity": 1, "tooltip": tooltip}
        layers.append({"transform": means, "mark": mark, "encoding": {**place, **encoded, **offset}})
        layers += cut_marks(y.encoding("from"), {"x": place["x"], **encoded, **offset})
    return layers


def _has_line(rows: pd.DataFrame, line: Floats) -> bool:
    """Return whether the reference is one line over x: a single value at each."""
    finite = np.isfinite(line)
    return bool(finite.all()) and bool(
        pd.Series(line.round(9)).groupby(rows["_x"].to_numpy()).nunique().le(1).all()
    )


def _line_name(name: str, x: Side) -> str:
    return f"equal to the {x.name}" if name == x.name else name
