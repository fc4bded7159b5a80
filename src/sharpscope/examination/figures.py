"""Figures of results, as Vega-Lite specifications."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpscope.curvature import SpectralDensity
from sharpscope.curvature.by_layer import LayerTraces
from sharpscope.estimate import Estimate
from sharpscope.measures.invariance.audit import INVARIANT, Audit

Spec = dict[str, Any]

MOST_LAYERS = 40
"""Layers that the figure shows; beyond these, the ones with the largest traces."""

LEAST_CHANGE = 1e-16
"""Least relative change that the figure of an audit shows: rounding of float64."""


def density_figure(density: SpectralDensity, ends: NDArray[np.float64] | None) -> Spec:
    """Return the density on a logarithmic axis with a band of ± 2 standard errors; ``ends`` are drawn as ticks."""
    grid, mean, stderr = density.on_grid()
    floor = float(mean.max()) * 1e-6
    rows = [
        {
            "x": float(x),
            "y": float(max(y, floor)),  # where there is next to nothing the line lies on the axis
            "low": float(max(y - 2 * s, floor)),
            "high": float(max(y + 2 * s, floor)),
        }
        for x, y, s in zip(grid, mean, stderr, strict=True)
    ]
    x = {"field": "x", "type": "quantitative", "title": "eigenvalue λ", "scale": {"nice": False}}
    y = {"type": "quantitative", "scale": {"type": "log", "domainMin": floor, "nice": False}}
    top = math.ceil(math.log10(float((mean + 2 * stderr).max())))
    powers = {"values": [10.0**k for k in range(top - 7, top + 1)], "format": "~g"}
    layers: list[Spec] = [
        {
            "mark": {"type": "area", "opacity": 0.25},
            "encoding": {
                "x": x,
                "y": {**y, "field": "low", "title": "density", "axis": powers},
                "y2": {"field": "high"},
            },
        },
        {
            "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": {"x": x, "y": {**y, "field": "y"}},
        },
    ]
    if ends is not None:
        layers.append(
            {
                "data": {"values": [{"x": float(v)} for v in ends]},
                "mark": {"type": "tick", "thickness": 2, "size": 14, "yOffset": -8},
                "encoding": {"x": {"field": "x", "type": "quantitative"}, "y": {"value": "height"}},
            }
        )
    return {"data": {"values": rows}, "width": 420, "height": 220, "layer": layers}


def layers_figure(layers: LayerTraces, shares: NDArray[np.float64] | None) -> Spec:
    """Return a bar for each layer's trace with its 95 % interval, a mark for its share of the first eigenvector."""
    chosen = np.sort(np.argsort(-np.abs(layers.values))[:MOST_LAYERS])
    names, ends = [layers.names[i] for i in chosen], layers.intervals()
    traces = [
        {
            "layer": layers.names[i],
            "value": float(layers.values[i]),
            "low": float(ends[i, 0]),
            "high": float(ends[i, 1]),
        }
        for i in chosen
    ]
    y = {"field": "layer", "type": "nominal", "sort": names, "title": None, "axis": {"labelLimit": 220}}
    bars: Spec = {
        "width": 240,
        "height": {"step": 18},
        "data": {"values": traces},
        "layer": [
            {
                "mark": {"type": "bar", "height": {"band": 0.7}, "opacity": 0.6},
                "encoding": {
                    "y": y,
                    "x": {
                        "field": "value",
                        "type": "quantitative",
                        "title": "trace of the layer's block",
                        "axis": {"tickCount": 5},
                    },
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {"y": y, "x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
            },
        ],
    }  # fmt: skip
    if shares is None:
        return bars
    parts = [{"layer": layers.names[i], "share": float(shares[i])} for i in chosen]
    beside: Spec = {
        "width": 150,
        "height": {"step": 18},
        "data": {"values": parts},
        "mark": {"type": "point", "filled": True, "size": 50, "shape": "diamond"},
        "encoding": {
            "y": {**y, "axis": {"labels": False, "ticks": False}},
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": "share of eigenvector 1",
                "axis": {"format": "%", "tickCount": 3},
                "scale": {"domain": [0, 1]},
            },
        },
    }
    return {"hconcat": [bars, beside], "spacing": 12}


def values_figure(rows: Sequence[tuple[str, float, float, float]], title: str) -> Spec:
    """Return a point with its interval for each (name, value, low, high)."""
    names = [name for name, *_ in rows]
    data = [
        {"name": name, "value": _finite(value), "low": _finite(low), "high": _finite(high)}
        for name, value, low, high in rows
    ]
    y = {"field": "name", "type": "nominal", "sort": names, "title": None, "axis": {"labelLimit": 240}}
    # a value without an interval says how large it is, so its axis begins at zero
    exact = all(low == high for _, _, low, high in rows)
    scale: Spec = {"zero": True, "nice": True} if exact else {"zero": False, "padding": 16}
    x = {"type": "quantitative", "title": title, "scale": scale, "axis": {"tickCount": 5}}
    return {
        "data": {"values": data},
        "width": 360,
        "height": {"step": 28},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {"y": y, "x": {**x, "field": "value"}},
            },
        ],
    }


def curve_figure(rows: Sequence[Mapping[str, float]], x_title: str, y_title: str) -> Spec:
    """Return y over x, with intervals where the rows have ``low`` and ``high``."""
    data = [{key: _finite(value) for key, value in row.items()} for row in rows]
    x = {"field": "x", "type": "quantitative", "title": x_title, "scale": {"nice": False}}
    y = {"type": "quantitative", "title": y_title, "scale": {"zero": False}}
    layers: list[Spec] = [
        {"mark": {"type": "line", "point": {"size": 30}}, "encoding": {"x": x, "y": {**y, "field": "y"}}}
    ]
    if "low" in rows[0]:
        layers.insert(
            0, {"mark": "rule", "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}}
        )
    return {"data": {"values": data}, "width": 420, "height": 220, "layer": layers}


def histogram_figure(edges: NDArray[np.float64], counts: NDArray[np.int64], name: str) -> Spec:
    """Return the counts as bars between their edges."""
    rows = [
        {"low": float(low), "high": float(high), "count": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return {
        "data": {"values": rows},
        "width": 420,
        "height": 200,
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "x": {"field": "low", "bin": "binned", "type": "quantitative", "title": f"entries of {name}"},
            "x2": {"field": "high"},
            "y": {"field": "count", "type": "quantitative", "title": "count"},
        },
    }


def audit_figure(audit: Audit) -> Spec:
    """Return each measure's largest relative change on a logarithmic axis; below the dashed line it stands still."""
    rows = [
        {
            "measure": str(row["measure"]),
            "change": min(max(float(row["largest"]), LEAST_CHANGE), 1 / LEAST_CHANGE),
            "comparable": "yes" if row["invariant"] else "no",
        }
        for row in audit.table.to_dict("records")
    ]
    y = {
        "field": "measure",
        "type": "nominal",
        "sort": [row["measure"] for row in rows],
        "title": None,
        "axis": {"labelLimit": 240},
    }
    x = {
        "field": "change",
        "type": "quantitative",
        "scale": {"type": "log", "domainMin": LEAST_CHANGE, "nice": False},
        "title": "largest relative change",
        "axis": {
            "values": [1e-16, 1e-12, 1e-8, 1e-4, 1, 1e4, 1e8, 1e12],
            "labelExpr": "datum.value === 1 ? '1' : replace(format(datum.value, '.0e'), '+', '')",
        },
    }
    comparable: Spec = {"field": "comparable", "type": "nominal", "sort": ["yes", "no"]}
    return {
        "width": 320,
        "height": {"step": 22},
        "layer": [
            {
                "data": {"values": rows},
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {
                    "y": y,
                    "x": x,
                    "color": comparable,
                    "shape": {**comparable, "legend": None},
                },
            },
            {
                "data": {"values": [{"change": INVARIANT}]},
                "mark": {"type": "rule", "strokeDash": [4, 3]},
                "encoding": {"x": {"field": "change", "type": "quantitative"}},
            },
        ],
    }


def monitor_figure(rows: Sequence[Mapping[str, Any]]) -> Spec:
    """Return λ_max over the steps of a training with the edge of stability of its optimizer, where one is known."""
    edge = "edge" if "edge" in rows[0] else "two_over_lr"
    measured = (
        "lambda_max_preconditioned"
        if any(_number(row.get("lambda_max_preconditioned")) is not None for row in rows)
        else "lambda_max"
    )
    data = [
        {"step": float(row["step"]), "line": line, "value": _number(row.get(column))}
        for row in rows
        for line, column in (("λ_max", measured), ("edge of stability", edge))
    ]
    kept = [row for row in data if row["value"] is not None]
    return {
        "data": {"values": kept},
        "width": 460,
        "height": 220,
        "mark": {"type": "line", "point": {"size": 24}},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": "step", "scale": {"nice": False}},
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": "preconditioned λ_max" if measured != "lambda_max" else "λ_max",
                "scale": {"zero": False},
            },
            "color": {"field": "line", "type": "nominal", "title": None, "sort": ["λ_max", "edge of stability"]},
            "strokeDash": {
                "field": "line", "type": "nominal", "sort": ["λ_max", "edge of stability"], "legend": None,
            },
        },
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: object) -> float | None:
    return _finite(float(value)) if isinstance(value, int | float) else None


def rises_figure(estimates: tuple[Estimate, ...], radius: str) -> Spec:
    """Return the rise of the loss against the radius, both on logarithmic axes where every rise is positive."""
    rows = []
    for estimate in estimates:
        low, high = estimate.interval()
        rows.append(
            {
                "radius": float(str(estimate.protocol["radius"])),
                "rise": estimate.value if math.isfinite(estimate.value) else None,
                "low": low if math.isfinite(low) else None,
                "high": high if math.isfinite(high) else None,
            }
        )
    positive = all(row["low"] is not None and row["low"] > 0 for row in rows)
    scale = {"type": "log"} if positive else {"zero": True}
    radii = [row["radius"] for row in rows]
    x = {
        "field": "radius",
        "type": "quantitative",
        "title": radius,
        "scale": {"type": "log", "nice": False, "padding": 12},
        "axis": {"values": radii, "format": ".3~g"},
    }
    y = {"type": "quantitative", "title": "rise of the loss", "scale": scale, "axis": {"tickCount": 5}}
    return {
        "data": {"values": rows},
        "width": 360,
        "height": 200,
        "layer": [
            {"mark": {"type": "line"}, "encoding": {"x": x, "y": {**y, "field": "rise"}}},
            {"mark": {"type": "rule"}, "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}},
            {
                "mark": {"type": "point", "filled": True, "size": 55},
                "encoding": {"x": x, "y": {**y, "field": "rise"}},
            },
        ],
    }  # fmt: skip
