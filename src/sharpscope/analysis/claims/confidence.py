"""Confidence distributions: what the data say of a number, at every level at once.

A confidence distribution C gives, for every threshold, the confidence that the effect lies below it: the one-sided
p-value of "the effect is the threshold or more". The interval of level 1 - α reaches from C's α/2 to its 1 - α/2
quantile (Schweder & Hjort, *Confidence, Likelihood, Probability*, 2016, chapter 3). An interval and a p-value that
come from one C agree with each other by construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf, log, sqrt
from typing import Protocol

import numpy as np

from sharpscope.analysis.resampling import Floats
from sharpscope.seeding import numpy_generator

PRIOR_VARIANCE = 4.0
"""Variance of the standardised effect in `Anytime`: effects of about two standard deviations over seeds are expected.
``benchmarks/verdicts.py`` compares 1, 4 and 9: 4 is the smallest that gives four seeds an interval, and at 12 seeds
the interval is 4 % wider than with 1."""

_DRAWS = 40_000
"""Draws of the largest of several statistics: its 97.5 % quantile then errs by about 1 %."""


class Confidence(Protocol):
    """What the data say of a number."""

    def below(self, threshold: float) -> float:
        """Return the confidence that the number lies below the threshold."""

    def above(self, threshold: float) -> float:
        """Return the confidence that it lies above: 1 less the other, with the digits of a small number."""

    def quantile(self, share: float) -> float:
        """Return the threshold below which the number lies with confidence ``share``; infinite where none does."""


@dataclass(frozen=True)
class Student:
    """A mean whose error follows Student's t distribution.

    >>> once = Student(2.0, 0.5, 10)
    >>> round(once.below(2.0), 3), round(once.quantile(0.975), 3)
    (0.5, 3.114)
    """

    mean: float
    error: float
    freedom: float

    def below(self, threshold: float) -> float:
        """Return P(T < (threshold - mean) / error); a step where the error is zero."""
        from scipy.special import stdtr

        if self.error == 0:
            return 0.5 if threshold == self.mean else float(threshold > self.mean)
        return float(stdtr(self.freedom, (threshold - self.mean) / self.error))

    def above(self, threshold: float) -> float:
        """Return P(T > (threshold - mean) / error)."""
        return Student(-self.mean, self.error, self.freedom).below(-threshold)

    def quantile(self, share: float) -> float:
        """Return mean + error × the quantile of T."""
        from scipy.special import stdtrit

        return self.mean + self.error * float(stdtrit(self.freedom, share))


@dataclass(frozen=True)
class Anytime:
    """The mean of ``clusters`` normal values, at a number of clusters that was chosen while looking at them.

    With t = (mean - threshold)/error, ν = clusters - 1 and A = 1 + clusters × g, the Bayes factor A^(-1/2) ((1 +
    t²/ν) / (1 + t²/(Aν)))^((ν + 1)/2) of a normal prior of variance g on the standardised effect is an e-value: if
    the threshold is the truth it exceeds 1/α at *any* time with probability at most α (Lai, *On confidence
    sequences*, Annals of Statistics 4, 1976; Wang & Ramdas, *Anytime-valid t-tests and confidence sequences for
    Gaussian means with unknown variance*, 2023, Theorem 4.9). The two-sided p-value is its inverse.

    >>> Anytime(1.0, 0.2, 10).quantile(0.025) < Student(1.0, 0.2, 9).quantile(0.025)
    True
    """

    mean: float
    error: float
    clusters: int
    prior: float = PRIOR_VARIANCE

    def below(self, threshold: float) -> float:
        """Return half the p-value, on the side of the mean that the threshold lies on."""
        if self.error == 0:
            return Student(self.mean, 0.0, 1.0).below(threshold)
        freedom, a = self.clusters - 1, 1 + self.clusters * self.prior
        t2 = ((self.mean - threshold) / self.error) ** 2 / freedom
        evidence = (self.clusters / 2) * (np.log1p(t2) - np.log1p(t2 / a)) - log(a) / 2
        half = min(1.0, float(np.exp(-evidence))) / 2
        return half if threshold < self.mean else 1 - half

    def above(self, threshold: float) -> float:
        """Return the same of the other side."""
        return Anytime(-self.mean, self.error, self.clusters, self.prior).below(-threshold)

    def quantile(self, share: float) -> float:
        """Return the end of the confidence sequence: infinite where so few clusters exclude nothing."""
        if share == 0.5:
            return self.mean
        freedom, a = self.clusters - 1, 1 + self.clusters * self.prior
        ratio = (sqrt(a) / (2 * min(share, 1 - share))) ** (2 / self.clusters)
        if self.error == 0:
            return self.mean
        reach = inf if ratio >= a else self.error * sqrt(freedom * (ratio - 1) / (1 - ratio / a))
        return self.mean + (reach if share > 0.5 else -reach)


@dataclass(frozen=True)
class Stretched:
    """Another distribution with its one-sided p-values multiplied by ``factor``: Bonferroni's correction."""

    inner: Confidence
    factor: float

    def below(self, threshold: float) -> float:
        """Return the inner confidence, its distance from 0 or 1 multiplied, 0.5 at most."""
        once = self.inner.below(threshold)
        return min(0.5, once * self.factor) if once <= 0.5 else 1 - self.above(threshold)

    def above(self, threshold: float) -> float:
        """Return the same of the other side."""
        once = self.inner.above(threshold)
        return min(0.5, once * self.factor) if once <= 0.5 else 1 - self.below(threshold)

    def quantile(self, share: float) -> float:
        """Return the inner quantile that lies ``factor`` times further out."""
        return self.inner.quantile(share / self.factor if share <= 0.5 else 1 - (1 - share) / self.factor)


@dataclass(frozen=True)
class Mirrored:
    """The distribution of the negative of a number."""

    inner: Confidence

    def below(self, threshold: float) -> float:
        """Return the confidence that the inner number lies above the negative threshold."""
        return self.inner.above(-threshold)

    def above(self, threshold: float) -> float:
        """Return the confidence that the inner number lies below the negative threshold."""
        return self.inner.below(-threshold)

    def quantile(self, share: float) -> float:
        """Return the negative of the opposite quantile."""
        return -self.inner.quantile(1 - share)


@dataclass(frozen=True)
class BestOf:
    """A difference of means whose first side was picked as the largest of several.

    ``picks``: for each stratum averaged over, from how many settings the largest was picked. Being the largest
    biases the difference upwards, so that its lower end takes the distribution of the largest of that many
    differences from a common setting (Dunnett, *A multiple comparison procedure for comparing several treatments
    with a control*, JASA 50, 1955), drawn 40 000 times with a fixed seed. The upper end is Student's.

    >>> BestOf(1.0, 0.3, 20, (1,)).quantile(0.025) > BestOf(1.0, 0.3, 20, (6,)).quantile(0.025)
    True
    """

    mean: float
    error: float
    freedom: float
    picks: tuple[int, ...]

    def below(self, threshold: float) -> float:
        """Return the share of draws of the largest beyond the standardised distance, or Student's above the mean."""
        student = Student(self.mean, self.error, self.freedom)
        if threshold >= self.mean or self.error == 0:
            return student.below(threshold)
        drawn = _largest(self.picks, self.freedom)
        beyond = len(drawn) - np.searchsorted(drawn, (self.mean - threshold) / self.error)
        # Beyond the draws the single difference bounds the tail of the largest of several from above.
        tail = float(beyond) / len(drawn) if beyond >= 20 else max(self.picks) * student.below(threshold)
        return min(0.5, max(tail, student.below(threshold)))

    def above(self, threshold: float) -> float:
        """Return Student's share above the mean, and the complement below it."""
        if threshold >= self.mean or self.error == 0:
            return Student(self.mean, self.error, self.freedom).above(threshold)
        return 1 - self.below(threshold)

    def quantile(self, share: float) -> float:
        """Return the mean less the largest's quantile, or Student's above the mean."""
        student = Student(self.mean, self.error, self.freedom)
        if share >= 0.5 or self.error == 0:
            return student.quantile(share)
        if share * _DRAWS < 20:
            return student.quantile(share / max(self.picks))
        reach = float(np.quantile(_largest(self.picks, self.freedom), 1 - share))
        return min(self.mean - self.error * max(reach, 0.0), student.quantile(share))


@lru_cache(maxsize=256)
def _largest(picks: tuple[int, ...], freedom: float) -> Floats:
    """Return draws in ascending order of the mean over strata of the largest standardised difference."""
    draw = numpy_generator("the largest of several differences", picks, round(freedom, 6))
    total = np.zeros(_DRAWS)
    for number in picks:
        largest = draw.standard_normal((_DRAWS, number)).max(axis=1)
        total += largest - draw.standard_normal(_DRAWS)
    scale = np.sqrt(draw.chisquare(freedom, _DRAWS) / freedom)
    return np.asarray(np.sort(total / sqrt(2 * len(picks)) / scale), dtype=np.float64)


@dataclass(frozen=True)
class Inverted:
    """A distribution known by its one-sided p-values alone; quantiles are found by bisection.

    ``confidence``: threshold → confidence below it, not falling. ``low`` and ``high`` bound the search.
    """

    confidence: Callable[[float], float]
    low: float
    high: float

    def below(self, threshold: float) -> float:
        """Return the confidence that was given."""
        return self.confidence(threshold)

    def above(self, threshold: float) -> float:
        """Return the complement."""
        return 1 - self.confidence(threshold)

    def quantile(self, share: float) -> float:
        """Return the smallest threshold with at least this confidence, infinite where the bounds do not hold it."""
        low, high = self.low, self.high
        if self.confidence(low) >= share:
            return -inf
        if self.confidence(high) < share:
            return inf
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if self.confidence(middle) >= share else (middle, high)
        return high if share <= 0.5 else low
