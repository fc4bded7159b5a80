"""Kendall's τ_b within blocks, averaged over seeds, with an interval honest for few seeds and few settings."""

from __future__ import annotations

from math import isfinite, sqrt

import numpy as np

from sharpscope.analysis.claims.estimate import Estimated, by_cluster, quantile, student
from sharpscope.analysis.rank_correlation import Kendall
from sharpscope.analysis.resampling import Floats, Integers


def mean_tau(
    x: Floats,
    y: Floats,
    blocks: Integers,
    clusters: Integers,
    configurations: Integers,
    runs: Integers,
    level: float,
) -> Estimated:
    """Return the mean over clusters (seeds) of the mean over their blocks of τ_b of y on x.

    All arguments but ``level`` have one entry per row; a block lies within one cluster. The interval is the mean
    plus and minus the widest of three reaches, cut at ±1:

    - *seeds*: Student's interval of the seeds' own τ_b, k - 1 degrees of freedom;
    - *configurations*: the jackknife that leaves out one configuration at a time, in all seeds together, with
      Student's quantile for that many (Efron & Stein, *The jackknife estimate of variance*, Annals of Statistics 9,
      1981): a trend that hangs on one setting is none;
    - *floor*: τ_b takes few values, and seeds that all agree have a spread of zero, not an error of zero. The normal
      interval of variance (1 - τ'²)/n, with n = Σ 1/Var₀(τ_b) the number of independent comparisons (Var₀ the
      variance without association, ties included) and τ' = τ n/(n + 4), the adjustment of Agresti & Coull
      (*Approximate is better than exact*, The American Statistician 52, 1998).

    Simulated with 2, 3, 4 and 6 seeds at 4, 7 and 12 settings, slopes from none to steep, with and without a slope of
    the seed's own: the interval holds the mean τ_b in 95 to 100 % of cases (300 each), where the percentile bootstrap
    over seeds does in 6 to 87 % and Student's interval alone in 6 to 96 %, both worst where τ_b is close to 1.

    Blocks in which x or y is constant have no τ_b and are left out. With one cluster there is no interval.
    """
    names = np.unique(configurations)
    found, owners, comparisons = [], [], []
    for block in np.unique(blocks):
        here = blocks == block
        taus = _leaving_out(x[here], y[here], configurations[here], names)
        if isfinite(taus[0]):
            found.append(taus)
            owners.append(int(clusters[here][0]))
            comparisons.append((1 / _null_variance(x[here], y[here]), int(here.sum())))
    if not found:
        return Estimated(float("nan"), float("nan"), float("nan"), 0)
    taus, of_cluster = np.stack(found), np.array(owners)  # (blocks, 1 + configurations), (blocks,)
    by_seed = student(by_cluster(taus[:, 0], of_cluster), level)
    if by_seed.clusters < 2:
        return by_seed
    reaches = {"seeds": by_seed.high - by_seed.value}
    without = [by_cluster(taus[:, i], of_cluster) for i in range(1, taus.shape[1])]
    left_out, count = np.array([means.mean() for means in without if len(means)]), len(names)
    if len(left_out) > 1:
        variance = (count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum())
        reaches["configurations"] = quantile(count, level) * sqrt(variance)
    n = 0.0
    for cluster in np.unique(of_cluster):
        # Blocks that hold the same runs again (epoch after epoch) add no comparisons of their own.
        of_one = [pair for pair, owner in zip(comparisons, owners, strict=True) if owner == cluster]
        independent, rows = np.mean(of_one, axis=0)
        n += independent * len(np.unique(runs[clusters == cluster])) / rows
    floor = _normal_quantile(level) * sqrt((1 - (by_seed.value * n / (n + 4)) ** 2) / n)
    limit = max(reaches, key=lambda name: reaches[name])
    reach = max(*reaches.values(), floor)
    low, high = max(by_seed.value - reach, -1.0), min(by_seed.value + reach, 1.0)
    return Estimated(by_seed.value, low, high, by_seed.clusters, "seeds" if reach == floor else limit)


def _leaving_out(x: Floats, y: Floats, configurations: Integers, names: Integers) -> Floats:
    """Return τ_b of a block, then τ_b without each configuration of ``names``."""
    present, local = np.unique(configurations, return_inverse=True)
    counts = np.vstack([np.ones(len(present)), 1 - np.eye(len(present))])
    taus = Kendall(x, y, local)(counts)
    found = np.full(1 + len(names), taus[0])
    found[1 + np.searchsorted(names, present)] = taus[1:]
    return found


def _null_variance(x: Floats, y: Floats) -> float:
    """Return the variance of τ_b where x and y are independent, given their ties (Kendall 1970, section 4.4).

    >>> round(_null_variance(np.arange(5.0), np.arange(5.0)), 4)   # 2 (2n + 5) / (9 n (n - 1))
    0.1667
    """
    n = len(x)
    t, u = (np.unique(values, return_counts=True)[1].astype(float) for values in (x, y))
    pairs = n * (n - 1)
    once = pairs * (2 * n + 5) - sum((c * (c - 1) * (2 * c + 5)).sum() for c in (t, u))
    twice = (t * (t - 1)).sum() * (u * (u - 1)).sum() / (2 * pairs)
    thrice = (t * (t - 1) * (t - 2)).sum() * (u * (u - 1) * (u - 2)).sum()
    thrice = thrice / (9 * pairs * (n - 2)) if n > 2 else 0.0
    untied = [pairs / 2 - (c * (c - 1)).sum() / 2 for c in (t, u)]
    return float((once / 18 + twice + thrice) / (untied[0] * untied[1]))


def _normal_quantile(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2))
