"""A curve is followed everywhere or not at all."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise

RATES = [0.01, 0.05, 0.1]


def follow(factor, spread=0.03, tolerance=0.25, seeds=4):
    rows = grid(seeds, lr=RATES)
    rows["lambda_max"] = 2 / rows["lr"] * rows["lr"].map(factor) * np.exp(noise(rows, spread))
    return judge(rows, kind="curve", x="lr", y="lambda_max", curve="2/lr", tolerance=tolerance)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((1.0, 1.05, 0.97), "supported"),
        ((2.0, 2.0, 2.0), "contradicted"),
        ((0.5, 0.5, 0.5), "contradicted"),
        ((2.0, 1.0, 0.5), "contradicted"),  # right on average, and wrong
        ((1.25, 1.25, 1.25), "inconclusive"),
    ],
)
def test_verdicts(factors, verdict):
    found = follow(dict(zip(RATES, factors, strict=True)))
    assert found.verdict == verdict


def test_the_worst_point_is_told():
    found = follow({0.01: 1.0, 0.05: 1.5, 0.1: 1.0}, spread=0.0)
    off, mean, worst = found.effect, *found.others
    assert off.value == pytest.approx(1.5 ** (1 / 3))
    assert mean.value == pytest.approx(1.5 ** (1 / 3))
    assert worst.value == pytest.approx(1.5)
    assert worst.name.endswith("at lr = 0.05")


def test_signs_and_one_seed():
    assert follow(dict.fromkeys(RATES, -1.0)).verdict == "not evaluable"
    assert follow(dict.fromkeys(RATES, 1.0), seeds=1).verdict == "inconclusive"
