"""A peak, a plateau, a rise without end."""

import numpy as np
import pytest

from analysis.claims.grids import grid, judge, noise
from sharpscope.analysis.claims.kinds.optimum import best_level

DROPOUT = [0.0, 0.1, 0.2, 0.3, 0.5, 0.7]
SHAPES = {
    "peak": [0.80, 0.83, 0.84, 0.83, 0.80, 0.70],
    "plateau": [0.80, 0.83, 0.85, 0.851, 0.85, 0.851],
    "rise": [0.80, 0.82, 0.84, 0.86, 0.88, 0.90],
    "fall": [0.90, 0.88, 0.86, 0.84, 0.82, 0.80],
    "flat": [0.85] * 6,
}


def table(shape, spread=0.002, seeds=4, **axes):
    rows = grid(seeds, p=DROPOUT, **axes)
    return rows.assign(
        accuracy=rows["p"].map(dict(zip(DROPOUT, SHAPES[shape], strict=True))) + noise(rows, spread)
    )


def optimum(rows, **keys):
    return judge(rows, kind="optimum", x="p", y="accuracy", **keys)


@pytest.mark.parametrize(
    ("shape", "falls", "stops"),
    [
        ("peak", "supported", "supported"),
        ("plateau", "inconclusive", "supported"),
        ("rise", "contradicted", "contradicted"),
        ("fall", "contradicted", "contradicted"),
        ("flat", "inconclusive", "inconclusive"),
    ],
)
def test_verdicts(shape, falls, stops):
    rows = table(shape)
    assert optimum(rows).verdict == falls
    assert optimum(rows, then="stops", margin=0.01).verdict == stops


def test_where_the_peak_is():
    rows = table("peak")
    assert optimum(rows, where_peak=[0.1, 0.3]).verdict == "supported"
    assert optimum(rows, where_peak=[0.5, 0.6]).verdict == "inconclusive"
    assert "between 0.6 and 0.65" in optimum(rows, where_peak=[0.6, 0.65]).reason
    best = optimum(rows).others[1]
    assert best.value == pytest.approx(0.2)


def test_a_minimum_is_the_maximum_of_the_negative():
    rows = table("peak")
    mirrored = rows.assign(accuracy=-rows["accuracy"])
    assert optimum(mirrored, extremum="minimum").effect.value == pytest.approx(optimum(rows).effect.value)
    assert optimum(mirrored).verdict == "contradicted"


def test_strata_each_have_their_best():
    rows = table("peak", lr=[1, 2])
    rows.loc[rows["lr"] == 2, "accuracy"] += 0.5
    found = optimum(rows, within=["lr"])
    assert found.verdict == "supported"
    assert found.effect.value == pytest.approx(0.04, abs=0.005)


def test_being_picked_as_the_largest_is_paid_for_on_its_side():
    draw = np.random.default_rng(1)
    level, seed = np.repeat(np.arange(6), 3), np.tile(np.arange(3), 6)

    def reach(y):
        gain = best_level(y, level, np.zeros_like(level), seed, np.array([0, 1, 1, 1, 1, 0], bool)).gain
        low, high = gain.interval(0.95)
        return gain.value, gain.value - low, high - gain.value

    values, below, above = np.array([reach(draw.normal(size=18)) for _ in range(120)]).T
    assert values.mean() > 0.3  # the largest of four equal means gains
    assert np.mean(values > below) < 0.06
    assert below.mean() > 1.1 * above.mean()
    clear = reach(np.array(SHAPES["peak"])[level] + 1e-4 * draw.normal(size=18))
    assert clear[1] == pytest.approx(clear[2], rel=0.03)  # nothing else comes near


def test_seeds_that_lack_an_end_are_left_out():
    rows = table("peak")
    rows = rows[(rows["seed"] > 0) | (rows["p"] < 0.7)]
    assert optimum(rows).effect == optimum(rows[rows["seed"] > 0]).effect


def test_a_seed_that_lacks_the_best_value_does_not_take_it_from_the_others():
    rows = table("peak")
    for lost in (rows["p"] == 0.2, (rows["p"] > 0.0) & (rows["p"] < 0.7)):
        found = optimum(rows[(rows["seed"] > 0) | ~lost])
        assert found.verdict == "supported"
        assert found.effect == optimum(rows[rows["seed"] > 0]).effect
    both = optimum(rows[((rows["seed"] > 1) | (rows["p"] != 0.2)) & (rows["seed"] < 3)])
    assert both.others[1].value != pytest.approx(0.2)  # a single seed has it


def test_too_few_values():
    rows = table("peak")
    assert "three values" in optimum(rows[rows["p"].isin([0.0, 0.1])]).reason
    assert optimum(table("peak", seeds=1)).verdict == "inconclusive"


def test_intervals_hold_where_an_end_is_ten_times_as_noisy():
    seeds, level = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    inner = np.array([False, True, True, True, True, False])
    covered = []
    for number in range(200):
        y = np.random.default_rng(number).normal(size=(4, 6)) * [1, 1, 1, 1, 1, 10]
        found = best_level(y.ravel(), level, np.zeros_like(level), seeds, inner)
        low, high = found.beyond.interval(0.95)
        covered.append(low <= 0 <= high)
    assert np.mean(covered) > 0.92  # with pooled noise .74
