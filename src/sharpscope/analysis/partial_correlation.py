"""Rank correlation of two samples with a third held fixed."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np

from sharpscope.analysis.rank_correlation import METHODS, Coefficient, Kendall, Spearman
from sharpscope.analysis.resampling import Floats, Integers


class Partial:
    """The partial coefficient of x and y given z, under any resampling of clusters.

    r_xy.z = (r_xy - r_xz r_yz) / sqrt((1 - r_xz²)(1 - r_yz²)), for Kendall's τ_b (Kendall, *Partial rank
    correlation*, Biometrika 32, 1942), Spearman's ρ or Pearson's r. Where z ranks exactly as x or as y does,
    nothing is left to correlate and the value is NaN.

    A value of zero means that z explains the whole correlation for Pearson's r of Gaussian samples, nearly so
    for Spearman's ρ, but not for Kendall's τ_b: where z correlates at 0.8 with x and with y, which are
    otherwise unrelated, the partial τ is 0.14 and the partial ρ 0.01. Ask both before saying that an
    association survives the control. Neither is zero where z acts along a hump (see
    `sharpscope.analysis.claims.ranks_within.spline_p_value`).

    With ``blocks`` runs are compared, and ranked, within a block alone (Kendall's and Spearman's).

    >>> x = np.array([1.0, 2, 3, 4]); y = np.array([2.0, 1, 4, 3]); z = np.array([1.0, 3, 2, 4])
    >>> tau = Partial("kendall", x, y, z, np.arange(4))   # tau_xy = 1/3, tau_xz = 2/3, tau_yz = 0
    >>> round(float(tau(np.ones((1, 4)))[0]), 4)
    0.4472
    """

    def __init__(
        self,
        method: str,
        x: Floats,
        y: Floats,
        z: Floats,
        labels: Integers,
        blocks: Integers | None = None,
    ) -> None:
        def coefficient(a: Floats, b: Floats) -> Coefficient:
            if blocks is None:
                return METHODS[method](a, b, labels)
            within = Kendall if method == "kendall" else Spearman
            return within(a, b, labels, blocks)

        self._xy, self._xz, self._yz = coefficient(x, y), coefficient(x, z), coefficient(y, z)

    def __call__(self, counts: Floats) -> Floats:
        """Return the partial coefficient of each resample, shape (r,), from ``counts``, (r, clusters)."""
        xy, xz, yz = self._xy(counts), self._xz(counts), self._yz(counts)
        left = (1 - xz * xz) * (1 - yz * yz)
        found = np.full(len(xy), np.nan)
        np.divide(xy - xz * yz, np.sqrt(left), out=found, where=left > 1e-12)
        return np.asarray(np.clip(found, -1.0, 1.0), dtype=np.float64)


def partial_p_value(method: str, value: float, n: int) -> float:
    """Return the two-sided p-value of a partial coefficient of ``n`` rows under independence of the rows.

    Spearman and Pearson: t = r sqrt((n - 3)/(1 - r²)) with n - 3 degrees of freedom. Kendall: the normal
    approximation with the variance of τ for one row fewer, 2(2n + 3) / (9 (n - 1)(n - 2)), for no exact
    distribution is known (Kim, *ppcor*, Communications for Statistical Applications and Methods 22, 2015).
    NaN for n < 4.

    >>> round(partial_p_value("pearson", 0.5, 28), 4)
    0.0079
    """
    from scipy.stats import t

    if n < 4 or not np.isfinite(value):
        return float("nan")
    if method == "kendall":
        deviation = sqrt(2 * (2 * n + 3) / (9 * (n - 1) * (n - 2)))
        return erfc(abs(value) / deviation / sqrt(2))
    if abs(value) >= 1:
        return 0.0
    return float(2 * t.sf(abs(value) * sqrt((n - 3) / (1 - value * value)), n - 3))
