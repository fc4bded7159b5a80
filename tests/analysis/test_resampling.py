"""Resamples and the interval's coverage of a known truth."""

import numpy as np
import pytest
from scipy import stats

from sharpscope.analysis.rank_correlation import Kendall
from sharpscope.analysis.resampling import percentile_interval, resample_counts
from sharpscope.errors import InputError


def test_counts_are_whole_clusters_and_reproducible():
    counts = resample_counts(7, 500, seed=3)
    assert counts.shape == (500, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == counts.round()).all()
    assert (counts == resample_counts(7, 500, seed=3)).all()
    assert (counts != resample_counts(7, 500, seed=4)).any()


def test_no_interval_from_two_clusters_or_mostly_missing_values():
    assert np.isnan(percentile_interval(np.linspace(0, 1, 100), clusters=2)).all()
    values = np.where(np.arange(100) < 60, np.nan, 1.0)
    assert np.isnan(percentile_interval(values, clusters=9)).all()


def test_level_is_checked():
    with pytest.raises(InputError, match="between 0 and 1"):
        percentile_interval(np.zeros(3), clusters=5, level=95)


def clustered_sample(draw, clusters, seeds, correlation):
    """Configurations with correlated effects; seeds within them add independent noise."""
    labels = np.repeat(np.arange(clusters), seeds)
    effect = draw.normal(size=(2, clusters))
    effect[1] = correlation * effect[0] + np.sqrt(1 - correlation**2) * effect[1]
    x, y = effect[:, labels] + 0.5 * draw.normal(size=(2, clusters * seeds))
    return x, y, labels


def test_the_interval_covers_the_truth_and_rows_taken_for_independent_do_not():
    # Both coordinates carry variance 1.25; the seeds' noise is uncorrelated, so r = 0.5/1.25 over the
    # population, where pairs within one cluster vanish, and tau = 2/pi asin(r).
    truth = 2 / np.pi * np.arcsin(0.5 / 1.25)
    clusters, seeds, repetitions = 14, 6, 250
    draw = np.random.default_rng(0)
    by_cluster, by_row = resample_counts(clusters, 400), resample_counts(clusters * seeds, 400)
    covered = np.zeros(2)
    for _ in range(repetitions):
        x, y, labels = clustered_sample(draw, clusters, seeds, 0.5)
        low, high = percentile_interval(Kendall(x, y, labels)(by_cluster), clusters)
        covered[0] += low <= truth <= high
        rows = np.arange(len(x))
        low, high = percentile_interval(Kendall(x, y, rows)(by_row), len(rows))
        covered[1] += low <= truth <= high
    clustered, naive = covered / repetitions
    assert stats.binomtest(int(covered[0]), repetitions, 0.95).pvalue > 0.001 or clustered > 0.95
    assert naive < 0.85
