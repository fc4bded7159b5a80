"""Training curves: loss and accuracy of every run over its epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sharpscope.report.axes import Axis
from sharpscope.report.chart import COLOUR, Chart, Column, points_for_each, slug, thinned
from sharpscope.report.numbers import counted, name_of, number
from sharpscope.report.scales import scale_of

QUANTITIES = ("train_loss", "test_loss", "test_accuracy", "lr")
"""What is drawn over epochs, where the history has it; the learning rate only where a schedule moves it."""


def curves(history: pd.DataFrame, runs: pd.DataFrame, axes: Sequence[Axis]) -> list[Chart]:
    """Return a chart per quantity of the history, one line per run, coloured by a hyperparameter."""
    if not len(history) or "epoch" not in history.columns:
        return []
    position = {run_id: i for i, run_id in enumerate(runs["run_id"])}
    known = history[history["run_id"].isin(position)]
    found = []
    for quantity in QUANTITIES:
        if quantity not in known.columns or (quantity == "lr" and not _scheduled(known)):
            continue
        chart = _curve(known, quantity, position, axes)
        if chart is not None:
            found.append(chart)
    return found


def _curve(
    history: pd.DataFrame, quantity: str, position: dict[str, int], axes: Sequence[Axis]
) -> Chart | None:
    values = pd.to_numeric(history[quantity]).astype(float)
    rows = history.assign(value=values)[np.isfinite(values)]
    if not len(rows):
        return None
    title = name_of(quantity).capitalize()
    keep = points_for_each(rows["run_id"].nunique())
    data: dict[str, Column] = {"run": [], "x": [], "y": []}
    cut = False
    for run_id, of_run in rows.groupby("run_id", sort=False):
        of_run = of_run.sort_values("epoch")
        thinner = thinned(of_run, keep)
        cut |= len(thinner) < len(of_run)
        of_run = thinner
        data["run"] += [position[str(run_id)]] * len(of_run)
        data["x"] += [int(epoch) for epoch in of_run["epoch"]]
        # Six digits are finer than a pixel and a third of the bytes.
        data["y"] += [float(f"{value:.6g}") for value in of_run["value"]]
    scale = scale_of(data["y"])
    n = len(set(data["run"]))
    single = max(data["x"]) == min(data["x"])
    spec = {
        "mark": {"type": "point", "filled": True, "tooltip": {"content": "data"}}
        if single
        else {
            "type": "line",
            "strokeWidth": 1.4 if n <= 60 else 1,
            "opacity": 0.85 if n <= 60 else 0.45,
            "tooltip": {"content": "data"},
        },
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "title": "epoch",
                "axis": {"tickMinStep": 1, "grid": False},
                "scale": {"zero": False, "nice": False},
            },
            "y": {
                "field": "y",
                "type": "quantitative",
                "title": None,
                "scale": scale.as_vega(),
                "axis": scale.axis(),
            },
            "detail": {"field": "id"},
            "color": COLOUR,
        },
    }
    about = f"{title} over epochs, one line for each of {counted(n, 'run')}"
    reach = f"It lies between {number(min(data['y']))} and {number(max(data['y']))}."
    caption = f"At most {keep} epochs of each run are drawn." if cut else ""
    headings = {"run": "run", "x": "epoch", "y": name_of(quantity)}
    colours = {axis.name: axis.colour(lines=not single) for axis in axes}
    return Chart(
        id=f"curve-{slug(quantity)}",
        title=title,
        spec=spec,
        data=data,
        headings=headings,
        description=f"{about}. {reach}",
        height=240,
        caption=caption,
        colours=colours,
    )


def _scheduled(history: pd.DataFrame) -> bool:
    """Return whether the learning rate moves within any run."""
    return bool((history.groupby("run_id")["lr"].nunique() > 1).any())
