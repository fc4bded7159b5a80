"""Rank correlations within blocks: what remains of a relation with a third quantity held fixed."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.estimate import Estimated, quantile
from sharpscope.analysis.claims.finding import Relation
from sharpscope.analysis.claims.slope import centred
from sharpscope.analysis.claims.verdict import NAN
from sharpscope.analysis.partial_correlation import Partial
from sharpscope.analysis.resampling import Floats, Integers, percentile_interval, resample_counts

RESAMPLES = 2000


def rank_correlations(relation: Relation, z: Floats) -> Floats:
    """Return the correlations xy, xz and yz of ranks taken within blocks: in all, then without each cluster.

    Shape (1 + clusters, 3); NaN where a quantity is constant in every block.
    """
    ranks = np.stack([_ranks(values, relation.blocks) for values in (relation.x, relation.y, z)])
    _, cluster = np.unique(relation.clusters, return_inverse=True)
    products = np.zeros((int(cluster.max()) + 1, 3, 3))
    np.add.at(products, cluster, np.einsum("in,jn->nij", ranks, ranks))
    total = products.sum(axis=0)
    sums = np.concatenate([total[None], total[None] - products])  # (1 + clusters, 3, 3)
    spread = np.sqrt(np.einsum("cii->ci", sums))
    spread = np.where(spread < 1e-9, NAN, spread)
    found = sums / (spread[:, :, None] * spread[:, None, :])
    pairs = np.stack([found[:, 0, 1], found[:, 0, 2], found[:, 1, 2]], axis=1)
    return np.asarray(np.clip(pairs, -1.0, 1.0), dtype=np.float64)


def partial_within(relation: Relation, z: Floats, level: float) -> tuple[Estimated | None, str]:
    """Return the partial Spearman correlation of a relation given z, and why there is none or no interval.

    Spearman's and not Kendall's, since zero there means nearly that nothing is left (see
    `sharpscope.analysis.partial_correlation.Partial`). Within several blocks the ranks are taken in each, and the
    interval is the jackknife's over clusters; in a single block it is the bootstrap's over them, as in
    `sharpscope.analysis.partial_correlations`.
    """
    xy, xz, yz = rank_correlations(relation, z).T
    if not np.isfinite(xz[0]):
        constant = np.ptp(_ranks(z, relation.blocks)) < 1e-9
        return (
            None,
            "does not vary among the runs compared" if constant else "is left with a constant quantity",
        )
    left = (1 - xz**2) * (1 - yz**2)
    if not left[0] > 1e-9:
        return (
            None,
            "ranks the runs compared exactly as the claim's quantities do, so that they cannot be told apart",
        )
    with np.errstate(all="ignore"):
        partial = np.clip(np.where(left > 1e-9, (xy - xz * yz) / np.sqrt(left), NAN), -1.0, 1.0)
    value, left_out = float(partial[0]), partial[1:]
    k, blocks = len(left_out), len(np.unique(relation.blocks))
    without = Estimated(value, NAN, NAN, k)
    if k < 2:
        return without, "has no interval from a single cluster"
    if blocks == 1:
        _, labels = np.unique(relation.clusters, return_inverse=True)
        resampled = Partial("spearman", relation.x, relation.y, z, labels)(resample_counts(k, RESAMPLES))
        return Estimated(value, *percentile_interval(resampled, k, level), k), ""
    if not np.isfinite(left_out).all():
        return without, "has no interval, for it ranks otherwise in a single cluster only"
    reach = _reach(value, left_out, max(len(z) - blocks - 1, 1), level)
    return Estimated(value, max(value - reach, -1.0), min(value + reach, 1.0), k), ""


def _reach(value: float, left_out: Floats, freedom: int, level: float) -> float:
    """Return half the interval: Student's of the jackknife, or the normal one where clusters agree and leave none."""
    from scipy.stats import norm

    k = len(left_out)
    variance = (k - 1) / k * float(((left_out - left_out.mean()) ** 2).sum())
    shrunk = value * freedom / (freedom + 4)
    floor = float(norm.ppf((1 + level) / 2)) * (1 - shrunk**2) / sqrt(freedom)
    return max(quantile(k, level) * sqrt(variance), floor)


def _ranks(values: Floats, blocks: Integers) -> Floats:
    """Return midranks within blocks as shares of the block's size, less their mean."""
    grouped = pd.Series(values).groupby(blocks)
    ranks = grouped.rank() / (grouped.transform("size") + 1)
    return centred(ranks.to_numpy(dtype=np.float64), blocks)
