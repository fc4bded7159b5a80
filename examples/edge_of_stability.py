"""Every optimizer at its own edge of stability (Cohen et al. 2021 and 2022), watched by a SharpnessMonitor.

    python examples/edge_of_stability.py [OUTPUT_FOLDER] [--quick]

An MLP 64-32-32-10 with tanh on the embedded digits, mean squared error to one-hot labels, all data in every step: by
gradient descent with momentum 0.5 and 0.9, with Nesterov's momentum 0.9, and by Adam. λ_max of the Hessian, for Adam
of the preconditioned one, rises until it meets the optimizer's edge and stays there. Writes a Parquet file for each
and the picture of all, and prints what was found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import torch
from torch import Tensor, nn

import sharpscope as ss
from sharpscope.data import load

Build = Callable[[Any], torch.optim.Optimizer]
RUNS: dict[str, Build] = {
    "momentum 0.5": lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.5),
    "momentum 0.9": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9),
    "Nesterov 0.9": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=3e-3),
}
STEPS, EVERY = 3000, 30
WITHIN = 0.1


def square_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples of ‖output − target‖²/2."""
    return (outputs - targets).square().sum(1).mean() / 2


def descend(build: Build, steps: int, path: Path, every: int = EVERY) -> ss.SharpnessMonitor:
    """Train with one optimizer, watched, and return the monitor."""
    data = load("digits").train
    inputs = 0.3 * data.inputs.flatten(1)  # small, so that λ_max starts well below the edge
    targets = nn.functional.one_hot(data.targets, 10).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = build(model.parameters())
    probe = ss.Objective(model, square_error, (inputs, targets))  # full batch: the training set is the probe
    with ss.SharpnessMonitor(probe, every=every, optimizer=optimizer, samples=4, path=path) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            square_error(model(inputs), targets).backward()
            optimizer.step()
            monitor.after_step()
    return monitor


def against_edge(monitor: ss.SharpnessMonitor) -> pd.DataFrame:
    """Return the monitor's table with the curvature that the optimizer meets, and its share of the edge."""
    table = monitor.table()
    table["curvature"] = table["lambda_max_preconditioned"].fillna(table["lambda_max"])
    return table.assign(share=table["curvature"] / table["edge"])


def picture(tables: dict[str, pd.DataFrame]) -> alt.ConcatChart:
    """Draw each optimizer's curvature against its own edge."""
    charts = []
    for name, table in tables.items():
        edge = table["edge"].iloc[-1]
        preconditioned = bool(table["lambda_max_preconditioned"].notna().any())
        formula = table["edge_of"].iloc[-1].replace("β₁", "β1")  # which few fonts have as an index
        title = alt.Title(name, subtitle=f"edge {edge:,.5g} = {formula}")
        base = alt.Chart(table[["step", "curvature", "edge"]], title=title).encode(
            x=alt.X("step", title="steps")
        )
        curve = base.mark_line(point=alt.OverlayMarkDef(size=14), strokeJoin="round").encode(
            y=alt.Y("curvature", title="preconditioned λ_max" if preconditioned else "λ_max")
        )
        line = base.mark_line(strokeDash=[6, 4], color="#c0392b").encode(y=alt.Y("edge"))
        charts.append((curve + line).properties(width=210, height=200))
    title = alt.Title(
        "Every optimizer settles at its own edge of stability",
        subtitle="full-batch training on digits; points: measurements; dashed: the optimizer's edge",
        anchor="start",
    )
    drawn = alt.concat(*charts, columns=2).resolve_scale(y="independent").properties(title=title)
    return drawn.configure_axis(titleFontWeight="normal").configure_title(
        fontWeight=600, subtitleColor="#566072"
    )


def main(folder: Path, steps: int) -> None:
    """Run every optimizer, write tables and picture, print what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name, build in RUNS.items():
        slug = name.lower().replace(" ", "-")
        monitor = descend(build, steps, folder / f"edge-of-stability-{slug}.parquet")
        tables[name] = table = against_edge(monitor)
        late = table.loc[table["step"] > steps / 2, "share"]
        print(
            f"{name}: edge {table['edge'].iloc[-1]:,.5g} = {table['edge_of'].iloc[-1]}; over the last half λ_max is "
            f"{late.median():.3f} of it (median; {late.min():.3f} to {late.max():.3f}), "
            f"{((late - 1).abs() <= WITHIN).mean():.0%} of measurements within {WITHIN:.0%}"
        )
    chart = picture(tables)
    chart.save(folder / "edge-of-stability.svg")
    chart.save(folder / "edge-of-stability.png", scale_factor=2)


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--quick"]
    main(
        Path(arguments[0] if arguments else "results/edge-of-stability"),
        90 if "--quick" in sys.argv else STEPS,
    )
