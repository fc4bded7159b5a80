"""Power: how likely a claim is to be decided with a number of seeds, and how many it takes.

All of it rests on a guess of the effect and of its spread, from an earlier table or from an assumed noise. An
estimate from few seeds errs by a factor of two either way, and so does what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from sharpscope.analysis.claims.confidence import BestOf, Mirrored, Student
from sharpscope.analysis.claims.estimate import Estimated

MOST_SEEDS = 500
"""A larger number of seeds is called not feasible: at ten minutes a run it is more than three days a setting."""

CHANCE = 0.8
"""The chance of a decision that "enough seeds" means."""


@dataclass(frozen=True)
class Spread:
    """How an effect's error depends on the number of seeds: sd/sqrt(seeds), with ``slope`` × (seeds - 1) freedom.

    ``sd`` is that of one seed's effect. ``slope`` is 1 where each seed gives one value, and more where the error is
    pooled over settings: settings - 1 for a trend.
    """

    sd: float
    slope: float = 1.0


def chance_decided(
    distance: float, spread: Spread, seeds: int, level: float = 0.95, other: float = inf
) -> float:
    """Return the chance that an interval of this level excludes a threshold ``distance`` away from the truth.

    With f degrees of freedom, P(|T| > t) for T of the noncentral t distribution, noncentrality
    distance/(sd/sqrt(seeds)), t the two-sided quantile (Colas, Sigaud & Oudeyer, *How many random seeds?*, 2018,
    section 4). On the near side alone, since an interval on the far side decides for the wrong answer.

    ``other``: how far the other end of a range is, where the truth lies in it and the interval has to as well. The
    chance is then p + q - 1, of both ends' chances, at least 0 (Bonferroni): exact where either is near 1.

    >>> round(chance_decided(2.0, Spread(1.4142, 2), 5), 2)     # a rise of 2 sd over three settings, five seeds
    0.79
    >>> round(chance_decided(1.0, Spread(1.0), 12, other=1.0), 2)   # equal to within one standard deviation
    0.77
    """
    from scipy.stats import nct, t

    if seeds < 2:
        return 0.0
    if other < inf:
        ends = (chance_decided(d, spread, seeds, level) for d in (distance, other))
        return max(0.0, sum(ends) - 1)
    if spread.sd == 0:
        return float(distance > 0)
    freedom = max(spread.slope * (seeds - 1), 1e-9)
    away = distance / spread.sd * sqrt(seeds)
    quantile = float(t.ppf((1 + level) / 2, freedom))
    if away > 30:
        return 1.0 if away > 3 * quantile else float(t.sf(quantile - away, freedom))
    return float(np.clip(nct.sf(quantile, freedom, away), 0.0, 1.0))


def seeds_needed(
    distance: float, spread: Spread, chance: float = CHANCE, level: float = 0.95, other: float = inf
) -> int | None:
    """Return the fewest seeds with this chance of a decision, None where `MOST_SEEDS` do not have it.

    >>> seeds_needed(1.0, Spread(1.0)), seeds_needed(2.0, Spread(1.4142, 2)), seeds_needed(0.0, Spread(1.0))
    (10, 6, None)
    """
    if distance <= 0:
        return None
    low, high = 1, MOST_SEEDS
    if chance_decided(distance, spread, high, level, other) < chance:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = chance_decided(distance, spread, middle, level, other) >= chance
        low, high = (low, middle) if enough else (middle, high)
    return high


def spread_of(estimate: Estimated) -> Spread | None:
    """Return how the error of an estimate depends on the number of seeds, None where that is not known."""
    confidence = estimate.confidence
    if isinstance(confidence, Mirrored):
        confidence = confidence.inner
    if not isinstance(confidence, Student | BestOf) or estimate.clusters < 2:
        return None
    slope = confidence.freedom / (estimate.clusters - 1)
    return Spread(confidence.error * sqrt(estimate.clusters), slope)


def spread_from_noise(noise: float, values: Sequence[float] | None = None) -> Spread:
    """Return the spread of one seed's effect where each run has noise of this standard deviation.

    Of a trend over the settings ``values`` (in the scale on which it is fitted), end to end: noise × range /
    sqrt(Σ (value - mean)²), settings - 1 degrees of freedom per seed. Without values: of the difference of two runs.

    >>> found = spread_from_noise(1.0, [0.0, 1.0, 2.0])
    >>> round(found.sd, 4), found.slope
    (1.4142, 2)
    """
    if values is None:
        return Spread(noise * sqrt(2.0))
    x = np.asarray(values, dtype=np.float64)
    return Spread(noise * float(np.ptp(x)) / float(np.sqrt(((x - x.mean()) ** 2).sum())), len(x) - 1)
