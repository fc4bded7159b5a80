"""Flatness is shown, not merely left unrefuted."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise

BATCHES = [32, 64, 128, 256]


def table(change=0.0, spread=0.02, seeds=4):
    rows = grid(seeds, batch=BATCHES)
    position = np.log2(rows["batch"] / 32) / 3
    return rows.assign(sharpness=5 * (1 + change) ** position * np.exp(noise(rows, spread, 1)))


def flat(rows, margin=0.2, **keys):
    return judge(rows, kind="flat", x="batch", y="sharpness", margin=margin, **keys)


@pytest.mark.parametrize(
    ("change", "spread", "verdict"),
    [
        (0.0, 0.02, "supported"),
        (0.1, 0.02, "supported"),
        (0.5, 0.02, "contradicted"),
        (-0.5, 0.02, "contradicted"),
        (0.2, 0.02, "inconclusive"),
        (0.0, 0.8, "inconclusive"),  # nothing found is not nothing there
    ],
)
def test_equivalence(change, spread, verdict):
    found = flat(table(change, spread))
    assert found.verdict == verdict
    assert found.effect.low < change < found.effect.high


def test_a_hump_is_not_flat():
    rows = table()
    rows.loc[rows["batch"] == 64, "sharpness"] *= 1.5
    rows.loc[rows["batch"] == 128, "sharpness"] *= 1.5
    found = flat(rows)
    assert abs(found.effect.value) < 0.1
    assert found.verdict == "inconclusive"
    assert "at one value of batch" in found.reason


@pytest.mark.parametrize(
    ("side", "change", "verdict"),
    [
        ("not_rising", -0.5, "supported"),
        ("not_rising", 0.5, "contradicted"),
        ("not_falling", 0.5, "supported"),
        ("not_falling", -0.5, "contradicted"),
    ],
)
def test_one_side(side, change, verdict):
    assert flat(table(change), side=side).verdict == verdict


def test_an_absolute_margin_is_in_the_unit_of_y():
    rows = table(0.1)  # from 5 to 5.5
    assert flat(rows, margin=1.0, relative=False).verdict == "supported"
    assert flat(rows, margin=0.2, relative=False).verdict == "contradicted"


def test_values_of_either_sign():
    rows = table().assign(sharpness=lambda t: t["sharpness"] - 5 + 0.001)
    found = flat(rows)
    assert np.isfinite(found.effect.value)
    assert flat(rows.assign(sharpness=0.0)).verdict == "not evaluable"


def test_one_seed():
    assert flat(table(seeds=1)).verdict == "inconclusive"


def test_a_logarithm_is_not_taken_twice():
    rows = table(0.1)
    written = judge(rows, kind="flat", x="log(batch)", y="sharpness", margin=0.2)
    assert written.effect.value == pytest.approx(flat(rows).effect.value)
