"""Spreads over seeds: the interval is exact, and with three seeds says next to nothing."""

import numpy as np
import pytest
from scipy import stats

from analysis.claims.grids import grid, judge


def table(ratio, seeds, draw, batches=(64, 128)):
    rows = grid(seeds, optimizer=["sam", "sgd"], batch=list(batches))
    scale = np.where(rows["optimizer"] == "sam", ratio, 1.0)
    return rows.assign(
        accuracy=0.7 + 0.1 * (rows["batch"] == 64) + 0.01 * scale * draw.normal(size=len(rows))
    )


def spread(rows, **keys):
    sides = {"a": {"optimizer": "sam"}, "b": {"optimizer": "sgd"}}
    claim = {"kind": "variance_ratio", "y": "accuracy", "direction": "less", "within": ["batch"], **sides}
    return judge(rows, **(claim | keys))


def test_one_setting_has_the_interval_of_f():
    rows = table(0.5, 5, np.random.default_rng(0), batches=[64])
    a, b = (rows[rows["optimizer"] == name]["accuracy"] for name in ("sam", "sgd"))
    found = spread(rows).effect
    low, high = (np.sqrt(a.var() / b.var() / stats.f.ppf(q, 4, 4)) for q in (0.975, 0.025))
    assert (found.value, found.low, found.high) == pytest.approx((a.std() / b.std(), low, high))


def test_coverage_and_the_nearly_certain_lack_of_a_verdict_at_three_seeds():
    draw = np.random.default_rng(1)
    covered, words = 0, []
    for _ in range(60):
        found = spread(table(0.5, 3, draw))
        covered += found.effect.low <= 0.5 <= found.effect.high
        words.append(found.verdict)
    assert covered >= 52
    assert words.count("inconclusive") > 40
    assert "contradicted" not in words


def test_many_seeds_decide():
    draw = np.random.default_rng(2)
    assert spread(table(0.5, 40, draw)).verdict == "supported"
    assert spread(table(2.0, 40, draw)).verdict == "contradicted"
    open_ = spread(table(0.8, 4, draw))
    assert open_.verdict == "inconclusive"
    assert "seeds" in open_.would_change


def test_most_of_all_somewhere():
    draw = np.random.default_rng(3)
    rows = table(1.0, 30, draw, batches=[16, 32, 64, 128])
    there = (rows["optimizer"] == "sam") & rows["batch"].isin([64, 128])
    centre = rows.groupby(["optimizer", "batch"])["accuracy"].transform("mean")
    rows.loc[there, "accuracy"] = centre + 0.3 * (rows["accuracy"] - centre)
    assert spread(rows, most_at={"batch": [64, 128]}).verdict == "supported"
    assert spread(rows, most_at={"batch": [16, 32]}).verdict == "contradicted"
    assert spread(rows, most_at={"batch": {"min": 1}}).verdict == "not evaluable"


def test_not_evaluable():
    draw = np.random.default_rng(4)
    assert "two seeds" in spread(table(0.5, 1, draw)).reason
    rows = table(0.5, 3, draw)
    assert "several runs of side a share seed = 0" in spread(rows, within=[]).reason.lower()
