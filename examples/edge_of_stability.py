"""Full-batch gradient descent to the edge of stability (Cohen et al. 2021), watched by a SharpnessMonitor.

    python examples/edge_of_stability.py [OUTPUT_FOLDER] [--quick]

An MLP 64-32-32-10 with tanh on the embedded digits, mean squared error to one-hot labels, gradient descent without
momentum at two rates. λ_max rises until it meets 2/η and stays there. Writes a Parquet file for each rate and the
picture of both, and prints what the monitor cost: it was allowed three tenths of the time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import altair as alt
import pandas as pd
import torch
from torch import Tensor, nn

import sharpscope as ss
from sharpscope.data import load

RATES, SHARE = (0.15, 0.3), 0.3


def square_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples of ‖output − target‖²/2."""
    return (outputs - targets).square().sum(1).mean() / 2


def descend(rate: float, steps: int, path: Path) -> ss.SharpnessMonitor:
    """Train at one rate, watched, and return the monitor."""
    data = load("digits").train
    inputs = 0.3 * data.inputs.flatten(1)  # small, so that λ_max starts well below 2/η
    targets = nn.functional.one_hot(data.targets, 10).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    probe = ss.Objective(model, square_error, (inputs, targets))  # full batch: the training set is the probe
    with ss.SharpnessMonitor(probe, share=SHARE, optimizer=optimizer, samples=4, path=path) as monitor:
        monitor.measure()  # where training starts
        for _ in range(steps):
            optimizer.zero_grad()
            square_error(model(inputs), targets).backward()
            optimizer.step()
            monitor.after_step()
    return monitor


def picture(tables: dict[float, pd.DataFrame]) -> alt.VConcatChart:
    """Draw λ_max against its line, and the training loss below."""
    table = pd.concat([t.assign(rate=f"η = {rate}") for rate, t in tables.items()])
    base = alt.Chart(table).encode(
        x=alt.X("step", title="gradient descent steps"), color=alt.Color("rate", title="learning rate")
    )
    top = (
        base.mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(y=alt.Y("lambda_max", title="λ_max"))
        .properties(width=560, height=260)
    )
    line = base.mark_line(strokeDash=[6, 4]).encode(y=alt.Y("two_over_lr", title="λ_max"))
    loss = base.mark_line().encode(y=alt.Y("loss", title="training loss", scale=alt.Scale(type="log")))
    title = alt.Title(
        "λ_max rises to 2/η and stays there",
        subtitle="full-batch gradient descent; points: measurements; dashed: 2/η",
        anchor="start",
    )
    return alt.vconcat((top + line), loss.properties(width=560, height=140)).properties(title=title)


def main(folder: Path, steps: int) -> None:
    """Run both rates, write tables and picture, print what was found and what it cost."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for rate in RATES:
        monitor = descend(rate, steps, folder / f"edge-of-stability-{rate}.parquet")
        tables[rate] = table = monitor.table()
        late = table[table["step"] > steps / 2]
        print(
            f"rate {rate}: 2/rate = {2 / rate:.2f}, λ_max {table['lambda_max'].iloc[0]:.2f} at the start, "
            f"{late['lambda_max'].median():.2f} (median) in the second half; {len(table)} measurements took "
            f"{monitor.seconds:.1f} s, {monitor.share:.1%} of the time (asked for: {SHARE:.0%})"
        )
    chart = picture(tables)
    chart.save(folder / "edge-of-stability.svg")
    chart.save(folder / "edge-of-stability.png", scale_factor=2)


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--quick"]
    main(
        Path(arguments[0] if arguments else "results/edge-of-stability"),
        60 if "--quick" in sys.argv else 6000,
    )
