"""Spreads over seeds: the sides are swapped, and fewer than six seeds say nothing."""

from itertools import product

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims import Evidence, assess, read_claims
from sharpscope.analysis.claims.kinds.variance_ratio import deviation_ratio
from sharpscope.analysis.claims.looks import Looks


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


def test_fewer_than_six_seeds_have_no_interval():
    rows = table(0.5, 5, np.random.default_rng(0), batches=[64])
    a, b = (rows[rows["optimizer"] == name]["accuracy"] for name in ("sam", "sgd"))
    found = spread(rows)
    assert found.effect.value == pytest.approx(a.std() / b.std())
    assert np.isnan(found.effect.low)
    assert "At least 6 seeds" in found.would_change
    assert "it takes 6" in found.reason
    assert np.isfinite(spread(table(0.5, 6, np.random.default_rng(0), batches=[64])).effect.low)


def test_sides_are_swapped_in_whole_seeds():
    """The p-value of equal spreads, counted out by hand over all ways to swap, in both strata at once."""
    values = np.random.default_rng(5).normal(size=(2, 2, 8)) * np.array([1.0, 3.0])[None, :, None]
    apart = np.median(values[:, 0] - values[:, 1], axis=1, keepdims=True)
    left = np.stack([values[:, 0] - apart, values[:, 1]], axis=1)
    ratios = []
    for way in product((False, True), repeat=8):
        a, b = (np.where(way, left[:, 1 - side], left[:, side]) for side in (0, 1))
        ratios.append(np.mean(np.log(a.std(axis=1) / b.std(axis=1))))
    extreme = np.mean(np.abs(ratios) >= abs(ratios[0]) - 1e-12)
    found = deviation_ratio(values, np.full(2, 0.5))
    p_value = 2 * min(found.below(1.0), found.above(1.0))
    assert p_value == pytest.approx(extreme * 8 / 7)


def test_reversed_sides_mirror():
    values = np.random.default_rng(6).normal(size=(3, 2, 9))
    ends = deviation_ratio(values, np.full(3, 1 / 3)).interval(0.95)
    mirrored = deviation_ratio(values[:, ::-1], np.full(3, 1 / 3)).interval(0.95)
    assert mirrored == pytest.approx((1 / ends[1], 1 / ends[0]), rel=1e-6)


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


def test_a_setting_of_few_seeds_does_not_take_the_interval_from_the_others():
    rows = table(0.3, 12, np.random.default_rng(5))
    few = rows["batch"] == rows["batch"].max()
    found = spread(rows[~few | (rows["seed"] < 3)])
    assert found.effect == spread(rows[~few]).effect
    assert found.verdict == "supported"
    assert any("have fewer than 6 seeds on both sides" in sentence for sentence in found.confounds)


def test_not_evaluable():
    draw = np.random.default_rng(4)
    assert "two seeds" in spread(table(0.5, 1, draw)).reason
    rows = table(0.5, 3, draw)
    assert "several runs of side a share seed = 0" in spread(rows, within=[]).reason.lower()


def test_heavy_tails_keep_the_level():
    """Student's t with two degrees of freedom, equal spreads: at most one in twenty is decided."""
    draw = np.random.default_rng(7)
    decided = []
    for _ in range(400):
        found = deviation_ratio(draw.standard_t(2, size=(3, 2, 10)), np.full(3, 1 / 3))
        decided.append(2 * min(found.below(1.0), found.above(1.0)) <= 0.05)
    assert np.mean(decided) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_many_seeds_are_sampled_and_the_order_as_it_is_counts():
    found = deviation_ratio(
        np.random.default_rng(8).normal(size=(1, 2, 14)) * np.array([[9.0], [1.0]]), np.ones(1)
    )
    assert 2 * found.below(1.0) >= 14 / 13 / 2049


def test_six_seeds_have_no_interval_at_the_level_of_planned_looks():
    rows = grid(6, optimizer=["sgd", "sam"]).assign(y=lambda t: noise(t, 1.0))
    claim = {"kind": "variance_ratio", "y": "y", "a": {"optimizer": "sam"}, "b": {"optimizer": "sgd"}}
    (read,) = read_claims([{"id": "X", "statement": "It is so.", "direction": "less", **claim}])
    (found,) = assess([read], Evidence(rows), "smoke", looks=Looks((3, 6, 12), (3, 6)))
    assert found.reason.endswith("no interval of 98.1 %.")
    assert found.would_change.startswith("More seeds would: at the level of 98.1 % 6 give")
