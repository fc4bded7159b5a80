"""a above b at one end and below at the other."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise

BATCHES = [32, 64, 128, 256, 512, 1024]


def table(crossing_at, steep=1.0, seeds=4, spread=0.05):
    rows = grid(seeds, optimizer=["sgd", "adagrad"], batch=BATCHES)
    lead = -steep * np.log2(rows["batch"] / crossing_at) * (rows["optimizer"] == "sgd")
    return rows.assign(sharpness=lead + noise(rows, spread))


def crossing(rows, **keys):
    sides = {"a": {"optimizer": "sgd"}, "b": {"optimizer": "adagrad"}}
    return judge(
        rows, **({"kind": "crossing", "x": "batch", "y": "sharpness", "low": "greater", **sides} | keys)
    )


@pytest.mark.parametrize(
    ("crossing_at", "keys", "verdict"),
    [
        (181, {}, "supported"),
        (181, {"low": "less"}, "contradicted"),
        (16, {}, "contradicted"),  # sgd is below everywhere
        (45.25, {}, "inconclusive"),  # as low as high within the lowest third
        (45.25, {"small": {"max": 32}}, "supported"),
        (700, {"large": {"min": 1000}}, "supported"),
    ],
)
def test_verdicts(crossing_at, keys, verdict):
    assert crossing(table(crossing_at), **keys).verdict == verdict


def test_the_ends_are_thirds():
    found = crossing(table(181.02, spread=1e-6))
    values = {effect.name: effect.value for effect in (found.effect, *found.others)}
    assert values == pytest.approx(
        {
            "difference in sharpness at small batch": 2.0,  # 32 and 64
            "difference in sharpness at large batch": -2.0,  # 512 and 1024
            "change of the difference in sharpness from small to large batch": -4.0,
        },
        abs=1e-3,
    )


def test_not_evaluable():
    rows = table(181)
    assert "single value" in crossing(rows[rows["batch"] == 32]).reason
    assert "no pair" in crossing(rows, large={"min": 5000}).reason.lower()
    assert crossing(table(181, seeds=1)).verdict == "inconclusive"
