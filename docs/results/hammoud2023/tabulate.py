"""Print the table of README.md from the CSV files beside this script: python tabulate.py

τ_b between sharpness and test loss over fifty models of one setting, its 95 % interval by bootstrap over the models,
and the same given training loss.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sharpscope.analysis import correlations, partial_correlations

HERE = Path(__file__).parent
TRAINED = {"": "as written", "_as_coded": "as coded"}
PAPER = {"fcnn": -0.311, "gat": -0.185}


def rows() -> list[str]:
    """Return one Markdown row per study and protocol."""
    lines = []
    for model, reported in PAPER.items():
        for suffix, trained in TRAINED.items():
            runs = pd.read_csv(HERE / f"{model}{suffix}_runs.csv")
            measures = pd.read_csv(HERE / f"{model}{suffix}_measures.csv")
            plain = correlations(runs, measures, ("test_loss",), ("kendall",))
            given = partial_correlations(runs, measures, ("test_loss",), ("kendall",))
            low, high = runs["train_loss"].min(), runs["train_loss"].max()
            for p, g in zip(plain.itertuples(), given.itertuples(), strict=True):
                lines.append(
                    f"| {model} | {trained} | {p.measure} | {p.n} | {p.value:+.2f} [{p.low:+.2f}, {p.high:+.2f}] "
                    f"| {g.value:+.2f} [{g.low:+.2f}, {g.high:+.2f}] | {reported:+.3f} | {low:.3g} to {high:.3g} |"
                )
    return lines


if __name__ == "__main__":
    print("| model | trained | sharpness | n | τ_b | τ_b given training loss | paper | training losses |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows()))
