"""A number with what the data say of it, where the clusters (seeds, as a rule) are few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import isfinite, sqrt

import numpy as np

from sharpscope.analysis.claims.confidence import Anytime, BestOf, Confidence, Mirrored, Stretched, Student
from sharpscope.analysis.claims.verdict import NAN
from sharpscope.analysis.resampling import Floats, Integers

FEWEST_ALIKE = 5
"""Fewer clusters that agree to the last digit have no interval, since their spread is not zero but unknown: they may
be copies of one another, or y may be rounded. Of differences of normal values that were rounded to their own standard
deviation 19, 4.2, 1.0 and 0.24 % agree in 2, 3, 4 and 5 clusters: from five on that does no harm."""


@dataclass(frozen=True)
class Estimated:
    """A number, the clusters it rests on, and its confidence distribution.

    ``confidence`` is None where there is no interval; ``needed`` is the number of clusters from which on there is
    one. It describes the number on a *straight* scale, on which the interval reaches equally far to both sides: the
    logarithm for a ratio. ``forward`` takes the straight scale to the number's own, ``inverse`` back.
    ``by_cluster``: the clusters' own values on the straight scale, where the number is a mean of them. ``alike``:
    there is no interval since the clusters agree to the last digit (`FEWEST_ALIKE`).
    """

    value: float
    clusters: int
    confidence: Confidence | None = None
    needed: int = 2
    by_cluster: Floats | None = field(default=None, repr=False, compare=False)
    forward: Callable[[float], float] = field(default=float, repr=False, compare=False)
    inverse: Callable[[float], float] = field(default=float, repr=False, compare=False)
    alike: bool = False

    def interval(self, level: float) -> tuple[float, float]:
        """Return both ends of the interval, NaN where there is none."""
        if self.confidence is None:
            return NAN, NAN
        tail = (1 - level) / 2
        ends = [self.confidence.quantile(share) for share in (tail, 1 - tail)]
        if not all(map(isfinite, ends)):
            return NAN, NAN
        return self.forward(ends[0]), self.forward(ends[1])

    def below(self, threshold: float) -> float:
        """Return the confidence that the number lies below the threshold, NaN where nothing is known.

        >>> student(np.array([1.0, 2.0, 3.0])).below(2.0)
        0.5
        """
        if not isfinite(threshold):
            return float(threshold > 0)
        return NAN if self.confidence is None else self.confidence.below(self.inverse(threshold))

    def above(self, threshold: float) -> float:
        """Return the confidence that the number lies above the threshold, NaN where nothing is known."""
        if not isfinite(threshold):
            return float(threshold < 0)
        return NAN if self.confidence is None else self.confidence.above(self.inverse(threshold))

    def through(self, forward: Callable[[float], float], inverse: Callable[[float], float]) -> Estimated:
        """Return the estimate of a rising function of the number.

        >>> found = student(np.log(np.array([1.0, 2.0, 4.0]))).through(np.exp, np.log)
        >>> [round(float(end), 3) for end in (found.value, *found.interval(0.95))]
        [2.0, 0.357, 11.19]
        """
        first, second = self.forward, self.inverse
        return replace(
            self,
            value=float(forward(self.value)),
            forward=lambda part: float(forward(first(part))),
            inverse=lambda part: second(float(inverse(part))),
        )

    def with_confidence(self, confidence: Confidence) -> Estimated:
        """Return the estimate with another distribution on its straight scale."""
        return replace(self, confidence=confidence)

    def anytime(self) -> Estimated:
        """Return the estimate as judged at a number of clusters that was not planned.

        Where the clusters' own values are known the interval is that of `Anytime`. Otherwise the level of the
        interval at k clusters is lowered to α/(k(k - 1)): these sum to α over all k from 2 on, so that by
        Bonferroni all of them hold together with probability 1 - α.
        """
        if self.confidence is None:
            return self
        own = self.by_cluster
        if own is None or len(own) < 2 or float(np.ptp(own)) <= 1e-12 * float(np.abs(own).max()):
            # No mean over clusters, or one whose own spread says nothing: that of the whole table is kept.
            looks = max(self.clusters * (self.clusters - 1), 2)
            return replace(self, confidence=Stretched(self.confidence, looks))
        k, mean = len(own), float(own.mean())
        error = float(own.std(ddof=1)) / sqrt(k)
        return replace(self, value=self.forward(mean), confidence=Anytime(mean, error, k))


def with_error(
    value: float, clusters: int, confidence: Student | BestOf | Mirrored, by_cluster: Floats | None = None
) -> Estimated:
    """Return a number with its distribution, and without where its error is zero and `FEWEST_ALIKE` are not there.

    >>> with_error(1.0, 4, Student(1.0, 0.0, 3)).confidence is None
    True
    """
    inner = confidence.inner if isinstance(confidence, Mirrored) else confidence
    if clusters < FEWEST_ALIKE and getattr(inner, "error", None) == 0:
        return Estimated(value, clusters, needed=FEWEST_ALIKE, alike=True)
    return Estimated(value, clusters, confidence, by_cluster=by_cluster)


def student(values: Floats, needed: int = 2) -> Estimated:
    """Return the mean of one value per cluster, with Student's distribution of clusters - 1 degrees of freedom.

    Exact for normal values. Values that are not finite are left out; fewer than ``needed`` have no interval. Spreads
    beneath 1e-12 of the values' size are rounding and count as zero, as `with_error` has it.

    >>> found = student(np.array([1.0, 2.0, 3.0]))
    >>> found.value, [round(end, 3) for end in found.interval(0.95)]
    (2.0, [-0.484, 4.484])
    """
    finite = values[np.isfinite(values)]
    k = len(finite)
    if k == 0:
        return Estimated(NAN, 0, needed=needed)
    mean = float(finite.mean())
    if k < needed:
        return Estimated(mean, k, needed=needed)
    deviation = float(finite.std(ddof=1))
    if deviation <= 1e-12 * float(np.abs(finite).max()):
        deviation = 0.0
    return with_error(mean, k, Student(mean, deviation / sqrt(k), k - 1), finite)


def quantile(clusters: int, level: float) -> float:
    """Return Student's two-sided quantile at ``level`` with ``clusters`` - 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(clusters - 1, (1 + level) / 2))


def by_cluster(values: Floats, labels: Integers) -> Floats:
    """Return the mean of the finite values of each cluster, in the order of the labels.

    >>> by_cluster(np.array([1.0, 3.0, 5.0, np.nan]), np.array([0, 0, 1, 1])).tolist()
    [2.0, 5.0]
    """
    finite = np.isfinite(values)
    _, cluster = np.unique(labels[finite], return_inverse=True)
    return np.asarray(np.bincount(cluster, values[finite]) / np.bincount(cluster), dtype=np.float64)
