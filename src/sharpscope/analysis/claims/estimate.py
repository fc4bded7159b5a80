"""A number with its interval, where the clusters are few: seeds first, configurations beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, sqrt

import numpy as np

from sharpscope.analysis.claims.verdict import NAN
from sharpscope.analysis.resampling import Floats, Integers


@dataclass(frozen=True)
class Estimated:
    """A mean over clusters with its interval.

    ``clusters`` values entered. ``limit`` says what sets the interval's width: the ``seeds``, or the
    ``configurations``, which more seeds would not narrow. ``straight`` takes a value to the scale on which the mean
    was taken and the interval reaches equally far to both sides: the logarithm for a ratio.
    """

    value: float
    low: float
    high: float
    clusters: int
    limit: str = "seeds"
    straight: Callable[[float], float] = field(default=float, repr=False, compare=False)

    def through(self, rising: Callable[[float], float], inverse: Callable[[float], float]) -> Estimated:
        """Return the estimate of a rising function of the quantity.

        >>> Estimated(0.0, -1.0, 1.0, 3).through(lambda value: value + 2, lambda value: value - 2)
        Estimated(value=2.0, low=1.0, high=3.0, clusters=3, limit='seeds')
        """
        value, low, high = (float(rising(part)) for part in (self.value, self.low, self.high))
        return Estimated(
            value, low, high, self.clusters, self.limit, lambda part: self.straight(inverse(part))
        )

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval at all."""
        return isfinite(self.low) and isfinite(self.high)


def student(values: Floats, level: float) -> Estimated:
    """Return the mean of one value per cluster with Student's interval, clusters - 1 degrees of freedom.

    With two to six clusters this is the honest interval: it is exact for normal values, where the percentile
    bootstrap over the same clusters covers 51, 75, 81 and 85 % instead of 95 with 2, 3, 4 and 6 of them (simulated).
    Values that are not finite are left out; a single value has no interval.

    >>> student(np.array([1.0, 2.0, 3.0]), 0.95)
    Estimated(value=2.0, low=-0.484..., high=4.484..., clusters=3, limit='seeds')
    """
    finite = values[np.isfinite(values)]
    k = len(finite)
    if k == 0:
        return Estimated(NAN, NAN, NAN, 0)
    mean = float(finite.mean())
    if k == 1:
        return Estimated(mean, NAN, NAN, 1)
    reach = quantile(k, level) * float(finite.std(ddof=1)) / sqrt(k)
    return Estimated(mean, mean - reach, mean + reach, k)


def quantile(clusters: int, level: float) -> float:
    """Return Student's two-sided quantile at ``level`` with ``clusters`` - 1 degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, clusters - 1))


def by_cluster(values: Floats, labels: Integers) -> Floats:
    """Return the mean of the finite values of each cluster, in the order of the labels.

    >>> by_cluster(np.array([1.0, 3.0, 5.0, np.nan]), np.array([0, 0, 1, 1])).tolist()
    [2.0, 5.0]
    """
    finite = np.isfinite(values)
    names = np.unique(labels[finite])
    return np.array([values[finite & (labels == name)].mean() for name in names])
