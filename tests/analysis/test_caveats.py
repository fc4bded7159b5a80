"""What the warnings say, and when they keep silent."""

import numpy as np
import pandas as pd

from sharpscope.analysis import warnings


def tables(n=24):
    runs = pd.DataFrame(
        {
            "run_id": [f"r{i}" for i in range(n)],
            "configuration": [f"c{i // 2}" for i in range(n)],
            "status": "finished",
            "seed": [i % 2 for i in range(n)],
            "train_loss": np.linspace(0.10, 0.11, n),
        }
    )
    long = pd.DataFrame({"run_id": runs["run_id"], "measure": "trace", "value": 1.0, "converged": True})
    return runs, long


def kinds(runs, long):
    return [caveat.kind for caveat in warnings(runs, long)]


def test_silence_where_nothing_is_wrong():
    assert kinds(*tables()) == []


def test_divergence_names_the_runs():
    runs, long = tables()
    runs.loc[[3, 5], "status"] = "diverged"
    (caveat,) = warnings(runs, long)
    assert caveat.kind == "diverged"
    assert caveat.run_ids == ("r3", "r5")
    assert caveat.text.startswith("2 of 24 runs diverged")


def test_unequal_losses_state_their_spread():
    runs, long = tables()
    runs.loc[0, "train_loss"] = 0.001
    (caveat,) = warnings(runs, long)
    assert caveat.kind == "unequal losses"
    assert "from 0.001 to 0.11, a factor of 110" in caveat.text


def test_runs_that_learned_nothing_are_named():
    runs, long = tables()
    runs["constant_loss"] = 2.3
    assert kinds(runs, long) == []
    runs.loc[2, "train_loss"], runs.loc[4, "train_loss"] = 2.29, 2.0
    first = warnings(runs, long)[0]
    assert first.kind == "untrained"
    assert first.run_ids == ("r2",)
    assert first.text.startswith("1 of 24 finished runs learned next to nothing")
    runs["constant_loss"] = np.nan  # a store written before it was recorded
    assert "untrained" not in kinds(runs, long)


def test_a_zero_training_loss_has_no_factor():
    runs, long = tables()
    runs.loc[0, "train_loss"] = 0.0
    (caveat,) = warnings(runs, long)
    assert "factor" not in caveat.text


def test_not_converged_and_missing_measures():
    runs, long = tables()
    long["converged"] = long["converged"].astype(object)
    long.loc[0, "converged"] = False
    long.loc[2, "converged"] = None  # a measure without the notion
    long.loc[1, "value"] = np.nan
    found = warnings(runs, long)
    assert [(caveat.kind, caveat.run_ids) for caveat in found] == [
        ("not converged", ("r0",)),
        ("missing", ("r1",)),
    ]


def test_small_samples():
    runs, long = tables(n=8)
    assert kinds(runs, long) == ["few configurations"]
    runs["configuration"] = runs["run_id"]
    assert kinds(runs, long) == ["few configurations", "single seed"]
    runs["configuration"] = "only"
    assert "8 independent runs" in warnings(runs, long)[0].text


def test_nothing_finished():
    runs, long = tables(n=2)
    assert kinds(runs.assign(status="diverged"), long) == ["diverged", "nothing finished"]
    assert kinds(runs[:0], long[:0]) == ["nothing finished"]
