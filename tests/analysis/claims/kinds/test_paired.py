"""Pairs: within seeds, in a range, at an epoch, every one."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge, noise

SIDES = {"a": {"optimizer": "sam"}, "b": {"optimizer": "sgd"}}


def table(advantage=0.06, spread=0.005, seeds=3, **axes):
    rows = grid(seeds, optimizer=["sam", "sgd"], **axes)
    of_seed = 0.05 * rows["seed"]  # seeds differ by more than the sides do
    return rows.assign(
        accuracy=0.6 + of_seed + advantage * (rows["optimizer"] == "sam") + noise(rows, spread)
    )


def paired(rows, **keys):
    return judge(rows, **({"kind": "paired", "y": "accuracy", "direction": "greater", **SIDES} | keys))


def test_the_interval_is_that_of_the_paired_t_test():
    rows = table(seeds=5, spread=0.03)
    a, b = (rows[rows["optimizer"] == name]["accuracy"].to_numpy() for name in ("sam", "sgd"))
    low, high = stats.ttest_rel(a, b).confidence_interval(0.9)
    found = paired(rows, level=0.9).effect
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("advantage", "keys", "verdict"),
    [
        (0.06, {}, "supported"),
        (-0.06, {}, "contradicted"),
        (0.06, {"direction": "less"}, "contradicted"),
        (0.001, {}, "inconclusive"),
        (0.07, {"direction": None, "difference": {"min": 0.05, "max": 0.1}}, "supported"),
        (0.15, {"direction": None, "difference": {"min": 0.05, "max": 0.1}}, "contradicted"),
        (0.05, {"direction": None, "difference": {"min": 0.05, "max": 0.1}}, "inconclusive"),
        (-0.001, {"direction": None, "difference": {"min": -0.03}}, "supported"),  # no worse
        (0.0, {"direction": None, "ratio": {"min": 0.9, "max": 1.1}}, "supported"),
        (0.6, {"direction": None, "ratio": {"min": 0.9, "max": 1.1}}, "contradicted"),
    ],
)
def test_verdicts(advantage, keys, verdict):
    keys = {key: value for key, value in keys.items() if value is not None}
    rows = table(advantage)
    claim = {"kind": "paired", "y": "accuracy", **SIDES, **keys}
    if not {"difference", "ratio", "direction"} & set(claim):
        claim["direction"] = "greater"
    assert judge(rows, **claim).verdict == verdict


def test_every_pair_counts_where_each_is_claimed():
    rows = table(seeds=12)
    assert paired(rows, every=True).verdict == "supported"
    rows.loc[(rows["seed"] == 7) & (rows["optimizer"] == "sam"), "accuracy"] -= 0.1
    assert paired(rows).verdict == "supported"
    found = paired(rows, every=True)
    assert found.verdict == "contradicted"
    assert "seed = 7" in found.reason
    assert found.others[0].value == pytest.approx(11 / 12)


def test_settings_are_matched_too():
    rows = table(lr=[0.1, 0.2])
    rows["accuracy"] += rows["lr"]
    assert "everal runs of side a share seed = 0" in paired(rows).reason
    found = paired(rows, match=["seed", "lr"])
    assert (found.rows, found.clusters, found.verdict) == (12, 3, "supported")


def test_a_run_without_partner_is_left_out():
    rows = table(seeds=4)
    expected = paired(rows[rows["seed"] > 0]).effect
    rows.loc[0, "status"] = "diverged"
    found = paired(rows)
    assert found.effect == expected
    assert "1 of 7 runs found no partner and are left out." in found.confounds
    assert paired(rows[rows["optimizer"] == "sam"]).verdict == "not evaluable"


def test_one_seed():
    found = paired(table(seeds=1))
    assert found.verdict == "inconclusive"
    assert "single seed" in found.reason


def history(rows, epochs=10):
    return pd.concat(
        pd.DataFrame(
            {
                "run_id": row.run_id,
                "epoch": np.arange(1, epochs + 1),
                "lr": 0.0,
                "accuracy": row.accuracy - 0.01 * (epochs - np.arange(1, epochs + 1)),
            }
        )
        for row in rows.itertuples()
    )


def test_sides_at_epochs_of_their_own():
    rows = table(0.06, spread=0.0)
    for half in (5, 0.5):
        found = paired(rows, history=history(rows), a_epoch=half, b_epoch=1.0)
        assert found.effect.value == pytest.approx(0.06 - 0.05)
    noisy = table(0.06)
    assert paired(noisy, history=history(noisy), a_epoch=2, b_epoch=10).verdict == "contradicted"
    assert paired(rows, history=history(rows), a_epoch=11).reason.startswith("No run has an epoch 11")
    assert paired(rows, a_epoch=5).verdict == "not evaluable"


def test_settings_are_named_in_the_history_too():
    """The history's own lr is the epoch's; a claim's is the run's."""
    rows = table(0.06, lr=[0.1, 0.2])
    found = paired(rows, history=history(rows), source="history", where={"lr": 0.2}, match=["seed", "epoch"])
    assert (found.rows, found.clusters, found.verdict) == (60, 3, "supported")


def test_coverage_with_three_seeds():
    draw = np.random.default_rng(0)
    rows = grid(3, optimizer=["sam", "sgd"])
    covered = 0
    for _ in range(60):
        found = paired(rows.assign(accuracy=draw.normal(size=6))).effect
        covered += found.low < 0 < found.high
    assert covered >= 52
