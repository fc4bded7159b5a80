"""Rank statistics among runs of one seed: correlation with an interval over configurations, and Page's test.

A seed moves all its runs alike: the same initial weights and order of data lie behind all of them. A comparison of
two runs of one seed is free of that, a comparison across seeds is not.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations
from math import erfc, sqrt

import numpy as np

from sharpscope.analysis.rank_correlation import Kendall
from sharpscope.analysis.resampling import Floats, Integers

FEWEST = 6
"""With fewer clusters than this the jackknife's interval is not given: it needs the freedom to estimate its own
error. ``benchmarks/verdicts.py``: 6 to 24 configurations cover 93 to 97 %."""

NEARLY_ONE = 0.8
"""Correlations of this size and more have an error of their own. Of six clusters that all agree the interval then
begins at .42; a normal sample whose τ is .47 or less agrees in all of six less often than once in forty times."""

LARGEST_BLOCK = 7
"""Blocks of up to this many runs are enumerated (5 040 orders); larger ones take the normal approximation."""


def comparable(clusters: Integers, seeds: Integers) -> tuple[Integers, Integers]:
    """Return the clusters left out one at a time, and the groups of runs that are compared with one another.

    The groups are the seeds, or all runs where no seed holds two clusters. Where there is one cluster its runs are
    the clusters.

    >>> comparable(np.array([0, 0, 0]), np.array([0, 1, 2]))[0].tolist()
    [0, 1, 2]
    """
    if clusters.max() == 0:
        return np.arange(len(clusters)), np.zeros_like(seeds)
    several = any(len(np.unique(clusters[seeds == seed])) > 1 for seed in np.unique(seeds))
    return clusters, seeds if several else np.zeros_like(seeds)


def within_seeds(x: Floats, y: Floats, clusters: Integers, seeds: Integers) -> Floats:
    """Return Kendall's τ_b among runs of one seed: over all, then without each cluster, (1 + clusters,).

    Concordant less discordant pairs of runs of one seed and different clusters, over the geometric mean of the pairs
    untied in x and in y. NaN where either is constant within every seed.

    >>> x = np.array([1.0, 2, 3, 11, 12, 13]); clusters = np.tile([0, 1, 2], 2); seeds = np.repeat([0, 1], 3)
    >>> within_seeds(x, np.tile([1.0, 2, 3], 2), clusters, seeds).tolist()   # the seed's shift cancels
    [1.0, 1.0, 1.0, 1.0]
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    return Kendall(x, y, cluster, seeds)(all_then_without_each(int(cluster.max()) + 1))


def all_then_without_each(clusters: int) -> Floats:
    """Return the counts of all clusters once, and then of all but each in turn, (1 + clusters, clusters)."""
    return np.vstack([np.ones(clusters), 1 - np.eye(clusters)])


def jackknife(found: Floats) -> tuple[float, float, int]:
    """Return a correlation, its jackknife error, and the number of clusters, from `within_seeds`.

    The error is sqrt((k - 1)/k Σ (value without one cluster - their mean)²) (Arvesen, *Jackknifing U-statistics*,
    Annals of Mathematical Statistics 40, 1969). It goes with Student's distribution of k - 2 degrees of freedom, as
    that of Pearson's correlation does: with k - 1 the interval of τ of twelve clusters misses in 5.2 % instead of 5
    (``benchmarks/verdicts.py``). Clusters that all agree leave no spread, but not no error: beyond
    `NEARLY_ONE`, and where no cluster makes a difference, it is at least sqrt(v) (1 - r²), with v the variance of τ
    where nothing goes together and r the value shrunk by k/(k + 4), after Agresti & Coull (*Approximate is better
    than exact*, The American Statistician 52, 1998).
    """
    value, left_out = float(found[0]), found[1:]
    k = len(left_out)
    if k < 2 or not np.isfinite(found).all():
        return value, float("nan"), k
    error = sqrt((k - 1) / k * float(((left_out - left_out.mean()) ** 2).sum()))
    null = 2 * (2 * k + 5) / (9 * k * (k - 1))  # the variance of τ where nothing goes together (Kendall 1938)
    shrunk = value * k / (k + 4)
    floor = sqrt(null) * (1 - shrunk**2) if abs(value) > NEARLY_ONE or error < 1e-9 else 0.0
    return value, max(error, floor), k


def page_p_value(x: Floats, y: Floats, blocks: Integers) -> float:
    """Return the two-sided p-value of L = Σ over blocks of Σ rank(x) rank(y), y permuted within blocks.

    Page, *Ordered hypotheses for multiple treatments*, JASA 58 (1963), with midranks for ties. The distribution is
    enumerated exactly where no block has more than `LARGEST_BLOCK` rows, and otherwise normal with L's mean and
    variance. NaN where no order is possible but one.

    Four seeds that all rise from one setting to another: 2 of 2⁴ orders are as extreme.

    >>> page_p_value(np.tile([0.0, 1.0], 4), np.tile([0.0, 1.0], 4), np.repeat(np.arange(4), 2))
    0.125
    """
    members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    members = [rows for rows in members if np.ptp(x[rows]) > 0 and np.ptp(y[rows]) > 0]
    if not members:
        return float("nan")
    ranks = [(_doubled_ranks(x[rows]), _doubled_ranks(y[rows])) for rows in members]
    observed = sum(int(a @ b) for a, b in ranks)
    # Four times L less its mean, which is not an integer where a block holds an even number of rows.
    mean = sum(float(a.sum() * b.sum()) / len(a) for a, b in ranks)
    if max(map(len, members)) > LARGEST_BLOCK:
        variance = sum(float(_squares(a) * _squares(b)) / (len(a) - 1) for a, b in ranks)
        return erfc(abs(observed - mean) / sqrt(2 * variance))
    chances, start = np.ones(1), 0
    for a, b in ranks:
        sums = _orders(tuple(sorted(b.tolist()))) @ a
        low = int(sums.min())
        chances = np.convolve(chances, np.bincount(sums - low) / len(sums))
        start += low
    distance = np.abs(start + np.arange(len(chances)) - mean)
    return min(1.0, float(chances[distance >= abs(observed - mean) - 1e-6].sum()))


@lru_cache(maxsize=16)
def _orders(values: tuple[int, ...]) -> Integers:
    """Return every order of the values, equal ones as often as they come, (orders, values)."""
    return np.array(list(permutations(values)))


def _doubled_ranks(values: Floats) -> Integers:
    """Return twice the midranks, which are integers."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((2 * count.cumsum() - count + 1)[place], dtype=np.int64)


def _squares(ranks: Integers) -> float:
    return float(((ranks - ranks.mean()) ** 2).sum())
