"""A slope that shrinks or grows with a third quantity."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise

RATES, BATCHES = [0.01, 0.1, 1.0], [100, 1000, 10_000]


def table(change, spread=0.002, seeds=4):
    rows = grid(seeds, lr=RATES, batch=BATCHES)
    slope = 0.05 + change * np.log10(rows["batch"] / 100)
    accuracy = 0.7 + slope * np.log10(rows["lr"]) - 0.1 * np.log10(rows["batch"])
    return rows.assign(accuracy=accuracy + noise(rows, spread))


def interaction(rows, direction="falling", **keys):
    return judge(rows, kind="interaction", x="lr", y="accuracy", by="batch", direction=direction, **keys)


@pytest.mark.parametrize(
    ("change", "verdict"), [(-0.02, "supported"), (0.02, "contradicted"), (0.0, "inconclusive")]
)
def test_verdicts(change, verdict):
    found = interaction(table(change))
    assert found.verdict == verdict
    assert found.effect.low < change < found.effect.high
    assert found.effect.unit == "per tenfold lr, per tenfold batch"


def test_the_slopes_at_the_ends():
    small, large = interaction(table(-0.02, spread=0.0)).others
    assert (small.value, large.value) == pytest.approx((0.05, 0.01))


def test_gaps_in_the_grid_do_not_bend_it():
    rows = table(-0.02, spread=0.0)
    rows = rows[~((rows["lr"] == 1.0) & (rows["batch"] == 100))]
    assert interaction(rows).effect.value == pytest.approx(-0.02)


def test_what_determines_none_is_not_evaluable():
    rows = table(-0.02)
    assert interaction(rows[rows["batch"] == 100]).verdict == "not evaluable"
    assert interaction(rows[rows["lr"] == 0.1]).verdict == "not evaluable"
    assert interaction(table(-0.02, seeds=1)).verdict == "inconclusive"


def test_zero_takes_the_linear_scale():
    rows = table(0.0).replace({"lr": {0.01: 0.0}})
    assert interaction(rows).effect.unit == "per unit of lr, per tenfold batch"


def test_a_column_of_two_texts_counts_as_nothing_and_one():
    """C8's form: accuracy falls with the batch by .04 a decade under SGD and by .01 under SAM."""
    rows = grid(4, batch=BATCHES, optimizer=["sgd", "sam"])
    slope = np.where(rows["optimizer"] == "sgd", -0.04, -0.01)
    rows["accuracy"] = 0.7 + slope * np.log10(rows["batch"]) + noise(rows, 0.001)
    claim = {"kind": "interaction", "x": "log10(batch)", "y": "accuracy", "by": "optimizer"}
    found = judge(rows, **claim, direction="falling")
    assert found.verdict == "supported"
    assert found.effect.low < -0.03 < found.effect.high
    assert found.effect.name.endswith("with optimizer = sgd")
    sam, sgd = found.others
    assert (sam.value, sgd.value) == pytest.approx((-0.01, -0.04), abs=0.002)
    assert judge(rows, **claim, direction="rising").verdict == "contradicted"
    for texts in (["sgd"], ["sgd", "sam", "asam"]):
        many = grid(4, batch=BATCHES, optimizer=texts).assign(accuracy=0.5)
        refused = judge(many, **claim, direction="falling")
        assert refused.verdict == "not evaluable"
        assert f"there are {len(texts)}" in refused.reason
