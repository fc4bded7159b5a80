"""What differs at equal sharpness, on the common support alone."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims.kinds.matched import matched_difference

RATES = [0.01, 0.03, 0.1, 0.3]


def table(advantage, ratio=3.0, seeds=4, spread=0.002):
    """Small batches are flatter by ``ratio``, flatter models better, and small batches better besides."""
    rows = grid(seeds, batch=[100, 5000], lr=RATES)
    small = rows["batch"] == 100
    sharpness = 2 / rows["lr"] / np.where(small, ratio, 1.0) * np.exp(noise(rows, 0.1))
    accuracy = 0.9 - 0.05 * np.log10(sharpness) + advantage * small + noise(rows, spread, 1)
    return rows.assign(lambda_max=sharpness, accuracy=accuracy)


def matched(rows, **keys):
    sides = {"a": {"batch": 100}, "b": {"batch": 5000}}
    claim = {"kind": "matched", "y": "accuracy", "match_on": "lambda_max", "direction": "greater", **sides}
    return judge(rows, **(claim | keys))


@pytest.mark.parametrize(
    ("advantage", "verdict"), [(0.03, "supported"), (-0.03, "contradicted"), (0.0, "inconclusive")]
)
def test_verdicts(advantage, verdict):
    rows = table(advantage)
    found = matched(rows)
    assert found.verdict == verdict
    assert found.effect.low < advantage < found.effect.high


def test_unmatched_the_difference_would_mislead():
    rows = table(0.0)
    plain = judge(
        rows,
        kind="paired",
        y="accuracy",
        a={"batch": 100},
        b={"batch": 5000},
        match=["seed", "lr"],
        direction="greater",
    )
    assert plain.verdict == "supported"
    assert matched(rows).verdict == "inconclusive"


def test_the_common_support_is_told():
    rows = table(0.03, spread=0.0)
    rows["lambda_max"] = 2 / rows["lr"] / np.where(rows["batch"] == 100, 3.0, 1.0)
    found = matched(rows)
    support = found.others[0]
    assert (support.low, support.high) == pytest.approx((2 / 0.3, 2 / 0.03))
    assert any("from 6.67 to 66.7" in sentence for sentence in found.confounds)


def test_sides_without_common_support():
    assert "no common support" in matched(table(0.03, ratio=1e5)).reason
    assert matched(table(0.03, seeds=1)).verdict == "inconclusive"


def test_noise_in_what_is_matched_bends_the_curve_less_than_it_would_in_each_seed():
    """Both sides lie on one bent curve; only side b's places on it are known without noise."""
    draw = np.random.default_rng(0)
    seed, cell = np.repeat(np.arange(8), 12), np.tile(np.arange(12), 8)
    is_a, true = cell < 6, np.linspace(0, 3, 6)[cell % 6]
    y = (true - 1.5) ** 2
    own, together = [], []
    for _ in range(150):
        m = true + np.where(is_a, 0.5, 0.0) * draw.normal(size=len(true))
        together.append(matched_difference(m, y, is_a, cell, seed)[0].value)
        alone = [
            matched_difference(*(v[seed == s] for v in (m, y, is_a, cell, seed)))[0].value for s in range(8)
        ]
        own.append(np.mean(alone))
    assert abs(np.mean(together)) < 0.3 * abs(np.mean(own))


def test_values_of_either_sign_are_matched_as_they_are():
    rows = table(0.03)
    rows["lambda_max"] = np.log(rows["lambda_max"]) - 3
    assert matched(rows).verdict == "supported"
