"""The hyperparameters of a study as chart axes: order, labels, colour and shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from sharpscope.report.chart import RunColumns, Spec
from sharpscope.report.numbers import name_of, number
from sharpscope.report.scales import Scale, grid_scale, is_numeric
from sharpscope.report.theme import LARGEST_RAMP

MOST_TOLD = 12
"""Values of a hyperparameter that a report's head lists."""


@dataclass(frozen=True)
class Axis:
    """One varied hyperparameter: its column, the short field name charts use, its values in order.

    ``partial`` says that some runs lack it (ρ, where only some optimizers have one).
    """

    column: str
    field: str
    values: tuple[Any, ...]
    partial: bool = False

    @property
    def name(self) -> str:
        """The hyperparameter's name for readers."""
        return name_of(self.column)

    @cached_property
    def labels(self) -> list[str]:
        """The values as text, in order, with a dash at the end for runs that lack the hyperparameter."""
        return [label(value) for value in self.values] + (["–"] if self.partial else [])

    @property
    def summary(self) -> str:
        """The values for readers: each, or of more than `MOST_TOLD` numbers, as of drawn settings, their ends.

        >>> Axis("lr", "a0", (0.1, 0.2), partial=True).summary, Axis("lr", "a0", tuple(range(8, 72))).summary
        ('0.1, 0.2, –', '8 to 71, 64 values')
        """
        if not self.numeric or len(self.values) <= MOST_TOLD:
            return ", ".join(self.labels)
        ends = f"{label(self.values[0])} to {label(self.values[-1])}, {len(self.values)} values"
        return f"{ends}, –" if self.partial else ends

    @cached_property
    def scale(self) -> Scale:
        """The scale of the grid."""
        return grid_scale(self.values)

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers."""
        return is_numeric(self.values)

    def colour(self, lines: bool = False) -> Spec:
        """Return the colour encoding: a colour per value, from a ramp where values are ordered.

        ``lines`` makes the legend show strokes.
        """
        if self.numeric and len(self.labels) > LARGEST_RAMP:
            scale: Spec = {"type": "log" if self.scale.kind == "log" else "linear", "range": "ramp"}
            field = self.field + "n"
            return {"field": field, "type": "quantitative", "scale": scale, "title": self.name}
        return nominal_colour(self.field, self.labels, self.numeric, self.name, lines)

    def shape(self) -> Spec:
        """Return the shape encoding, for up to six values."""
        return {"field": self.field, "type": "nominal", "scale": {"domain": self.labels}, "title": self.name}


def nominal_colour(field: str, labels: Sequence[str], ordered: bool, title: str, lines: bool) -> Spec:
    """Return the encoding of a colour per label, a ramp where they are ordered; ``lines``: strokes in the legend."""
    symbol: Spec = {"symbolType": "stroke", "symbolStrokeWidth": 3} if lines else {"symbolType": "circle"}
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(labels), "range": f"ramp{len(labels)}" if ordered else "category"},
        "title": title,
        "legend": {"symbolOpacity": 1, **symbol},
    }


def label(value: object) -> str:
    """Return a grid value as the text that stands for it.

    >>> label(0.0001), label(128), label(128.0), label("sgd"), label(None)
    ('0.0001', '128', '128', 'sgd', '–')
    """
    if value is None or isinstance(value, str | bool):
        return number(value) if not isinstance(value, str) else value
    x = float(value)  # type: ignore[arg-type]
    if x == x and x == round(x) and abs(x) < 1e6:
        return str(round(x))
    return number(x, 6)


def label_or_dash(value: Any) -> str:
    """Return `label` of a cell of a table, a dash for a missing one."""
    return "–" if pd.isna(value) else label(_plain(value))


def axes_of(runs: pd.DataFrame, columns: Sequence[str]) -> list[Axis]:
    """Return the axes that take more than one value, numbers in order, other values as they come."""
    found = []
    for i, column in enumerate(columns):
        values = [_plain(value) for value in runs[column].drop_duplicates() if not pd.isna(value)]
        partial = bool(runs[column].isna().any())
        if len(values) + partial < 2 or not values:
            continue
        if is_numeric(values):
            values = sorted(set(values))
        else:
            # Numbers first and in order, then names: batch sizes 32, 128, "full".
            numbers = sorted(value for value in values if not isinstance(value, str))
            values = [*numbers, *sorted(value for value in values if isinstance(value, str))]
        found.append(Axis(column, f"a{i}", tuple(values), partial))
    return found


def run_columns(runs: pd.DataFrame, axes: Sequence[Axis]) -> RunColumns:
    """Return every run's id and axis values: as labels, and as numbers (field + "n") where they are."""
    columns: dict[str, list[Any]] = {"id": [str(value) for value in runs["run_id"]]}
    headings = {"id": "run"}
    for axis in axes:
        values = [None if pd.isna(value) else _plain(value) for value in runs[axis.column]]
        columns[axis.field] = [label_or_dash(value) for value in runs[axis.column]]
        headings[axis.field] = axis.name
        if axis.numeric:
            columns[axis.field + "n"] = values
    return RunColumns(columns, headings)


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own, a float that is whole as an integer."""
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
