"""Page's test within seeds against SciPy's and against all permutations."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from sharpscope.analysis.within_seeds import page_p_value


def test_complete_blocks_without_ties_are_scipys():
    y = np.random.default_rng(1).normal(size=(5, 4)) + 0.4 * np.arange(4)
    expected = stats.page_trend_test(y, method="exact")
    found = page_p_value(np.tile(np.arange(4.0), 5), y.ravel(), np.repeat(np.arange(5), 4))
    assert found == pytest.approx(2 * expected.pvalue)


def test_ties_and_uneven_blocks_by_all_permutations():
    x, y = np.array([1.0, 2, 3, 1, 2, 2, 1, 2]), np.array([1.0, 1, 2, 5, 6, 7, 3, 3])
    blocks = np.array([0, 0, 0, 1, 1, 1, 2, 2])

    def total(values):
        return sum(stats.rankdata(x[blocks == b]) @ stats.rankdata(values[blocks == b]) for b in range(3))

    ways = [
        total(np.concatenate(way)) for way in product(*(list(permutations(y[blocks == b])) for b in range(3)))
    ]
    centre = np.mean(ways)
    expected = np.mean(np.abs(np.array(ways) - centre) >= abs(total(y) - centre) - 1e-9)
    assert page_p_value(x, y, blocks) == pytest.approx(expected)


def test_large_blocks_are_nearly_normal():
    y = np.random.default_rng(2).normal(size=(4, 9)) + 0.15 * np.arange(9)
    found = page_p_value(np.tile(np.arange(9.0), 4), y.ravel(), np.repeat(np.arange(4), 9))
    draw, ranks = np.random.default_rng(3), stats.rankdata(y, axis=1)
    shuffled = np.array([(draw.permuted(ranks, axis=1) @ np.arange(9)).sum() for _ in range(4000)])
    far = abs((ranks @ np.arange(9)).sum() - 4 * 36 * 5)
    assert found == pytest.approx(np.mean(np.abs(shuffled - 4 * 36 * 5) >= far), abs=0.03)


def test_reversed_it_is_the_same_and_constant_it_is_nothing():
    x, y, blocks = (
        np.tile(np.arange(4.0), 3),
        np.random.default_rng(4).normal(size=12),
        np.repeat(np.arange(3), 4),
    )
    assert page_p_value(x, y, blocks) == page_p_value(x, -y, blocks)
    assert np.isnan(page_p_value(x, 0 * y, blocks))
    assert np.isnan(page_p_value(0 * x, y, blocks))
