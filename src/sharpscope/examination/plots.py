"""A chart and a line of HTML for every result: what ``plot()`` and a notebook show."""

from __future__ import annotations

import html
import json
from functools import singledispatch
from typing import Any

import numpy as np

from sharpscope.curvature import BetweenIterates, Eigenpairs, SampledEigenvalue, SpectralDensity
from sharpscope.curvature.by_layer import LayerTraces
from sharpscope.errors import InputError
from sharpscope.estimate import Estimate
from sharpscope.examination import figures
from sharpscope.examination.examination import Examination
from sharpscope.examination.surface_figure import surface_figure
from sharpscope.integrations.monitor import SharpnessMonitor
from sharpscope.landscape.interpolation import Interpolation
from sharpscope.landscape.surface import Surface
from sharpscope.measures.invariance.audit import Audit
from sharpscope.measures.quadratic_bound import QuadraticBound
from sharpscope.measures.table import MeasureTable
from sharpscope.measures.weight_kurtosis import WeightHistogram
from sharpscope.objective import Objective
from sharpscope.report.landscape import draw_line
from sharpscope.report.theme import config

ON_PAPER = {"background": "white", "padding": {"left": 20, "right": 12, "top": 6, "bottom": 6}}
"""Paper for a notebook of any ground; the reader's font may be wider than the one that labels are measured in."""

SCAN = 21
"""Losses that the chart of an objective evaluates."""


def _lowered(number: int) -> str:
    """Return a number as a subscript."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


@singledispatch
def specification(result: Any) -> dict[str, Any]:
    """Return the Vega-Lite specification of a result's chart."""
    raise InputError(f"there is no chart of a {type(result).__name__}")


@specification.register
def _(result: Estimate) -> dict[str, Any]:
    low, high = result.interval()
    return figures.values_figure([(result.measure, result.value, low, high)], "value")


@specification.register
def _(result: MeasureTable) -> dict[str, Any]:
    """Draw each measure on an axis of its own: their units differ."""
    rows = result.loc[np.isfinite(result["value"]), ["measure", "value", "low", "high"]]
    if rows.empty:
        raise InputError("a chart of measures needs a finite value, the table has none; look at its protocol")
    return {"vconcat": [figures.values_figure([tuple(row)], "") for row in rows.to_numpy()], "spacing": 4}


@specification.register
def _(result: Eigenpairs) -> dict[str, Any]:
    names = [f"λ{_lowered(i + 1)}" for i in range(len(result.values))]
    if result.protocol.get("which") in ("smallest", "both"):  # the smallest are counted from the bottom
        half = len(names) // 2 if result.protocol["which"] == "both" else 0
        names[half:] = [f"λ₋{_lowered(i + 1)}" for i in range(len(names) - half)]
    rows = [
        (name, float(value), float(value - error), float(value + error))
        for name, value, error in zip(names, result.values, result.error_estimates, strict=True)
    ]
    return figures.values_figure(rows, "eigenvalue")


@specification.register
def _(result: SampledEigenvalue) -> dict[str, Any]:
    return figures.values_figure([("λ_max", result.value, *result.interval())], "eigenvalue")


@specification.register
def _(result: SpectralDensity) -> dict[str, Any]:
    return figures.density_figure(result, None)


@specification.register
def _(result: LayerTraces) -> dict[str, Any]:
    return figures.layers_figure(result, None)


@specification.register
def _(result: BetweenIterates) -> dict[str, Any]:
    rows = [
        {"x": float(x), "y": float(y), "low": float(y - e), "high": float(y + e)}
        for x, y, e in zip(result.positions, result.values, result.errors, strict=True)
    ]
    return figures.curve_figure(rows, "position between the iterates", "λ_max")


@specification.register
def _(result: Interpolation) -> dict[str, Any]:
    return {**draw_line(result.table(), {}, ""), "title": ""}


@specification.register
def _(result: Surface) -> dict[str, Any]:
    return surface_figure(result)


@specification.register
def _(result: Audit) -> dict[str, Any]:
    return figures.audit_figure(result)


@specification.register
def _(result: QuadraticBound) -> dict[str, Any]:
    rows = [
        ("loss", result.loss, result.loss, result.loss),
        ("reached", result.reached, result.reached, result.reached),
        ("bound", result.bound, result.bound - result.error, result.bound + result.error),
    ]
    return figures.values_figure(rows, "loss")


@specification.register
def _(result: WeightHistogram) -> dict[str, Any]:
    return figures.histogram_figure(result.edges, result.counts, result.parameter)


@specification.register
def _(result: SharpnessMonitor) -> dict[str, Any]:
    if not result.rows:
        raise InputError("a monitor's chart needs rows, it has none yet; train a few steps first")
    return figures.monitor_figure(result.rows)


@specification.register
def _(result: Objective) -> dict[str, Any]:
    """Draw the loss along its steepest direction, a tenth of the weights' length to either side."""
    theta, gradient = result.flat(), result.gradient()
    length, slope = float(theta.double().norm()), float(gradient.double().norm())
    if not slope:
        raise InputError("an objective's chart goes along the gradient, which is zero here; use ss.surface")
    reach = 0.1 * (length or 1.0)
    rows = [
        {"x": float(at), "y": result.loss(theta - float(at) / slope * gradient)}
        for at in np.linspace(-reach, reach, SCAN)
    ]
    return figures.curve_figure(rows, "distance along the negative gradient", "loss")


@specification.register
def _(result: Examination) -> dict[str, Any]:
    if result.surface is not None:
        return surface_figure(result.surface)
    if result.density is not None:
        return figures.density_figure(result.density, None)
    raise InputError(
        "an examination's chart is its surface or its density, both were left out; use to_html()"
    )


def plot(result: Any) -> Any:
    """Return an Altair chart of a result, in the colours of the reports."""
    import altair

    theme = config("light")
    del theme["legend"]["layout"]  # Vega-Lite draws by it, though its schema does not know it
    return altair.Chart.from_dict({**specification(result), "config": theme, **ON_PAPER})


def as_html(result: Any) -> str:
    """Return the result's line of text with its chart below it, as SVG; the line alone where there is no chart."""
    import vl_convert

    line = f"<p><code>{html.escape(repr(result))}</code></p>"
    if isinstance(result, Objective):  # a chart of it costs losses, which showing a name must not
        return line
    try:
        spec = json.dumps(specification(result), allow_nan=False)
    except InputError:
        return line
    drawn = vl_convert.vegalite_to_svg(spec, config={**config("light"), **ON_PAPER})
    scaled = drawn.replace("<svg ", '<svg style="max-width:100%;height:auto" role="img" ', 1)
    return f'{line}<div style="max-width:600px">{scaled}</div>'
