"""The figures that a study declares, with the rows of its tables that each draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sharpscope.analysis.claims import Evidence
from sharpscope.report import PaperFigure
from sharpscope.studies.results.records import Record

if TYPE_CHECKING:
    from sharpscope.studies.results.tables import Tables

_SETTINGS = ("data", "model", "optimizer", "lr", "batch_size", "seed")


def paper_figures(tables: Tables) -> list[PaperFigure]:
    """Return every figure of a study, in the file's order."""
    settings = (*_SETTINGS, *tables.study["axes"])
    return [_figure(declared, tables, settings) for declared in tables.study["figures"]]


def _figure(declared: Record, tables: Tables, settings: tuple[str, ...]) -> PaperFigure:
    y = declared["y"]
    return PaperFigure(
        **{**declared, "y": (y,) if isinstance(y, str) else tuple(y)},
        rows=_rows(declared["table"], tables),
        settings=settings,
    )


def _rows(table: str, tables: Tables) -> pd.DataFrame:
    """Return the rows of a table with their runs' settings beside them."""
    results = tables.results()
    if table == "landscapes":
        return tables.views["landscapes"]
    if table in ("surfaces", "histograms"):
        view = tables.views[table]
        beside = ["run_id", *(name for name in results.columns if name not in view.columns)]
        return view.merge(results[beside], on="run_id", how="inner") if len(view) else view
    return Evidence(results, tables.history, tracks=tables.tracks).table(table)  # type: ignore[arg-type]
