"""All charts of a study, in the order of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharpscope.analysis import (
    TARGETS,
    correlations,
    finished,
    measure_names,
    partial_correlations,
    wide_measures,
)
from sharpscope.analysis.rank_correlation import METHODS
from sharpscope.errors import InputError
from sharpscope.report.axes import Axis, axes_of, run_columns
from sharpscope.report.chart import Chart, RunColumns, unique_ids
from sharpscope.report.curves import curves
from sharpscope.report.heatmap import heatmap
from sharpscope.report.outcomes import outcome
from sharpscope.report.trends import trend

MeasureInfo = Mapping[str, Mapping[str, str]]
"""What is known of each measure by its label: ``title``, ``symbol``, ``definition``, ``unit``."""


@dataclass(frozen=True)
class StudyCharts:
    """A study's tables with everything derived from them that page and figures share."""

    runs: pd.DataFrame
    measures: pd.DataFrame
    axes: tuple[Axis, ...]
    targets: tuple[str, ...]
    titles: Mapping[str, str]
    correlations: pd.DataFrame
    columns: RunColumns
    curves: tuple[Chart, ...]
    trends: Mapping[str, tuple[Chart, ...]]
    outcomes: Mapping[str, tuple[Chart, ...]]
    heatmap: Chart | None

    @property
    def charts(self) -> list[Chart]:
        """Every chart, in the order of the page."""
        per_measure = [
            chart for group in (self.outcomes, self.trends) for charts in group.values() for chart in charts
        ]
        return [*([self.heatmap] if self.heatmap else []), *self.curves, *per_measure]


def chart_study(
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    history: pd.DataFrame,
    axes: Sequence[str],
    measure_info: MeasureInfo,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> StudyCharts:
    """Compute the statistics and draw up the charts of a study's tables.

    Raises `InputError` where an axis is no column of ``runs``.
    """
    runs = runs.reset_index(drop=True)
    runs = runs.assign(**{column: runs[column].map(_hashable) for column in axes if column in runs.columns})
    for column in axes:
        if column not in runs.columns:
            raise InputError(
                f"an axis is a column of the table of runs, got {column!r}; the table has "
                f"{', '.join(map(repr, runs.columns))}"
            )
    measures = measures.assign(measure=measures["measure"].astype(str)) if len(measures) else measures
    varied = axes_of(runs, axes)
    targets = tuple(
        name for name in TARGETS if name in runs.columns and np.isfinite(pd.to_numeric(runs[name])).any()
    )
    names = measure_names(measures)
    titles = short_names(names, measure_info)
    found = _statistics(runs, measures, targets, resamples, seed)
    done = finished(runs).to_numpy()
    wide = wide_measures(runs, measures)
    position = np.arange(len(runs))
    drawn: list[Chart] = curves(history, runs, varied)
    heat = heatmap(found, titles)
    groups: list[tuple[str, str, Chart]] = []
    for name in names:
        table = runs.assign(value=wide[name], position=position)[done]
        unit = measure_info.get(name, {}).get("unit", "")
        for axis in varied:
            chart = trend(table, name, titles[name], axis, varied, unit)
            groups += [("trend", name, chart)] if chart else []
        for target in targets:
            chart = outcome(table, name, titles[name], target, found, varied, unit)
            groups += [("outcome", name, chart)] if chart else []
    distinct = unique_ids([*drawn, *(chart for _, _, chart in groups)])
    drawn, rest = distinct[: len(drawn)], distinct[len(drawn) :]
    placed = [(kind, name, chart) for (kind, name, _), chart in zip(groups, rest, strict=True)]

    def of_kind(wanted: str) -> dict[str, tuple[Chart, ...]]:
        charts = {
            name: tuple(chart for kind, owner, chart in placed if (kind, owner) == (wanted, name))
            for name in names
        }
        return {name: some for name, some in charts.items() if some}

    return StudyCharts(
        runs=runs,
        measures=measures,
        axes=tuple(varied),
        targets=targets,
        titles=titles,
        correlations=found,
        columns=run_columns(runs, varied),
        curves=tuple(drawn),
        trends=of_kind("trend"),
        outcomes=of_kind("outcome"),
        heatmap=heat,
    )


def short_names(names: Sequence[str], measure_info: MeasureInfo) -> dict[str, str]:
    """Return each measure's name for charts: its symbol, else its title, else its label.

    A name that two measures would share (the same measure under two protocols) gives way to the label.

    >>> short_names(["a", "b", "c"], {"a": {"symbol": "λ"}, "b": {"title": "trace"}})
    {'a': 'λ', 'b': 'trace', 'c': 'c'}
    >>> short_names(["a", "b"], {"a": {"symbol": "λ"}, "b": {"symbol": "λ"}})
    {'a': 'a', 'b': 'b'}
    """
    wanted = {
        name: measure_info.get(name, {}).get("symbol") or measure_info.get(name, {}).get("title") or name
        for name in names
    }
    shared = list(wanted.values())
    return {name: text if shared.count(text) == 1 else name for name, text in wanted.items()}


def _hashable(value: object) -> object:
    """Return a setting that is a list or a table (a network's widths) as its JSON text."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _statistics(
    runs: pd.DataFrame, measures: pd.DataFrame, targets: Sequence[str], resamples: int, seed: int
) -> pd.DataFrame:
    """Return correlations and partial correlations in one table, the control beside each."""
    plain = correlations(runs, measures, targets, resamples=resamples, seed=seed)
    if "train_loss" not in runs.columns:
        return plain
    given = partial_correlations(runs, measures, targets, tuple(METHODS), resamples=resamples, seed=seed)
    both = [table for table in (plain, given) if len(table)]
    return pd.concat(both, ignore_index=True) if both else plain
