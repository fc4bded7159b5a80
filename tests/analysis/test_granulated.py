"""Granulated coefficients against loops over the lines of a grid."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from sharpscope.analysis.granulated import Granulated, one_factor_pairs

SIZES = {"rate": 4, "batch": 3, "decay": 2}
CELLS = np.array(list(product(*(range(size) for size in SIZES.values()), range(3))))  # the last is the seed


def grid():
    factors = {name: CELLS[:, i] for i, name in enumerate(SIZES)}
    x, y = np.random.default_rng(0).normal(size=(2, len(CELLS)))
    configurations = np.unique(CELLS[:, :3], axis=0, return_inverse=True)[1].ravel()
    return factors, CELLS[:, 3], x, y + 0.5 * x, configurations


def by_lines(x, y, factor):
    """The mean over lines of SciPy's τ, as Jiang et al. define ψ."""
    index = list(SIZES).index(factor)
    lines = {}
    for row, cell in enumerate(CELLS):
        lines.setdefault(tuple(np.delete(cell, index)), []).append(row)
    return np.mean([stats.kendalltau(x[rows], y[rows])[0] for rows in lines.values()])


def test_on_a_full_grid_it_is_the_mean_over_lines():
    factors, seeds, x, y, labels = grid()
    found = Granulated(x, y, labels, one_factor_pairs(factors, seeds))
    once = np.ones((1, labels.max() + 1))
    expected = {factor: by_lines(x, y, factor) for factor in SIZES}
    assert {factor: psi[0] for factor, psi in found.along(once).items()} == pytest.approx(expected)
    assert found(once)[0] == pytest.approx(np.mean(list(expected.values())))


def test_a_resample_is_the_rows_written_out():
    factors, seeds, x, y, labels = grid()
    k = labels.max() + 1
    counts = np.random.default_rng(1).multinomial(k, np.full(k, 1 / k)).astype(float)
    rows = np.repeat(np.arange(len(x)), counts[labels].astype(int))
    written = Granulated(
        x[rows],
        y[rows],
        np.arange(len(rows)),
        one_factor_pairs({name: level[rows] for name, level in factors.items()}, seeds[rows]),
    )
    resampled = Granulated(x, y, labels, one_factor_pairs(factors, seeds))(counts[None])
    assert resampled[0] == pytest.approx(written(np.ones((1, len(rows))))[0])


def test_one_factor_that_moves_both_does_not_carry_the_rest():
    factors, seeds, _, _, labels = grid()
    draw = np.random.default_rng(2)
    x, y = factors["rate"] + 0.1 * draw.normal(size=(2, len(CELLS)))
    found = Granulated(x, y, labels, one_factor_pairs(factors, seeds))
    psi = found.along(np.ones((1, labels.max() + 1)))
    assert psi["rate"][0] == 1
    assert abs(psi["batch"][0]) < 0.3
    assert stats.kendalltau(x, y)[0] > 0.6 > found(np.ones((1, labels.max() + 1)))[0]


def test_ties_and_missing_lines():
    factors = {"rate": np.array([0, 1, 2, 0]), "batch": np.array([0, 0, 0, 1])}
    pairs = one_factor_pairs(factors, np.array([0, 0, 0, 7]))
    assert list(pairs) == ["rate"]  # the run at another batch size has another seed
    tied = Granulated(np.array([1.0, 1, 2, 9]), np.array([5.0, 6, 7, 9]), np.arange(4), pairs)
    assert tied(np.ones((1, 4)))[0] == pytest.approx(stats.kendalltau([1, 1, 2], [5, 6, 7])[0])
    assert np.isnan(Granulated(np.ones(4), np.arange(4.0), np.arange(4), pairs)(np.ones((1, 4)))[0])
    assert np.isnan(Granulated(np.ones(4), np.arange(4.0), np.arange(4), {})(np.ones((1, 4)))[0])


def test_two_runs_of_one_setting_are_no_pair_along_a_factor():
    # Rows 0 and 1 repeat one setting and seed: they differ in no factor.
    factors = {"rate": np.array([0, 0, 1]), "batch": np.array([0, 0, 0])}
    pairs = one_factor_pairs(factors, np.zeros(3, dtype=int))
    assert [(a.tolist(), b.tolist()) for a, b in pairs.values()] == [([0, 1], [2, 2])]
    assert list(pairs) == ["rate"]
    x, y = (
        np.array([0.0, 1, 2]),
        np.array([1.0, 0, 2]),
    )  # the repeats disagree, the pairs along the rate agree
    assert Granulated(x, y, np.array([0, 0, 1]), pairs)(np.ones((1, 2)))[0] == 1
