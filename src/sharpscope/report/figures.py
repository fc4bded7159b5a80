"""Every chart as a file of its own, drawn without a browser or a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sharpscope.errors import InputError
from sharpscope.report.chart import Chart, RunColumns
from sharpscope.report.charts import MeasureInfo, chart_study
from sharpscope.report.paper_figures import PaperFigure, charts_of, draw_figures
from sharpscope.report.theme import config
from sharpscope.serialization import write_whole

FORMATS = ("svg", "png")
"""The formats a figure can be saved in."""

_WIDTH = 520


def save_figures(
    runs: pd.DataFrame,
    measures: pd.DataFrame,
    history: pd.DataFrame,
    axes: Sequence[str],
    folder: Path | str,
    *,
    measure_info: MeasureInfo | None = None,
    figures: Sequence[PaperFigure] = (),
    formats: Sequence[str] = FORMATS,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Path]:
    """Draw every chart of the report as ``folder/<chart>.<format>`` and return the paths.

    The tables are those of `build_page`. Drawn on white, PNG at twice the size. Raises `InputError` for an
    unknown format.
    """
    for form in formats:
        if form not in FORMATS:
            raise InputError(f"a figure is saved as {' or '.join(FORMATS)}, got {form!r}")
    study = chart_study(runs, measures, history, axes, measure_info or {}, resamples=resamples, seed=seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_whole(folder / f"{chart.id}.{form}", draw(chart, study.columns, form))
        for chart in [*charts_of(draw_figures(figures)), *study.charts]
        for form in formats
    ]


def draw(chart: Chart, runs: RunColumns, form: str) -> bytes:
    """Return one chart as SVG or PNG."""
    import vl_convert

    spec = json.dumps(chart.specification(runs, _WIDTH), allow_nan=False)
    theme: Mapping[str, object] = {**config("light"), "background": "white"}
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(spec, config=dict(theme))).encode()
    return bytes(vl_convert.vegalite_to_png(spec, config=dict(theme), scale=2))
