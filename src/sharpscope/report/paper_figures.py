"""Figures in a paper's own axes: what a study declares of them, with the rows they are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.conditions import check_conditions, holds
from sharpscope.analysis.claims.expression import columns_of, evaluate_expression
from sharpscope.analysis.tables import finished
from sharpscope.errors import InputError
from sharpscope.report.axes import label_or_dash
from sharpscope.report.chart import Chart, slug, unique_ids
from sharpscope.report.figure_axes import ColourScale, Side, name_of_expression
from sharpscope.report.figure_cells import cells
from sharpscope.report.figure_lines import lines, steps
from sharpscope.report.figure_points import points
from sharpscope.report.numbers import name_of

_MOST_PANELS = 24


@dataclass(frozen=True)
class PaperFigure:
    """A figure as a study declares it, and its rows.

    ``table`` says what the rows are: ``results`` (a run each), ``history`` and ``tracks`` (a run and epoch),
    ``landscapes`` (a pair of runs and α), ``surfaces`` (a run and a point of the plane), ``histograms`` (a run and a
    bin). ``x``, ``y``, ``colour``, ``panel`` and ``line`` are columns of ``rows`` or arithmetic over them; ``where``
    selects rows. ``settings`` are the columns that the study set, not measured: over those, means are taken.
    ``names`` says what readers are to call a column or expression; the others have the names of everywhere else.
    """

    id: str
    title: str
    table: Literal["results", "history", "tracks", "landscapes", "surfaces", "histograms"]
    rows: pd.DataFrame
    x: str
    y: tuple[str, ...]
    colour: str | None = None
    panel: str | None = None
    where: dict[str, object] | None = None
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    line: str | None = None
    settings: Collection[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, text: str) -> str:
        """Return what readers are to call a column or expression."""
        return self.names.get(text) or name_of_expression(text)


@dataclass(frozen=True)
class DrawnFigure:
    """A figure's charts, one for each ``y`` and panel; or, where there is none yet, the reason."""

    id: str
    title: str
    charts: tuple[Chart, ...]
    missing: str = ""


def draw_figures(figures: Sequence[PaperFigure]) -> tuple[DrawnFigure, ...]:
    """Return every figure with its charts; one that nothing can be drawn of yet says why."""
    drawn = [_draw(figure) for figure in figures]
    distinct = iter(unique_ids(charts_of(drawn)))
    return tuple(replace(one, charts=tuple(next(distinct) for _ in one.charts)) for one in drawn)


def charts_of(figures: Sequence[DrawnFigure]) -> list[Chart]:
    """Return the charts of all figures."""
    return [chart for figure in figures for chart in figure.charts]


def _draw(figure: PaperFigure) -> DrawnFigure:
    try:
        return DrawnFigure(figure.id, figure.title, tuple(_charts(figure)))
    except InputError as error:
        return DrawnFigure(figure.id, figure.title, (), str(error))


def _charts(figure: PaperFigure) -> list[Chart]:
    rows = _chosen(figure)
    colour = panel = None
    if figure.colour and figure.table != "surfaces":  # a surface's colour is a value
        colour, rows["_c"] = ColourScale.of(rows, figure.colour, "c", figure.name(figure.colour))
    if figure.panel:
        panel, rows["_p"] = ColourScale.of(rows, figure.panel, "p", figure.name(figure.panel))
    names = panel.labels[:_MOST_PANELS] if panel is not None and len(panel.labels) > 1 else (None,)
    found = []
    for y in figure.y:
        values = evaluate_expression(y, rows)
        if not np.isfinite(values).any():
            raise InputError(f"no run has a finite value of {figure.name(y)} yet")
        shared = rows.assign(_y=values)[np.isfinite(values)]
        for name in names:
            here = shared if name is None else shared[shared["_p"] == name]
            if len(here):
                found += _DRAW[figure.table](figure, here, shared, y, colour, _named(figure, y, name))
    return found


def _chosen(figure: PaperFigure) -> pd.DataFrame:
    """Return the rows that the figure is about, where it stands in x in a column ``_x`` of their own."""
    rows: pd.DataFrame = figure.rows
    if not len(rows):
        raise InputError("the runs that it draws are not done yet")
    if figure.where:
        rows = rows[holds(rows, check_conditions(dict(figure.where)))]
    if "status" in rows.columns:
        rows = rows[finished(rows)]
    if not len(rows):
        raise InputError("none of the runs that it draws has finished")
    if figure.x in rows.columns and not pd.api.types.is_numeric_dtype(rows[figure.x]):
        return rows.assign(_x=rows[figure.x].map(label_or_dash)).reset_index(drop=True)
    rows = rows.assign(_x=evaluate_expression(figure.x, rows))
    rows = rows.loc[np.isfinite(rows["_x"])]
    if not len(rows):
        raise InputError(f"no run has a finite value of {figure.name(figure.x)} yet")
    return rows.reset_index(drop=True)


@dataclass(frozen=True)
class _Names:
    id: str
    title: str
    heading: str


def _named(figure: PaperFigure, y: str, panel: str | None) -> _Names:
    """Return a chart's id and title: y against x, and in which panel."""
    heading = figure.name(y)
    where = "" if panel is None or figure.panel is None else f", {figure.name(figure.panel)} {panel}"
    x = "weight" if figure.table == "histograms" else figure.name(figure.x)
    of = f"{figure.id} {y}" + ("" if panel is None else f" {panel}")
    return _Names(f"figure-{slug(of)}", f"{heading} against {x}{where}", heading)


def _of_points(
    figure: PaperFigure,
    rows: pd.DataFrame,
    shared: pd.DataFrame,
    y: str,
    colour: ColourScale | None,
    names: _Names,
) -> list[Chart]:
    grid = set(columns_of(figure.x)) <= set(figure.settings)
    x = Side.of(figure.name(figure.x), shared["_x"], figure.x_scale, grid=grid)
    line = None
    if figure.line is not None and not y.endswith("accuracy"):
        line = evaluate_expression(figure.line, rows)
    side = Side.of(names.heading, shared["_y"], _y_scale(figure, y), extra=line)
    return [points(names.id, names.title, rows, x, side, colour, line, _line_name(figure))]


def _of_lines(
    figure: PaperFigure,
    rows: pd.DataFrame,
    shared: pd.DataFrame,
    y: str,
    colour: ColourScale | None,
    names: _Names,
) -> list[Chart]:
    x = Side.of(figure.name(figure.x), shared["_x"], figure.x_scale)
    line = evaluate_expression(figure.line, rows) if figure.line is not None else None
    side = Side.of(names.heading, shared["_y"], _y_scale(figure, y), extra=line)
    each = "pair" if figure.table == "landscapes" else "run_id"
    return [lines(names.id, names.title, rows, x, side, colour, each, line, _line_name(figure))]


def _of_steps(
    figure: PaperFigure,
    rows: pd.DataFrame,
    shared: pd.DataFrame,
    y: str,
    colour: ColourScale | None,
    names: _Names,
) -> list[Chart]:
    x = Side.of("weight", pd.concat([shared["low"], shared["high"]]), "linear")
    positive = shared[shared["_y"] > 0] if _y_scale(figure, y) == "log" else shared
    side = Side.of(names.heading, positive["_y"], _y_scale(figure, y))
    return [steps(names.id, names.title, rows, x, side, colour)]


def _of_cells(
    figure: PaperFigure,
    rows: pd.DataFrame,
    shared: pd.DataFrame,
    y: str,
    colour: ColourScale | None,
    names: _Names,
) -> list[Chart]:
    found = []
    for place, (run, group) in enumerate(rows.groupby("run_id", sort=False)):
        if place == _MOST_PANELS:
            break
        about = f"{name_of(figure.colour or 'loss').capitalize()} around run {str(run)[:8]}"
        chart = cells(f"{names.id}-{slug(str(run)[:8])}", about, group, figure.colour or "loss")
        found.append(replace(chart, caption=_settings_of(group, figure.settings)))
    return found


def _settings_of(group: pd.DataFrame, settings: Collection[str]) -> str:
    kept = [name for name in group.columns if name in set(settings)]
    return ", ".join(f"{name_of(name)} {label_or_dash(group[name].iloc[0])}" for name in kept)


def _line_name(figure: PaperFigure) -> str | None:
    return None if figure.line is None else figure.name(figure.line)


def _y_scale(figure: PaperFigure, y: str) -> Literal["linear", "log"]:
    """An accuracy is read on a linear axis, whatever stands beside it."""
    return "linear" if y.endswith("accuracy") else figure.y_scale


_Draws = Callable[[PaperFigure, pd.DataFrame, pd.DataFrame, str, ColourScale | None, _Names], list[Chart]]


_DRAW: dict[str, _Draws] = {
    "results": _of_points,
    "history": _of_lines,
    "tracks": _of_lines,
    "landscapes": _of_lines,
    "histograms": _of_steps,
    "surfaces": _of_cells,
}
