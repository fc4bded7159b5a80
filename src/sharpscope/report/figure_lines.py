"""Declared figures of curves: over epochs or along a line between models; and histograms as steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sharpscope.analysis.resampling import Floats
from sharpscope.report.chart import Chart, Column, Spec, points_for_each, thinned
from sharpscope.report.figure_axes import ColourScale, Side
from sharpscope.report.numbers import counted


def lines(
    chart_id: str,
    title: str,
    rows: pd.DataFrame,
    x: Side,
    y: Side,
    colour: ColourScale | None,
    each: str,
    line: Floats | None = None,
    line_name: str | None = None,
) -> Chart:
    """Return the chart of ``rows`` (``_x``, ``_y``, ``_c``), one curve for each value of the column ``each``.

    A pair's curve has a mark where each model stands, at α = 0 and 1. ``line`` holds a reference's value in each
    row: one dashed curve for each colour.
    """
    n = rows[each].nunique()
    keep = points_for_each(n)
    data: dict[str, Column] = {name: [] for name in ("kind", "x", "y", "id")}
    if colour is not None:
        data["c"] = []
    reference = None if line is None else pd.Series(line, index=rows.index)
    for name, group in rows.groupby(each, sort=False):
        group = thinned(group.sort_values("_x", kind="stable"), keep)
        kinds = ["run"] * len(group)
        if each == "pair":
            kinds = ["end" if value in (0.0, 1.0) else "run" for value in group["_x"]]
        _extend(data, group, kinds, str(name), group["_y"], colour)
        if reference is not None:
            _extend(data, group, ["line"] * len(group), str(name), reference[group.index], colour)
    what = "pair" if each == "pair" else "run"
    notes = [f"one line for each of {counted(n, what)}"]
    if line_name is not None:
        notes.append(f"dashed: {line_name}")
    whole = {"tickMinStep": 1} if (rows["_x"] % 1 == 0).all() else {}
    place = {"x": x.encoding("x", grid=False, **whole), "y": y.encoding("y")}
    encoded: Spec = {"color": colour.colour(lines=True)} if colour is not None else {}
    mark = {
        "type": "line",
        "strokeWidth": 1.5,
        "opacity": 0.85 if n <= 40 else 0.5,
        "tooltip": {"content": "data"},
    }
    detail = {"detail": {"field": "id"}}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.kind != 'line'"}],
            "mark": mark,
            "encoding": {**place, **encoded, **detail},
        }
    ]
    if reference is not None:
        dashed = {"type": "line", "strokeDash": [5, 4], "strokeWidth": 1.1, "opacity": 0.8, "clip": True}
        layers.append(
            {
                "transform": [{"filter": "datum.kind == 'line'"}],
                "mark": dashed,
                "encoding": {**place, **encoded, **detail},
            }
        )
    if each == "pair":
        ends = {"type": "point", "filled": True, "size": 45, "opacity": 1}
        layers.append(
            {
                "transform": [{"filter": "datum.kind == 'end'"}],
                "mark": ends,
                "encoding": {**place, **encoded},
            }
        )
    return Chart(
        id=chart_id,
        title=title,
        spec={"layer": layers},
        data=data,
        headings=_headings(x, y, what, colour),
        description=f"{title}; {'; '.join(notes)}.",
        height=250,
        lines=tuple(notes),
        caption=f"At most {keep} points of each line are drawn."
        if rows.groupby(each).size().max() > keep
        else "",
    )


def steps(
    chart_id: str, title: str, rows: pd.DataFrame, x: Side, y: Side, colour: ColourScale | None
) -> Chart:
    """Return the histogram of each run as an outline; ``rows`` hold a bin each (``low``, ``high``, ``_y``)."""
    data: dict[str, Column] = {name: [] for name in ("kind", "x", "y", "id")}
    if colour is not None:
        data["c"] = []
    floor = y.scale.domain[0] if y.scale.kind == "log" else 0.0
    for name, group in rows.groupby("run_id", sort=False):
        group = group.sort_values("low")
        heights = group["_y"].clip(lower=floor)
        first, last = group.iloc[:1], group.iloc[-1:]
        outline = pd.concat([first, group, last, last])
        edges = [*group["low"].iloc[:1], *group["low"], *last["high"], *last["high"]]
        tall = [floor, *heights, *heights.iloc[-1:], floor]
        _extend(data, outline.assign(_x=edges), ["bin"] * len(outline), str(name), pd.Series(tall), colour)
    n = rows["run_id"].nunique()
    mark = {"type": "line", "interpolate": "step-after", "strokeWidth": 1.4, "clip": True}
    encoding = {
        "x": x.encoding("x", grid=False),
        "y": y.encoding("y"),
        "detail": {"field": "id"},
        **({"color": colour.colour(lines=True)} if colour is not None else {}),
    }
    return Chart(
        id=chart_id,
        title=title,
        spec={"mark": {**mark, "tooltip": {"content": "data"}}, "encoding": encoding},
        data=data,
        headings=_headings(x, y, "run", colour),
        description=f"{title}: a histogram for each of {counted(n, 'run')}.",
        height=240,
        lines=(f"one outline for each of {counted(n, 'run')}",),
    )


def _extend(
    data: dict[str, Column],
    group: pd.DataFrame,
    kinds: list[str],
    name: str,
    heights: pd.Series[Any],
    colour: ColourScale | None,
) -> None:
    data["kind"] += kinds
    data["x"] += [float(value) for value in group["_x"]]
    data["y"] += [float(f"{value:.6g}") if np.isfinite(value) else None for value in heights]
    data["id"] += [name] * len(group)
    if colour is not None:
        data["c"] += [str(value) for value in group["_c"]]


def _headings(x: Side, y: Side, what: str, colour: ColourScale | None) -> dict[str, str]:
    encoded = {"c": colour.name} if colour is not None else {}
    return {"kind": "row", "x": x.name, "y": y.name, "id": what, **encoded}
