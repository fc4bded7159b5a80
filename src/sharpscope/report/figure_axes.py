"""The axes of a declared figure: names of expressions, scales as the paper drew them, colours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.expression import evaluate_expression
from sharpscope.analysis.resampling import Floats
from sharpscope.report.axes import label, label_or_dash, nominal_colour
from sharpscope.report.chart import Spec
from sharpscope.report.numbers import name_of, number
from sharpscope.report.scales import Scale, grid_scale, is_numeric, log_ticks, scale_of
from sharpscope.report.theme import MOST_IN_ORDER

_SYMBOLS = {
    "alpha": "α",
    "rho": "ρ",
    "lambda_max": "λ_max",
    "frobenius_norm": "‖H‖_F",
    "log(frobenius_norm)": "log ‖H‖_F",
    "log(lambda_max)": "log λ_max",
    "lr/batch_size": "learning rate / batch size",
    "batch_size/lr": "batch size / learning rate",
    "log10(train_loss)": "log₁₀ training loss",
}


def name_of_expression(text: str) -> str:
    """Return a column or an expression as readers write it.

    >>> name_of_expression("lr/batch_size"), name_of_expression("lambda_max"), name_of_expression("2/lr")
    ('learning rate / batch size', 'λ_max', '2/η')
    >>> name_of_expression("log(trace)"), name_of_expression("my_measure")
    ('log(trace)', 'my measure')
    """
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    if re.fullmatch(r"\w+", text):
        return name_of(text)
    return re.sub(r"\blr\b", "η", text)


@dataclass(frozen=True)
class Side:
    """One axis: its name, its scale, and whether its values are a grid's, over which means are taken."""

    name: str
    scale: Scale
    grid: bool
    order: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        values: pd.Series[Any],
        wanted: Literal["linear", "log"],
        *,
        grid: bool = False,
        extra: Floats | None = None,
    ) -> Side:
        """Return the axis for values; ``extra`` are values of a reference line, which must be seen too.

        A logarithmic axis that some value forbids, being zero or negative, becomes a symmetric logarithmic or
        linear one.
        """
        listed = list(dict.fromkeys(values.tolist()))
        if not is_numeric(listed):
            order = tuple(map(str, listed))
            return cls(name, Scale("ordinal"), True, order)
        finite = [float(v) for v in listed if isfinite(v)]
        if extra is not None:
            finite += [float(v) for v in np.unique(extra) if isfinite(v)]
        return cls(name, _scale(finite, wanted, grid), grid)

    def encoding(self, field: str, **axis: Any) -> Spec:
        """Return the position encoding of a field."""
        if self.scale.kind == "ordinal":
            shown = {"labelAngle": 0, "labelLimit": 120, **axis}
            return {
                "field": field,
                "type": "ordinal",
                "sort": list(self.order),
                "title": self.name,
                "axis": shown,
            }
        return {
            "field": field,
            "type": "quantitative",
            "title": self.name,
            "scale": self.scale.as_vega(),
            "axis": self.scale.axis(**axis),
        }

    def value(self, value: Any) -> Any:
        """Return a value as the chart's data hold it."""
        return label(value) if self.scale.kind == "ordinal" else float(value)


@dataclass(frozen=True)
class ColourScale:
    """What colours or panels tell apart: an expression's values as labels in order, in a field of the chart."""

    name: str
    field: str
    labels: tuple[str, ...]
    numeric: bool

    @classmethod
    def of(cls, rows: pd.DataFrame, text: str, field: str, name: str) -> tuple[ColourScale, pd.Series[Any]]:
        """Return what tells the rows apart, and each row's label; numbers agree to nine digits."""
        if text in rows.columns and not pd.api.types.is_numeric_dtype(rows[text]):
            labels = rows[text].map(label_or_dash)
            return cls(name, field, tuple(sorted(labels.unique())), False), labels
        values = pd.Series(evaluate_expression(text, rows), index=rows.index).round(9)
        labels = values.map(number)
        if text in rows.columns or labels.nunique() < values.nunique():
            labels = values.map(label_or_dash)
        order = labels[values.sort_values(kind="stable").index].unique()  # missing ones last
        return cls(name, field, tuple(order), True), labels

    def colour(self, *, lines: bool = False) -> Spec:
        """Return the colour encoding, a ramp where the values are numbers; ``lines``: the legend shows strokes."""
        ordered = self.numeric and len(self.labels) <= MOST_IN_ORDER
        return nominal_colour(self.field, self.labels, ordered, self.name, lines)


def _scale(values: list[float], wanted: Literal["linear", "log"], grid: bool) -> Scale:
    low, high = min(values), max(values)
    if wanted == "log" and low > 0:
        pad = (high / low) ** 0.06 if high > low else 1.5
        domain = (low / pad, high * pad)
        ticks = tuple(sorted(values)) if grid and len(values) <= 8 else log_ticks(*domain)
        return Scale("log", domain, ticks if len(ticks) > 1 else ())
    if wanted == "log":
        return scale_of(values)
    if grid:
        scale = grid_scale(values)
        if scale.kind == "linear":
            return scale
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale("linear", (low - pad, high + pad))
