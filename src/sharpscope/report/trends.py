"""Each measure against each hyperparameter: the mean over seeds with its interval, and every run.

Where settings were drawn most values belong to one run, and there is no mean to draw or to speak of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sharpscope.analysis import summarise
from sharpscope.report.axes import MOST_TOLD, Axis, label, label_or_dash
from sharpscope.report.chart import Chart, Column, Spec, cut_marks, slug
from sharpscope.report.numbers import counted, listed, number
from sharpscope.report.scales import scale_of

_MOST_COLOURS = 8
_MOST_SHAPES = 4
_MOST_SERIES = 12
"""Lines a reader can still tell apart; past them the axis that shape would tell is averaged over."""


def trend(
    table: pd.DataFrame, measure: str, title: str, axis: Axis, axes: Sequence[Axis], unit: str = ""
) -> Chart | None:
    """Return the chart of a measure against one hyperparameter, None where no run has both.

    ``table`` holds the finished runs with the measure's values in the column ``value`` and their position
    among all runs in ``position``. Of the other hyperparameters, one is encoded by colour and one by shape; any
    further are averaged over within each seed.
    """
    rows = table[np.isfinite(table["value"]) & table[axis.column].notna()]
    if not len(rows):
        return None
    series = _series(
        [
            other
            for other in axes
            if other.column != axis.column and rows[other.column].nunique(dropna=False) > 1
        ]
    )
    scale = scale_of(rows["value"])
    seed = "seed" if "seed" in rows.columns else "run_id"
    # Labels stand for the values, so that runs without a hyperparameter make one group like any other.
    named = {other.field: rows[other.column].map(label_or_dash) for other in series}
    rows = rows.assign(**named)
    by = [axis.column, *named]
    means = summarise(rows, by, "value", seed=seed, scale="log" if scale.kind == "log" else "linear")
    fields = [other.field for other in series]
    grid = axis.scale
    columns = [means[other.field] for other in series]
    groups: list[tuple[Any, ...]] = list(dict.fromkeys(zip(*columns, strict=True))) if series else [()]
    groups.sort(
        key=lambda group: [other.labels.index(name) for other, name in zip(series, group, strict=True)]
    )
    data: dict[str, Column] = {
        name: [] for name in ("kind", "x", "at", "y", "low", "high", "from", "to", "seeds", "id", *fields)
    }

    def add(**row: Any) -> None:
        for name, column in data.items():
            value: Any = row.get(name)
            column.append(None if isinstance(value, float) and not np.isfinite(value) else value)

    def beside(value: Any, group: tuple[Any, ...]) -> Any:
        """Return where on the axis a group's mark stands: a little apart from the other groups'."""
        if grid.kind == "ordinal":
            return label(value)
        part = (groups.index(group) - (len(groups) - 1) / 2) * min(0.018, 0.06 / len(groups))
        return grid.shifted(float(value), part)

    scattered = len(axis.values) > MOST_TOLD and 2 * len(means) > len(rows)
    for row in [] if scattered else means.to_dict("records"):
        group = tuple(row[field] for field in fields)
        add(
            kind="mean",
            x=_number_or_label(row[axis.column]),
            at=beside(row[axis.column], group),
            y=float(row["mean"]),
            low=float(row["low"]),
            high=float(row["high"]),
            **{"from": scale.clip(float(row["low"])), "to": scale.clip(float(row["high"]))},
            seeds=int(row["seeds"]),
            **dict(zip(fields, group, strict=True)),
        )
    for row in rows.to_dict("records"):
        group = tuple(row[field] for field in fields)
        add(
            kind="run",
            x=_number_or_label(row[axis.column]),
            at=beside(row[axis.column], group),
            y=float(row["value"]),
            id=str(row["run_id"]),
            **dict(zip(fields, group, strict=True)),
        )
    averaged = [
        other.name
        for other in axes
        if other.column != axis.column and other not in series and len(other.values) > 1
    ]
    what = "geometric mean" if scale.kind == "log" else "mean"
    cut = bool(((means["low"] < scale.domain[0]) | (means["high"] > scale.domain[1])).any())
    several = int(means["seeds"].max()) > 1
    caption = [_direction(means, axis, series, title, "" if averaged else " of the other hyperparameters")]
    caption += [f"Averaged over {listed(averaged)}."] if averaged else []
    caption += ["Some intervals reach beyond the chart, where an arrow stands."] if cut and several else []
    caption = [] if scattered else caption
    bars = f"{what} over seeds with its 95 % interval" if several else "one seed: no interval"
    bars, joint = ("every run a point", ":") if scattered else (bars, ", and")
    headings = {
        "kind": "row",
        "x": axis.name,
        "y": title,
        "low": "low",
        "high": "high",
        "seeds": "seeds",
        "id": "run",
        **{other.field: other.name for other in series},
    }
    return Chart(
        id=f"trend-{slug(measure)}-by-{slug(axis.column)}",
        title=f"{title} by {axis.name}",
        spec=_spec(axis, series, scale.as_vega(), scale.axis(), title, unit, scattered),
        data=data,
        headings=headings,
        description=f"{title} against {axis.name}: {bars}{joint} {counted(len(rows), 'run')}. {''.join(caption[:1])}",
        height=250,
        lines=(bars,),
        caption=" ".join(part for part in caption if part),
    )


def _spec(
    axis: Axis, series: Sequence[Axis], y_scale: Spec, y_axis: Spec, title: str, unit: str, scattered: bool
) -> Spec:
    ordinal = axis.scale.kind == "ordinal"
    x: Spec = {"field": "at", "title": axis.name}
    if ordinal:
        order = axis.labels
        x |= {"type": "ordinal", "sort": order, "scale": axis.scale.as_vega()}
        x["axis"] = {"labelAngle": 0, "labelLimit": 120, "labelOverlap": True, "grid": False}
    else:
        x |= {"type": "quantitative", "scale": axis.scale.as_vega(), "axis": axis.scale.axis(grid=False)}
    encoded: Spec = {}
    if series:
        encoded["color"] = series[0].colour()
    if len(series) > 1:
        encoded["shape"] = series[1].shape()
    offset: Spec = {}
    if ordinal and series:
        offset["xOffset"] = {
            "field": series[0].field,
            "sort": series[0].labels,
            "scale": {"paddingOuter": 0.3},
        }
    heading = f"{title} ({unit})" if unit else title
    y: Spec = {"field": "y", "type": "quantitative", "scale": y_scale, "axis": y_axis, "title": heading}
    means = [{"filter": "datum.kind == 'mean'"}]
    coloured = {key: value for key, value in encoded.items() if key == "color"}
    line_told = dict(coloured)
    if len(series) > 1:
        line_told["strokeDash"] = series[1].shape()
    tooltip = {"content": "data"}
    run = {"size": 34, "opacity": 0.85} if scattered else {"size": 16, "opacity": 0.4}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.kind == 'run'"}],
            "mark": {"type": "point", "filled": True, **run, "tooltip": tooltip},
            "encoding": {"x": x, "y": y, **encoded, **offset},
        },
        {
            "transform": means,
            "mark": {"type": "rule", "strokeWidth": 1.6, "opacity": 0.75, "tooltip": tooltip},
            "encoding": {
                "x": x,
                "y": {**y, "field": "from"},
                "y2": {"field": "to"},
                **coloured,
                **offset,
            },
        },
        {
            "transform": means,
            "mark": {"type": "point", "filled": True, "size": 62, "opacity": 1, "tooltip": tooltip},
            "encoding": {"x": x, "y": y, **encoded, **offset},
        },
    ]
    if scattered:
        return {"layer": layers[:1]}
    layers += cut_marks(y, {"x": x, **coloured, **offset})
    if not ordinal:
        line = {"type": "line", "strokeWidth": 1.6, "opacity": 0.85}
        layers.insert(1, {"transform": means, "mark": line, "encoding": {"x": x, "y": y, **line_told}})
    return {"layer": layers}


def _series(others: Sequence[Axis]) -> list[Axis]:
    """Choose what colour and what shape tell: the axis with most values by colour, names by shape."""
    by_size = sorted(others, key=lambda axis: (axis.numeric, len(axis.labels)), reverse=True)
    colours = [axis for axis in by_size if len(axis.labels) <= _MOST_COLOURS][:1]
    most = min(_MOST_SHAPES, _MOST_SERIES // len(colours[0].labels)) if colours else _MOST_SHAPES
    shapes = [axis for axis in by_size if axis not in colours and len(axis.labels) <= most][:1]
    return colours + shapes


def _direction(means: pd.DataFrame, axis: Axis, series: Sequence[Axis], title: str, whose: str) -> str:
    """Say in how many settings the mean at the largest value lies below that at the smallest."""
    if not axis.numeric:
        return ""
    fell, rose = 0, 0
    columns = [other.field for other in series]
    for _, group in means.groupby(columns, sort=False) if columns else [((), means)]:
        ordered = group.sort_values(axis.column)
        first, last = ordered["mean"].iloc[0], ordered["mean"].iloc[-1]
        if len(ordered) > 1:
            fell += int(last < first)
            rose += int(last > first)
    total = fell + rose
    if not total:
        return ""
    ends = f"from {axis.name} {label(axis.values[0])} to {label(axis.values[-1])}"
    if total == 1:
        return f"The mean {'falls' if fell else 'rises'} {ends}."
    times, way = (fell, "falls") if fell >= rose else (rose, "rises")
    which = f"all {number(total)}" if times == total else f"{times} of {total}"
    return f"The mean {way} {ends} in {which} settings{whose}."


def _number_or_label(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, int | float) else label(value)
