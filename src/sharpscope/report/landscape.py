"""The figure of the loss between two models, and figures of the landscape as SVG and PNG."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sharpscope.report.figures import FORMATS
from sharpscope.report.theme import config
from sharpscope.serialization import write_whole

Spec = dict[str, Any]


def draw_line(table: pd.DataFrame, widths: Mapping[str, tuple[float, float]], title: str) -> Spec:
    """Return the Vega-Lite specification of a loss curve, accuracy below it where there is one.

    ``table`` has columns alpha, loss, accuracy; ``widths`` labels intervals of α drawn under the curve, one per end.
    """
    rows = _rows(table)
    x = {
        "field": "alpha",
        "type": "quantitative",
        "title": "α: 0 is the first model, 1 the second",
        "axis": {"tickCount": 7},
        "scale": {"nice": False},
    }
    ends = {"values": [{"alpha": 0}, {"alpha": 1}]}
    rule = {
        "data": ends,
        "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.5},
        "encoding": {"x": {"field": "alpha", "type": "quantitative"}},
    }
    top = float(table["loss"].max())
    bottom = float(table["loss"].min())
    logarithmic = bottom > 0 and top / bottom > 50
    scale = {"type": "log"} if logarithmic else {"zero": False}
    basins = [{"alpha": a, "to": b, "basin": label} for label, (a, b) in widths.items()]
    band = {
        "data": {"values": basins},
        "mark": {"type": "rect", "opacity": 0.15},
        "encoding": {
            "x": {"field": "alpha", "type": "quantitative"},
            "x2": {"field": "to"},
            "color": {"field": "basin", "type": "nominal", "title": "basin", "legend": {"orient": "bottom"}},
        },
    }

    def curve(column: str, name: str, height: int, axis: Spec) -> Spec:
        line = {
            "mark": {"type": "line", "point": {"size": 18}},
            "encoding": {
                "x": x,
                "y": {"field": column, "type": "quantitative", "title": name, "scale": axis},
            },
        }
        return {
            "width": 520,
            "height": height,
            "layer": [*([band] if column == "loss" and basins else []), rule, line],
        }

    panels = [curve("loss", "loss (log scale)" if logarithmic else "loss", 220, scale)]
    if table["accuracy"].notna().any():
        panels.append(curve("accuracy", "accuracy", 120, {"domain": [0, 1]}))
    return {"data": {"values": rows}, "title": title, "vconcat": panels}


def save_specification(spec: Spec, stem: Path) -> list[Path]:
    """Draw a specification on white as ``stem.svg`` and ``stem.png``; return the paths."""
    import vl_convert

    text = json.dumps(spec, allow_nan=False)
    theme: dict[str, Any] = {**config("light"), "background": "white"}
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawn = {
        "svg": lambda: str(vl_convert.vegalite_to_svg(text, config=theme)).encode(),
        "png": lambda: bytes(vl_convert.vegalite_to_png(text, config=theme, scale=2)),
    }
    return [write_whole(stem.with_name(f"{stem.name}.{form}"), drawn[form]()) for form in FORMATS]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(k): (v if isinstance(v, float) and math.isfinite(v) else None) for k, v in row.items()}
        for row in table.astype(float).to_dict("records")
    ]
