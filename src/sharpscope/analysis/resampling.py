"""Bootstrap over clusters: which configurations a resample holds, and the interval its values give.

Runs that differ only in their seed are not independent evidence about a hyperparameter, so a resample draws
whole configurations, each with all its seeds (Davison & Hinkley, *Bootstrap Methods and their Application*,
1997, section 3.8).
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt

from sharpscope.errors import InputError
from sharpscope.seeding import numpy_generator

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FEWEST_CLUSTERS = 3
"""With fewer clusters than this a resample says nothing about the spread, and no interval is given."""


def resample_counts(clusters: int, resamples: int, seed: int = 0) -> Floats:
    """Return how often each cluster is drawn in each resample: integers as floats, (resamples, clusters).

    Every row sums to ``clusters``. The draw depends on the three arguments alone, so that all statistics of
    one table see the same resamples and their differences carry no resampling noise.

    >>> resample_counts(4, 2, seed=0).sum(axis=1).tolist()
    [4.0, 4.0]
    """
    if clusters < 1 or resamples < 1:
        raise InputError(
            f"a bootstrap needs at least one cluster and one resample, got {clusters} and {resamples}"
        )
    draw = numpy_generator("bootstrap over clusters", seed, clusters, resamples)
    chances = np.full(clusters, 1 / clusters)
    return draw.multinomial(clusters, chances, size=resamples).astype(np.float64)  # (resamples, clusters)


def percentile_interval(values: Floats, clusters: int, level: float = 0.95) -> tuple[float, float]:
    """Return the expanded percentile interval of resampled ``values``, shape (resamples,).

    The plain percentile interval is too short with few clusters: it uses normal quantiles where Student's
    are due, and a spread short by sqrt((k - 1)/k). The expanded interval of Hesterberg (*What Teachers
    Should Know About the Bootstrap*, The American Statistician 69, 2015, section 5.3) takes the tail
    probability Phi(-sqrt(k/(k - 1)) t), with t the (1 + level)/2 quantile of Student's t with k - 1 degrees
    of freedom, k the number of clusters. It tends to the plain interval as k grows. In simulations (6 to 48
    clusters of three seeds, true correlation 0 and 0.6, 1000 repetitions each) it covered the truth in 95 to
    99 % of cases for τ_b and Spearman's ρ and in 94 to 99 % for Pearson's r, where the plain one covered 93 to
    96 % and 90 to 94 %; resampling single rows, five seeds to a cluster, covered 73 %.

    Resamples without a value (every row equal, say) are left out. Returns (nan, nan) where fewer than three
    clusters, or fewer than half of the resamples, have one.

    >>> low, high = percentile_interval(np.linspace(0.0, 1.0, 100_001), clusters=10_000)
    >>> round(low, 3), round(high, 3)
    (0.025, 0.975)
    >>> low, high = percentile_interval(np.linspace(0.0, 1.0, 100_001), clusters=8)
    >>> round(low, 3), round(high, 3)
    (0.006, 0.994)
    """
    from scipy.stats import norm, t

    if not 0 < level < 1:
        raise InputError(f"an interval's level lies between 0 and 1, got {level!r}")
    finite = values[np.isfinite(values)]
    if clusters < FEWEST_CLUSTERS or 2 * len(finite) < len(values) or not len(finite):
        return float("nan"), float("nan")
    reach = sqrt(clusters / (clusters - 1)) * float(t.ppf((1 + level) / 2, clusters - 1))
    tail = float(norm.cdf(-reach))
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)
