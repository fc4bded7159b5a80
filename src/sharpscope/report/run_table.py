"""Every run's row, ready to print: what a cell shows, what it sorts by, what its column filters by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import pandas as pd

from sharpscope.analysis.tables import UNFINISHED
from sharpscope.report.axes import Axis, label
from sharpscope.report.numbers import name_of, number

_OUTCOMES = ("epochs", "train_loss", "test_loss", "gap", "train_accuracy", "test_accuracy")

_MOST_CHOICES = 40  # of a filter; the rates of drawn settings are nearly as many as the runs


@dataclass(frozen=True)
class Cell:
    """A cell: its text, the number it sorts by (None: by its text, after all numbers), and a remark."""

    text: str
    sort: str
    numeric: bool = False
    remark: str = ""


@dataclass(frozen=True)
class RunRow:
    """A run's cells, and the values a reader can filter it by."""

    cells: tuple[Cell, ...]
    filters: tuple[str, ...]
    unfinished: bool


@dataclass(frozen=True)
class RunTable:
    """Headings (with whether the column is numeric), filters (name, choices) and rows."""

    headings: tuple[tuple[str, bool], ...]
    filters: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[RunRow, ...]


def run_table(
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    axes: Sequence[Axis],
    titles: Mapping[str, str],
) -> RunTable:
    """Return the table of all runs, unfinished ones included, measures as columns."""
    outcomes = [
        name for name in _OUTCOMES if name in runs.columns and pd.to_numeric(runs[name]).notna().any()
    ]
    seed = ["seed"] if "seed" in runs.columns and "seed" not in {axis.column for axis in axes} else []
    headings = [("run", False), ("status", False)]
    headings += [(axis.name, axis.numeric) for axis in axes] + [(name, True) for name in seed]
    headings += [(name_of(name), True) for name in outcomes] + [(title, True) for title in titles.values()]
    if "stop_reason" in runs.columns:
        headings.append((name_of("stop_reason"), False))
    by_run = _by_run(measures)
    ended = [UNFINISHED.get(str(status), str(status)) for status in runs["status"]]
    statuses = tuple(dict.fromkeys(ended))
    filters = [("status", statuses)] if len(statuses) > 1 else []
    few = [i for i, axis in enumerate(axes) if len(axis.labels) <= _MOST_CHOICES]
    filters += [(axes[i].name, tuple(axes[i].labels)) for i in few]
    rows = []
    for record, status in zip(runs.to_dict("records"), ended, strict=True):
        cells = [_text(record["run_id"]), _text(status)]
        cells += [_setting(record[axis.column]) for axis in axes]
        cells += [_setting(record[name]) for name in seed]
        cells += [_value(record[name]) for name in outcomes]
        cells += [_measured(by_run.get((str(record["run_id"]), name))) for name in titles]
        if "stop_reason" in runs.columns:
            cells.append(_text(record["stop_reason"]))
        chosen = [status] if len(statuses) > 1 else []
        chosen += [cells[2 + i].text for i in few]
        rows.append(RunRow(tuple(cells), tuple(chosen), str(record["status"]) in UNFINISHED))
    return RunTable(tuple(headings), tuple(filters), tuple(rows))


def _by_run(measures: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    if not len(measures):
        return {}
    records = measures.to_dict("records")
    return {(str(row["run_id"]), str(row["measure"])): {str(k): v for k, v in row.items()} for row in records}


def _text(value: object) -> Cell:
    text = "–" if value is None or pd.isna(value) else str(value)  # type: ignore[call-overload]
    return Cell(text, text)


def _setting(value: Any) -> Cell:
    value = None if pd.isna(value) else value
    numeric = value is not None and not isinstance(value, str)
    return Cell(label(value), repr(float(value)) if numeric else str(value or ""), numeric)


def _value(value: Any) -> Cell:
    x = float("nan") if value is None else float(value)
    return Cell(number(x, 4), repr(x) if isfinite(x) else "", True, repr(x) if isfinite(x) else "")


def _measured(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–", "", True, "not measured")
    cell = _value(row["value"])
    text, remark = cell.text, cell.remark
    stderr = float(row.get("stderr") or 0)
    if isfinite(stderr) and stderr > 0:
        remark += f" ± {number(stderr, 2)} (standard error)"
    converged = row.get("converged")
    if converged is not None and not pd.isna(converged) and not converged:
        text += " †"
        remark += ", not converged"
    return Cell(text, cell.sort, True, remark)
