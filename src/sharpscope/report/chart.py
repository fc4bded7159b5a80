"""One chart: its Vega-Lite specification, its data and the words around it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

Spec = dict[str, Any]
Column = list[Any]

COLOUR = "@colour"
"""Stands in a specification where the encoding of the chosen colour axis goes."""


MOST_POINTS = 12_000
"""Points a chart of lines may hold; longer lines are thinned."""


def cut_marks(y: Spec, others: Mapping[str, Spec]) -> list[Spec]:
    """Return arrows where a mean's interval, ``low`` to ``high``, goes on beyond what is drawn, ``from`` to ``to``.

    ``y`` is the vertical channel, ``others`` are the encodings that the interval's own mark has.
    """
    return [
        {
            "transform": [{"filter": f"datum.kind == 'mean' && isValid(datum.{end}) && {beyond}"}],
            "mark": {
                "type": "point",
                "filled": True,
                "shape": shape,
                "size": 46,
                "opacity": 1,
                "clip": False,
            },
            "encoding": {**others, "y": {**y, "field": at}},
        }
        for end, at, beyond, shape in (
            ("low", "from", "datum.low < datum.from", "triangle-down"),
            ("high", "to", "datum.high > datum.to", "triangle-up"),
        )
    ]


@dataclass(frozen=True)
class RunColumns:
    """What every chart knows of a run: its id and its hyperparameters, under short field names.

    A chart that holds the field ``run`` (positions into these columns) gets all of them in each row.
    """

    columns: Mapping[str, Column]
    headings: Mapping[str, str]


@dataclass(frozen=True)
class Chart:
    """A chart without its theme; fields are short fixed names, so no user's text enters an expression.

    ``data`` holds columns of equal length, NaN as None; ``headings`` their names in tables and CSV;
    ``lines`` is printed on the chart under its title; ``colours`` are the axes a reader may colour by, each
    with the encoding put in place of `COLOUR`, the first being the default.
    """

    id: str
    title: str
    spec: Spec
    data: Mapping[str, Column]
    headings: Mapping[str, str]
    description: str
    height: int
    lines: tuple[str, ...] = ()
    caption: str = ""
    colours: Mapping[str, Spec] = field(default_factory=dict)

    def rows(self, runs: RunColumns) -> list[dict[str, Any]]:
        """Return the data as rows, each with its run's columns filled in."""
        rows = [dict(zip(self.data, values, strict=True)) for values in zip(*self.data.values(), strict=True)]
        if "run" in self.data:
            for row in rows:
                at = row["run"]
                row.update({name: column[at] for name, column in runs.columns.items()})
        return rows

    def specification(self, runs: RunColumns, width: int) -> Spec:
        """Return a whole Vega-Lite specification with data, title and size, for drawing to a file."""
        colour = next(iter(self.colours.values()), None)
        body = _with_colour(self.spec, colour)
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": {"text": self.title, **({"subtitle": list(self.lines)} if self.lines else {})},
            "data": {"values": self.rows(runs)},
            "width": width,
            "height": self.height,
            "padding": 12,
            **body,
        }

    def for_page(self) -> Spec:
        """Return what the page's script needs to draw this chart."""
        return {
            "title": self.title,
            "lines": list(self.lines),
            "spec": self.spec,
            "height": self.height,
            "data": dict(self.data),
            "headings": dict(self.headings),
            "colours": dict(self.colours),
        }


def unique_ids(charts: Sequence[Chart]) -> list[Chart]:
    """Return the charts with ids made distinct by a number, where two labels came out alike."""
    seen: dict[str, int] = {}
    found = []
    for chart in charts:
        seen[chart.id] = seen.get(chart.id, 0) + 1
        again = seen[chart.id]
        found.append(chart if again == 1 else replace(chart, id=f"{chart.id}--{again}"))
    return found


def points_for_each(lines: int) -> int:
    """Return how many points each of so many lines may have, for a chart of `MOST_POINTS`."""
    return max(20, MOST_POINTS // max(1, lines))


def thinned(line: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most ``most`` rows of a line, evenly spaced, the first and the last among them."""
    if len(line) <= most:
        return line
    return line.iloc[np.unique(np.linspace(0, len(line) - 1, most).round().astype(int))]


def slug(text: str) -> str:
    """Return a text as part of an id or a file's name: lower-case ASCII letters, digits and hyphens.

    >>> slug("λ_max (top)"), slug("<script>alert(1)</script>"), slug("‖·‖")
    ('lambda-max-top', 'script-alert-1-script', 'x')
    """
    spelt = "".join(
        unicodedata.name(letter, "").split()[-1].lower().replace("lamda", "lambda")
        if "GREEK" in unicodedata.name(letter, "")
        else letter
        for letter in text
    )
    plain = unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60] or "x"


def _with_colour(node: Any, colour: Spec | None) -> Any:
    """Return the specification with every `COLOUR` replaced, or left out where there is none."""
    if isinstance(node, dict):
        return {
            key: _with_colour(colour if value == COLOUR else value, None if value == COLOUR else colour)
            for key, value in node.items()
            if value != COLOUR or colour is not None
        }
    return [_with_colour(item, colour) for item in node] if isinstance(node, list) else node
