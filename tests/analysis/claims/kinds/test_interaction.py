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
    assert found.effect.low < 4 * change < found.effect.high, "two decades of rates, two of batches"
    assert found.effect.name == (
        "change of accuracy from the smallest to the largest lr, at the largest batch minus at the smallest batch"
    )


def test_one_too_small_to_matter_is_negligible():
    assert interaction(table(0.0), matters=0.01).verdict == "negligible"
    assert interaction(table(-0.02), matters=0.01).verdict == "supported"
    assert interaction(table(0.0, spread=0.02), matters=0.01).verdict == "inconclusive"


def test_the_changes_at_the_ends():
    small, large = interaction(table(-0.02, spread=0.0)).others
    assert (small.value, large.value) == pytest.approx((0.1, 0.02))
    assert [end.name.rpartition(", at ")[2] for end in (small, large)] == [
        "the smallest batch",
        "the largest batch",
    ]


def test_of_positive_values_the_changes_are_ratios():
    """lambda_max falls by 8 over the range of rates at the smallest batch and by 2 at the largest."""
    rows = grid(4, lr=[0.1, 1.0], batch=[10, 100])
    factor = np.where(rows["batch"] == 10, 8.0, 2.0)
    exact = rows.assign(lambda_max=3 * np.where(rows["lr"] == 1.0, 1 / factor, 1.0))
    claim = {"kind": "interaction", "x": "lr", "by": "batch", "direction": "rising"}
    found = judge(
        exact.assign(lambda_max=exact["lambda_max"] * np.exp(noise(rows, 0.01))), y="lambda_max", **claim
    )
    assert found.verdict == "supported"
    assert found.effect.value == pytest.approx(4.0, rel=0.05)
    assert found.effect.low > 3.5
    assert [end.value for end in found.others] == pytest.approx([1 / 8, 1 / 2], rel=0.05)
    assert found.effect.name.endswith("at the largest batch over at the smallest batch")
    as_difference = judge(exact, y="lambda_max", relative=False, **claim)
    assert as_difference.effect.value == pytest.approx(3 * (7 / 8 - 1 / 2))
    assert (
        judge(exact.assign(lambda_max=-1.0), y="lambda_max", relative=True, **claim).verdict
        == "not evaluable"
    )


def test_gaps_in_the_grid_do_not_bend_it():
    rows = table(-0.02, spread=0.0)
    rows = rows[~((rows["lr"] == 1.0) & (rows["batch"] == 100))]
    assert interaction(rows).effect.value == pytest.approx(-0.08)


def test_what_determines_none_is_not_evaluable():
    rows = table(-0.02)
    assert interaction(rows[rows["batch"] == 100]).verdict == "not evaluable"
    assert interaction(rows[rows["lr"] == 0.1]).verdict == "not evaluable"
    assert interaction(table(-0.02, seeds=1)).verdict == "inconclusive"


def test_zero_takes_the_linear_scale():
    rows = grid(3, lr=[0.0, 0.1, 0.4], batch=BATCHES)
    rows["accuracy"] = 0.5 + 0.2 * rows["lr"] * np.log10(rows["batch"] / 100)
    assert interaction(rows).effect.value == pytest.approx(0.2 * 0.4 * 2)


def test_a_column_of_two_texts_counts_as_nothing_and_one():
    """C8's form: accuracy falls with the batch by .04 a decade under SGD and by .01 under SAM."""
    rows = grid(4, batch=BATCHES, optimizer=["sgd", "sam"])
    slope = np.where(rows["optimizer"] == "sgd", -0.04, -0.01)
    rows["accuracy"] = 0.7 + slope * np.log10(rows["batch"]) + noise(rows, 0.001)
    claim = {"kind": "interaction", "x": "log10(batch)", "y": "accuracy", "by": "optimizer"}
    found = judge(rows, **claim, direction="falling")
    assert found.verdict == "supported"
    assert found.effect.low < -0.06 < found.effect.high, "two decades of batches"
    assert found.effect.name.endswith(", at optimizer = sgd minus at optimizer = sam")
    sam, sgd = found.others
    assert (sam.value, sgd.value) == pytest.approx((-0.02, -0.08), abs=0.004)
    assert judge(rows, **claim, direction="rising").verdict == "contradicted"
    for texts in (["sgd"], ["sgd", "sam", "asam"]):
        many = grid(4, batch=BATCHES, optimizer=texts).assign(accuracy=0.5)
        refused = judge(many, **claim, direction="falling")
        assert refused.verdict == "not evaluable"
        assert f"there are {len(texts)}" in refused.reason
