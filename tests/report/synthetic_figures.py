"""A declared figure of every kind over the synthetic study, with rows of its own where the study has none."""

import numpy as np
import pandas as pd

from sharpscope.report import PaperFigure

SETTINGS = ("optimizer", "lr", "batch_size", "seed")


def results(runs, measures):
    wide = measures.pivot(index="run_id", columns="measure", values="value").reset_index()
    return runs.merge(wide, on="run_id", how="left")


def figures(runs, measures, history):
    """Return a figure of every kind of table, and one whose runs are missing."""
    rows = results(runs, measures)
    settings = rows[["run_id", "status", *SETTINGS]]
    finished = rows[rows["status"] == "finished"]
    epochs = history.drop(columns="lr").merge(settings, on="run_id")
    tracks = epochs[epochs["epoch"] % 5 == 0].assign(lambda_max=lambda t: 30 / t["epoch"] + t["train_loss"])
    alpha = np.linspace(-1, 2, 7)
    pairs = [
        pd.DataFrame(
            {
                "pair": f"line {seed}",
                "landscape": "line",
                "seed": seed,
                "alpha": alpha,
                "loss": 0.1 + (alpha - seed) ** 2,
                "accuracy": 0.9 - 0.1 * abs(alpha),
            }
        )
        for seed in (0, 1)
    ]
    x, y = (side.ravel() for side in np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)))
    plane = pd.DataFrame({"run_id": rows["run_id"][0], "x": x, "y": y, "loss": 0.01 + x**2 + 3 * y**2})
    edges = np.linspace(-0.4, 0.4, 9)
    bins = [
        pd.DataFrame(
            {"run_id": run, "low": edges[:-1], "high": edges[1:], "count": [0, 2, 9, 40, 50, 8, 1, 0]}
        )
        for run in finished["run_id"][:2]
    ]
    common = {"settings": SETTINGS}
    return [
        PaperFigure(
            "fig1",
            "λ_max and test accuracy against the rate",
            "results",
            rows,
            "lr",
            ("lambda_max", "test_accuracy"),
            colour="batch_size",
            panel="optimizer",
            x_scale="log",
            y_scale="log",
            line="2/lr",
            **common,
        ),
        PaperFigure("fig2", "", "results", rows, "lambda_max", ("gap",), colour="lr/batch_size", **common),
        PaperFigure("fig3", "", "results", rows, "optimizer", ("trace",), colour="batch_size", **common),
        PaperFigure(
            "curves", "", "history", epochs, "epoch", ("log10(train_loss)",), colour="optimizer", **common
        ),
        PaperFigure(
            "followed",
            "",
            "tracks",
            tracks,
            "epoch",
            ("lambda_max",),
            colour="lr",
            line="2/lr",
            where={"optimizer": "sgd"},
            y_scale="log",
            **common,
        ),
        PaperFigure(
            "line",
            "",
            "landscapes",
            pd.concat(pairs),
            "alpha",
            ("loss", "accuracy"),
            colour="seed",
            panel="landscape",
        ),
        PaperFigure("plane", "", "surfaces", plane.merge(settings, on="run_id"), "x", ("y",), **common),
        PaperFigure(
            "weights",
            "",
            "histograms",
            pd.concat(bins).merge(settings, on="run_id"),
            "low",
            ("count",),
            y_scale="log",
            **common,
        ),
        PaperFigure("later", "", "landscapes", pd.DataFrame(), "alpha", ("loss",)),
    ]
