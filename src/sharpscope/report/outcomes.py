"""Each measure against each outcome (test loss, generalisation gap), every run a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sharpscope.report.axes import Axis
from sharpscope.report.chart import COLOUR, Chart, slug
from sharpscope.report.numbers import coefficient, counted, interval, name_of
from sharpscope.report.scales import scale_of


def outcome(
    table: pd.DataFrame,
    measure: str,
    title: str,
    target: str,
    found: pd.DataFrame,
    axes: Sequence[Axis],
    unit: str = "",
) -> Chart | None:
    """Return the scatter of a measure against an outcome, None where no finished run has both.

    ``table`` is as for `trends.trend`; ``found`` are the rows of `correlations` and `partial_correlations`,
    of which τ_b, with and without the control, is printed on the chart.
    """
    y = pd.to_numeric(table[target]).astype(float)
    keep = np.isfinite(table["value"]) & np.isfinite(y)
    if not keep.any():
        return None
    xs, ys = table.loc[keep, "value"].astype(float).tolist(), y[keep].tolist()
    x_scale, y_scale = scale_of(xs), scale_of(ys)
    kinds = [axis for axis in axes if not axis.numeric and len(axis.values) <= 6]
    tau = tau_line(found, measure, target, "")
    given = tau_line(found, measure, target, "train_loss")
    encoded: dict[str, object] = {"color": COLOUR}
    if kinds:
        encoded["shape"] = kinds[0].shape()
    heading = f"{title} ({unit})" if unit else title
    spec = {
        "mark": {"type": "point", "filled": True, "size": 52, "opacity": 0.8, "tooltip": {"content": "data"}},
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "title": heading,
                "scale": x_scale.as_vega(),
                "axis": x_scale.axis(grid=False),
            },
            "y": {
                "field": "y",
                "type": "quantitative",
                "title": name_of(target),
                "scale": y_scale.as_vega(),
                "axis": y_scale.axis(),
            },
            **encoded,
        },
    }
    return Chart(
        id=f"outcome-{slug(measure)}-{slug(target)}",
        title=f"{title} and {name_of(target)}",
        spec=spec,
        data={"run": table.loc[keep, "position"].tolist(), "x": xs, "y": ys},
        headings={"run": "run", "x": title, "y": name_of(target)},
        description=(
            f"{name_of(target).capitalize()} against {title}, {counted(len(xs), 'run')}. {tau}. {given}."
        ),
        height=250,
        lines=(tau, given),
        colours={axis.name: axis.colour() for axis in axes},
    )


def tau_line(found: pd.DataFrame, measure: str, target: str, given: str) -> str:
    """Return "τ_b = 0.42 [0.20, 0.61]", or why there is none."""
    lead = f"given {name_of(given)}: " if given else "Kendall’s "
    row = pick(found, measure, target, given, "kendall")
    if row is None or not np.isfinite(row["value"]):
        why = "not computed" if row is None else row["note"]
        return f"{f'given {name_of(given)}: ' if given else ''}no τ_b, {why}"
    spread = interval(row["low"], row["high"])
    return f"{lead}τ_b = {coefficient(row['value'])} {spread or '(no interval)'}"


def pick(found: pd.DataFrame, measure: str, target: str, given: str, method: str) -> pd.Series[float] | None:
    """Return the one row of a table of correlations, None where it is not there."""
    rows = found[
        (found["measure"] == measure)
        & (found["target"] == target)
        & (found["given"] == given)
        & (found["method"] == method)
    ]
    return rows.iloc[0] if len(rows) else None
