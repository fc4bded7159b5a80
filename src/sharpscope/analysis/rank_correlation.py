"""Kendall's τ_b, Spearman's ρ and Pearson's r of many resamples at once.

Each class is set up with two samples and the cluster that every row belongs to, and then gives the
coefficient of any number of resamples, each written as the times every cluster occurs in it. The sample's
own coefficient is the resample that holds every cluster once. Nothing loops over resamples.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd

from sharpscope.analysis.resampling import Floats, Integers

_ROWS_AT_ONCE = 512
"""Rows of the pairs' sign matrices held at a time: bounds memory at about 512 × n × 24 bytes."""


class Coefficient(Protocol):
    """Two samples, ready to be correlated under any resampling of their clusters."""

    def __call__(self, counts: Floats) -> Floats:
        """Return the coefficient of each resample, shape (r,), from ``counts``, shape (r, clusters)."""


class Kendall:
    """Kendall's τ_b: concordant less discordant pairs, over the pairs not tied.

    τ_b = (C - D) / sqrt((P - T_x)(P - T_y)) with P pairs, T_x of them tied in x and T_y in y (Kendall,
    *The treatment of ties in ranking problems*, Biometrika 33, 1945). A resample that holds a row twice pairs
    it with itself; that pair is tied in both and drops out of all three sums. Each sum over pairs is a
    quadratic form in the clusters' counts, so a resample costs O(clusters²) and not O(n²).

    With ``blocks`` only runs of one block and different clusters are compared: within seeds, say.

    >>> tau = Kendall(np.array([1.0, 2, 2, 3]), np.array([1.0, 3, 2, 2]), np.arange(4))
    >>> round(float(tau(np.ones((1, 4)))[0]), 12)
    0.4
    """

    def __init__(self, x: Floats, y: Floats, labels: Integers, blocks: Integers | None = None) -> None:
        order = np.argsort(labels, kind="stable")
        x, y, labels = x[order], y[order], labels[order]
        blocks = None if blocks is None else blocks[order]
        k = int(labels[-1]) + 1
        first = np.searchsorted(labels, np.arange(k))  # where each cluster's rows begin
        sums = np.zeros((3, k, k))
        for start in range(0, len(x), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            sign_x = np.sign(x[rows, None] - x[None, :])  # (rows, n)
            sign_y = np.sign(y[rows, None] - y[None, :])  # (rows, n)
            if blocks is not None:
                compared = (blocks[rows, None] == blocks) & (labels[rows, None] != labels)
                sign_x, sign_y = sign_x * compared, sign_y * compared
            for form, pairs in zip(sums, (sign_x * sign_y, abs(sign_x), abs(sign_y)), strict=True):
                _add_by_label(form, labels[rows], np.add.reduceat(pairs, first, axis=1))
        self._agreement, self._untied_x, self._untied_y = sums

    def __call__(self, counts: Floats) -> Floats:
        """Return τ_b of each resample, NaN where one of the samples is constant."""
        agreement, untied_x, untied_y = (
            ((counts @ form) * counts).sum(axis=1)
            for form in (self._agreement, self._untied_x, self._untied_y)
        )
        return _ratio(agreement, untied_x, untied_y)


class Pearson:
    """Pearson's r: the covariance over both standard deviations.

    >>> r = Pearson(np.array([0.0, 1, 2]), np.array([1.0, 3, 5]), np.arange(3))
    >>> float(r(np.ones((1, 3)))[0])
    1.0
    """

    def __init__(self, x: Floats, y: Floats, labels: Integers) -> None:
        # Standardising first keeps the sums of squares below from cancelling to noise. A constant sample's
        # mean may differ from it in the last bit; it is sent to exact zero.
        x, y = _standardised(x), _standardised(y)
        moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)  # (n, 6)
        self._moments = np.zeros((int(labels.max()) + 1, 6))
        np.add.at(self._moments, labels, moments)

    def __call__(self, counts: Floats) -> Floats:
        """Return r of each resample, NaN where one of the samples is constant."""
        n, x, y, xx, yy, xy = (counts @ self._moments).T
        scale = 1e-12 * n
        spread_x, spread_y = xx - x * x / n, yy - y * y / n
        spread_x, spread_y = (np.where(spread > scale, spread, 0.0) for spread in (spread_x, spread_y))
        return _ratio(xy - x * y / n, spread_x, spread_y)


class Spearman:
    """Spearman's ρ: Pearson's r of the midranks, the ranks taken anew within every resample.

    With ``blocks`` the ranks are those within a block, as shares of its size and less its mean.

    >>> rho = Spearman(np.array([1.0, 2, 2, 9]), np.array([1.0, 2, 2, 3]), np.arange(4))
    >>> float(rho(np.ones((1, 4)))[0])
    1.0
    >>> rho = Spearman(np.array([1.0, 2, 30, 40]), np.array([1.0, 2, 3, 4]), np.arange(4), np.array([0, 0, 1, 1]))
    >>> float(rho(np.ones((1, 4)))[0])
    1.0
    """

    def __init__(self, x: Floats, y: Floats, labels: Integers, blocks: Integers | None = None) -> None:
        self._labels = labels
        blocks = np.zeros(len(x), dtype=np.int64) if blocks is None else blocks
        self._below = [_rows_below(sample, labels, blocks) for sample in (x, y)]
        self._blocks = blocks
        self._sizes = np.zeros((int(labels.max()) + 1, int(blocks.max()) + 1))  # (clusters, blocks)
        np.add.at(self._sizes, (labels, blocks), 1.0)

    def __call__(self, counts: Floats) -> Floats:
        """Return ρ of each resample, NaN where one of the samples is constant."""
        found = np.empty(len(counts))
        for start in range(0, len(counts), _ROWS_AT_ONCE):
            some = counts[start : start + _ROWS_AT_ONCE]
            weight = some[:, self._labels]  # (r, n)
            size = (some @ self._sizes)[:, self._blocks]  # (r, n), of the row's block
            # In a block of so many rows, a row's midrank less its own half is the mass below it plus half
            # the mass level with it; midranks average (size + 1)/2, these size/2.
            rank_x, rank_y = ((some @ below - size / 2) / (size + 1) for below in self._below)  # (r, n)
            found[start : start + _ROWS_AT_ONCE] = _ratio(
                (weight * rank_x * rank_y).sum(axis=1),
                (weight * rank_x * rank_x).sum(axis=1),
                (weight * rank_y * rank_y).sum(axis=1),
            )
        return found


def ranks_within(values: Floats, blocks: Integers) -> Floats:
    """Return midranks within blocks as shares of the block's size, less the block's mean.

    >>> ranks_within(np.array([5.0, 6.0, 1.0]), np.array([0, 0, 1])).round(3).tolist()
    [-0.167, 0.167, 0.0]
    """
    grouped = pd.Series(values).groupby(blocks)
    ranks = grouped.rank() / (grouped.transform("size") + 1)
    return np.asarray(ranks - ranks.groupby(blocks).transform("mean"), dtype=np.float64)


METHODS: dict[str, type[Kendall] | type[Spearman] | type[Pearson]] = {
    "kendall": Kendall,
    "spearman": Spearman,
    "pearson": Pearson,
}
"""The coefficients by name."""


def _rows_below(sample: Floats, labels: Integers, blocks: Integers) -> Floats:
    """Return, per cluster and row, its rows of the row's block below that row plus half of those level with it."""
    below = np.zeros((int(labels.max()) + 1, len(sample)))  # (clusters, n)
    order = np.argsort(labels, kind="stable")
    for start in range(0, len(sample), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        difference = np.sign(sample[None, :] - sample[rows, None])  # (rows, n)
        together = blocks[None, :] == blocks[rows, None]
        _add_by_label(below, labels[rows], (difference + 1) / 2 * together)
    return below


def _add_by_label(total: Floats, labels: Integers, rows: Floats) -> None:
    """Add each row to the row of `total` that its label names, the labels in ascending order.

    Sums of halves are exact in any order, and this one is many times faster than ``np.add.at``.
    """
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    total[labels[starts]] += np.add.reduceat(rows, starts, axis=0)


def _standardised(sample: Floats) -> Floats:
    """Return the sample with mean zero and unit spread, all zero where it is constant."""
    if np.ptp(sample) == 0:
        return np.zeros_like(sample)
    scaled = sample / np.abs(sample).max()  # so that no square overflows
    centred = scaled - scaled.mean()
    return np.asarray(centred / np.sqrt((centred * centred).mean()), dtype=np.float64)


def _ratio(shared: Floats, spread_x: Floats, spread_y: Floats) -> Floats:
    """Return shared / sqrt(spread_x spread_y), NaN where a spread is zero, never outside [-1, 1]."""
    scale = np.sqrt(spread_x) * np.sqrt(spread_y)
    found = np.full(len(shared), np.nan)
    np.divide(shared, scale, out=found, where=scale > 0)
    return np.asarray(np.clip(found, -1.0, 1.0), dtype=np.float64)
