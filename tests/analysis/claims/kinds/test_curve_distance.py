"""Which rule's learning curves lie closer to the baseline's."""

import numpy as np
import pandas as pd
import pytest

from analysis.claims.grids import grid, judge

RULES = {"baseline": {"rule": "baseline"}, "a": {"rule": "linear"}, "b": {"rule": "root"}}


def tables(off_a=0.02, off_b=0.1, seeds=3, epochs=30):
    """Curves that lie ``off`` the baseline's, seed by seed; accuracy and loss by different amounts."""
    runs = grid(seeds, rule=["baseline", "linear", "root"])
    draw = np.random.default_rng(0)
    off = runs["rule"].map({"baseline": 0.0, "linear": off_a, "root": off_b})
    curves = []
    for row, away in zip(runs.itertuples(), off, strict=True):
        epoch = np.arange(1, epochs + 1)
        truth = 0.9 - 0.5 * np.exp(-epoch / 8) + 0.03 * row.seed
        wobble = 0.01 * draw.normal(size=epochs)
        curve = {"validation_accuracy": truth - away + wobble, "train_accuracy": truth - away / 2}
        curves.append(pd.DataFrame({"run_id": row.run_id, "epoch": epoch, "lr": 0.1, **curve}))
    return runs, pd.concat(curves, ignore_index=True)


def distance(runs, history, **keys):
    claim = {"kind": "curve_distance", "y": ["train_accuracy", "validation_accuracy"], **RULES}
    return judge(runs, history, **(claim | keys))


@pytest.mark.parametrize(
    ("off_a", "off_b", "verdict"),
    [(0.02, 0.1, "supported"), (0.1, 0.02, "contradicted"), (0.05, 0.05, "inconclusive")],
)
def test_verdicts(off_a, off_b, verdict):
    assert distance(*tables(off_a, off_b)).verdict == verdict


def test_the_distance_is_the_root_mean_square_and_the_mean_over_columns():
    runs, history = tables(0.02, 0.1)
    found = distance(runs, history, y=["train_accuracy"])
    assert [effect.value for effect in found.others] == pytest.approx([0.01, 0.05])
    assert found.effect.value == pytest.approx(0.2)
    history["validation_accuracy"] = history["train_accuracy"] * 3
    found = distance(runs, history)
    assert found.others[0].value == pytest.approx((0.01 + 0.03) / 2)


def test_only_shared_epochs_are_compared():
    runs, history = tables(0.02, 0.1)
    ends = history["run_id"].map(runs.set_index("run_id")["rule"]).eq("root") & (history["epoch"] > 10)
    found = distance(runs, history[~ends], y=["train_accuracy"])
    assert found.effect.value == pytest.approx(0.2)


def test_not_evaluable():
    runs, history = tables()
    assert "no epoch of a run" in distance(runs, history[:0]).reason.lower()
    assert "several runs of side b" in distance(runs, history, b={"rule": ["root", "linear"]}).reason.lower()
    assert "rule = cubic" in distance(runs, history, baseline={"rule": "cubic"}).reason
    assert "own curve" in distance(*tables(0.0, 0.1), y=["train_accuracy"]).reason
    assert distance(*tables(seeds=1)).verdict == "inconclusive"
