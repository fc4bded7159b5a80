"""Rank correlations within blocks: what remains of a relation with a third quantity held fixed."""

from __future__ import annotations

from math import sqrt

import numpy as np

from sharpscope.analysis.claims.confidence import Student
from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.finding import Relation
from sharpscope.analysis.claims.verdict import NAN
from sharpscope.analysis.rank_correlation import Spearman, ranks_within
from sharpscope.analysis.resampling import Floats
from sharpscope.analysis.within_seeds import all_then_without_each

FEWEST_FOR_SPLINE = 12
"""With fewer rows a spline of the control leaves too little to correlate."""


def rank_correlations(relation: Relation, z: Floats) -> Floats:
    """Return the correlations xy, xz and yz of ranks taken within blocks: in all, then without each cluster.

    Shape (1 + clusters, 3); NaN where a quantity is constant in every block.
    """
    _, clusters = np.unique(relation.clusters, return_inverse=True)
    _, blocks = np.unique(relation.blocks, return_inverse=True)
    counts = all_then_without_each(int(clusters.max()) + 1)
    pairs = ((relation.x, relation.y), (relation.x, z), (relation.y, z))
    return np.stack([Spearman(a, b, clusters, blocks)(counts) for a, b in pairs], axis=1)


def partial_within(relation: Relation, z: Floats) -> tuple[Estimated | None, str]:
    """Return the partial Spearman correlation of a relation given z, and why there is none or no interval.

    Spearman's and not Kendall's, since zero there means nearly that nothing is left (see
    `sharpscope.analysis.partial_correlation.Partial`). The interval is the jackknife's over clusters, and at least
    the normal one of as many rows: clusters that agree leave no spread, but not no error.
    """
    xy, xz, yz = rank_correlations(relation, z).T
    if not np.isfinite(xz[0]):
        constant = np.ptp(ranks_within(z, relation.blocks)) < 1e-9
        why = "does not vary among the runs compared" if constant else "is left with a constant quantity"
        return None, why
    left = (1 - xz**2) * (1 - yz**2)
    if not left[0] > 1e-9:
        return (
            None,
            "ranks the runs compared exactly as the claim's quantities do, so that they cannot be told apart",
        )
    with np.errstate(all="ignore"):
        partial = np.clip(np.where(left > 1e-9, (xy - xz * yz) / np.sqrt(left), NAN), -1.0, 1.0)
    value, left_out = float(partial[0]), partial[1:]
    k = len(left_out)
    without = Estimated(value, k)
    if k < 2:
        return without, "has no interval from a single cluster"
    if not np.isfinite(left_out).all():
        return without, "has no interval, for it ranks otherwise in a single cluster only"
    freedom = max(len(z) - len(np.unique(relation.blocks)) - 1, 1)
    variance = (k - 1) / k * float(((left_out - left_out.mean()) ** 2).sum())
    floor = (1 - (value * freedom / (freedom + 4)) ** 2) / sqrt(freedom)
    error = max(sqrt(variance), floor)
    estimate = without.with_confidence(Student(value, error, k - 1))
    return estimate.through(lambda part: min(1.0, max(-1.0, part)), float), ""


def spline_p_value(relation: Relation, z: Floats) -> float:
    """Return the p-value of what a spline of z leaves of x and of y going together; NaN for too few rows.

    The generalised covariance measure (Shah & Peters, *The hardness of conditional independence testing and the
    generalised covariance measure*, Annals of Statistics 48, 2020): x and y are regressed on z, and the mean of the
    products of their residuals is compared with its error. Here x, y and z are ranks within blocks, the regression is
    a cubic spline with a knot per twelve rows, four at most, and the error is that of the clusters' sums with
    Student's distribution. Unlike a partial rank correlation it takes out relations to z that rise and fall.
    """
    n = len(z)
    _, cluster = np.unique(relation.clusters, return_inverse=True)
    k = int(cluster.max()) + 1
    ranks = [ranks_within(values, relation.blocks) for values in (relation.x, relation.y, z)]
    if n < FEWEST_FOR_SPLINE or k < 3 or min(map(np.ptp, ranks)) < 1e-9:
        return NAN
    basis = _spline(ranks[2])
    left = [values - basis @ np.linalg.lstsq(basis, values, rcond=1e-10)[0] for values in ranks[:2]]
    if (
        min(float(part @ part) / float(whole @ whole) for part, whole in zip(left, ranks, strict=False))
        < 1e-9
    ):
        return NAN
    product = left[0] * left[1]
    sums = np.bincount(cluster, product)
    error = sqrt(k / (k - 1) * float(((sums - sums.mean()) ** 2).sum()))
    # Residuals of a fit with p columns are too small by (n - p)/n in mean square.
    shrunk = sqrt((n - basis.shape[1]) / n)
    if error == 0:
        return NAN
    once = Student(0.0, 1.0, k - 1).below(-abs(float(sums.sum()) / error) * shrunk)
    return min(1.0, 2 * once)


def _spline(z: Floats) -> Floats:
    """Return a constant, the first three powers of z and a truncated cube per knot, (n, p)."""
    z = (z - z.min()) / float(np.ptp(z))
    knots = np.quantile(z, np.linspace(0, 1, min(4, len(z) // 12) + 2)[1:-1])
    powers = [z**power for power in range(4)]
    return np.stack([*powers, *(np.maximum(z - knot, 0.0) ** 3 for knot in knots)], axis=1)
