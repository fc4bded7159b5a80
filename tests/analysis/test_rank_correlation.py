"""The three coefficients against SciPy, ties and resamples included."""

import numpy as np
import pytest
from scipy import stats

from sharpscope.analysis.partial_correlation import Partial, partial_p_value
from sharpscope.analysis.rank_correlation import METHODS, Kendall
from sharpscope.analysis.within_seeds import all_then_without_each, jackknife

SCIPY = {"kendall": stats.kendalltau, "spearman": stats.spearmanr, "pearson": stats.pearsonr}


def tied_sample(n=37, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 6, n).astype(float)  # many ties
    return x, np.round(x + 3 * draw.normal(size=n), 0), draw.integers(0, 7, n)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scipy_where_values_tie(method, seed):
    x, y, labels = tied_sample(seed=seed)
    found = METHODS[method](x, y, labels)(np.ones((1, labels.max() + 1)))
    assert found[0] == pytest.approx(SCIPY[method](x, y)[0], abs=1e-12)


def test_ties_are_not_ignored():
    x, y, labels = tied_sample()
    untied = stats.kendalltau(x + 1e-6 * np.arange(len(x)), y)[0]
    assert abs(Kendall(x, y, labels)(np.ones((1, labels.max() + 1)))[0] - untied) > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_a_resample_equals_scipy_on_the_rows_written_out(method):
    x, y, labels = tied_sample()
    counts = np.array([[2, 0, 1, 3, 0, 1, 0], [0, 1, 1, 1, 2, 0, 2]], dtype=float)
    found = METHODS[method](x, y, labels)(counts)
    for value, times in zip(found, counts.astype(int), strict=True):
        rows = np.repeat(np.arange(len(x)), times[labels])
        assert value == pytest.approx(SCIPY[method](x[rows], y[rows])[0], abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_many_rows_cross_the_block_boundary_unharmed(method):
    x, y, labels = tied_sample(n=1100)
    found = METHODS[method](x, y, labels)(np.ones((1, labels.max() + 1)))
    assert found[0] == pytest.approx(SCIPY[method](x, y)[0], abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_resample_has_no_value(method):
    x, y = np.array([0.1, 0.1, 2.0]), np.array([1.0, 2.0, 3.0])
    found = METHODS[method](x, y, np.array([0, 0, 1]))(np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


def test_pearson_survives_large_offsets_and_huge_values():
    x, y = np.array([1e9, 1e9 + 1, 1e9 + 2, 1e9 + 4]), np.array([1e200, 3e200, 2e200, 5e200])
    found = METHODS["pearson"](x, y, np.arange(4))(np.ones((1, 4)))
    assert found[0] == pytest.approx(np.corrcoef(x - 1e9, y / 1e200)[0, 1], rel=1e-6)


def test_partial_spearman_is_the_correlation_of_residual_ranks():
    draw = np.random.default_rng(5)
    x, y, z = draw.normal(size=(3, 40)) + draw.normal(size=40)
    ranks = [stats.rankdata(v) for v in (x, y, z)]
    left = [r - np.polyval(np.polyfit(ranks[2], r, 1), ranks[2]) for r in ranks[:2]]
    found = Partial("spearman", x, y, z, np.arange(40))(np.ones((1, 40)))[0]
    assert found == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-12)


def test_partial_has_no_value_where_the_control_ranks_as_the_measure_does():
    x = np.arange(5.0)
    y = np.array([2.0, 1, 3, 5, 4])
    assert np.isnan(Partial("kendall", x, y, x**3, np.arange(5))(np.ones((1, 5)))[0])


@pytest.mark.parametrize("method", ["kendall", "spearman", "pearson"])
def test_partial_p_values_are_uniform_without_association(method):
    draw = np.random.default_rng(11)
    found = []
    for _ in range(300):
        z = draw.normal(size=20)
        x, y = z + draw.normal(size=(2, 20))
        if method == "kendall":
            # Partial tau is not zero where a shared control explains everything (see `Partial`).
            x, y = draw.normal(size=(2, 20))
        value = Partial(method, x, y, z, np.arange(20))(np.ones((1, 20)))[0]
        found.append(partial_p_value(method, value, 20))
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_partial_tau_keeps_a_remainder_that_partial_rho_does_not():
    draw = np.random.default_rng(1)
    z = draw.normal(size=1500)
    x, y = 0.8 * z + 0.6 * draw.normal(size=(2, 1500))
    found = {
        method: Partial(method, x, y, z, np.arange(1500))(np.ones((1, 1500)))[0]
        for method in ("kendall", "spearman")
    }
    assert found["kendall"] == pytest.approx(0.144, abs=0.04)
    assert found["spearman"] == pytest.approx(0.01, abs=0.04)


@pytest.mark.parametrize("method", ["kendall", "spearman"])
def test_partial_without_a_cluster_is_that_of_the_rows_left(method):
    """Also within blocks: ranks are taken among the rows that are left, as the error of a rank statistic needs."""
    draw = np.random.default_rng(3)
    labels, blocks = np.repeat(np.arange(8), 3), np.tile(np.arange(3), 8)
    z = draw.integers(0, 5, 24).astype(float)
    x, y = z + draw.integers(0, 3, 24), z + draw.integers(0, 3, 24)
    without_each = Partial(method, x, y, z, labels, blocks)(1 - np.eye(8))
    for left_out, value in enumerate(without_each):
        rows = labels != left_out
        kept = np.unique(labels[rows], return_inverse=True)[1]
        alone = Partial(method, x[rows], y[rows], z[rows], kept, blocks[rows])
        np.testing.assert_allclose(value, alone(np.ones((1, 7)))[0], rtol=1e-12)


def test_the_interval_of_a_partial_correlation_within_seeds_covers_it():
    """Also where the control nearly decides both, and the ranks that move with a cluster are part of the error."""
    draw, covered = np.random.default_rng(11), 0
    labels, blocks = np.repeat(np.arange(24), 3), np.tile(np.arange(3), 24)
    for _ in range(300):
        z = draw.normal(size=24)
        of_configurations = (
            0.95 * z + 0.31 * draw.normal(size=24),
            0.95 * z + 0.31 * draw.normal(size=24),
            z,
        )
        x, y, z = (np.repeat(each, 3) + 0.1 * draw.normal(size=72) for each in of_configurations)
        found = Partial("spearman", x, y, z, labels, blocks)(all_then_without_each(24))
        value, error, k = jackknife(found)
        covered += abs(value - 0.07) <= error * stats.t.ppf(0.975, k - 2)
    assert covered / 300 > 0.915  # 0.893 with the ranks of the whole pool
