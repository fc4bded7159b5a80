"""Page's test of a trend within seeds, by permutation: what can be said without any assumption on the noise."""

from __future__ import annotations

from itertools import permutations
from math import erfc, sqrt

import numpy as np
import pandas as pd

from sharpscope.analysis.resampling import Floats, Integers

LARGEST_BLOCK = 7
"""Blocks of up to this many runs are enumerated (5 040 orders); larger ones take the normal approximation."""


def page_p_value(x: Floats, y: Floats, blocks: Integers) -> float:
    """Return the two-sided p-value of L = Σ over blocks of Σ rank(x) rank(y), y permuted within blocks.

    Page, *Ordered hypotheses for multiple treatments*, JASA 58 (1963), with midranks for ties. The distribution is
    enumerated exactly where no block has more than `LARGEST_BLOCK` rows, and otherwise normal with L's mean and
    variance. NaN where no order is possible but one.

    Four seeds that all rise from one setting to another: 2 of 2⁴ orders are as extreme.

    >>> page_p_value(np.tile([0.0, 1.0], 4), np.tile([0.0, 1.0], 4), np.repeat(np.arange(4), 2))
    0.125
    """
    members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    members = [rows for rows in members if np.ptp(x[rows]) > 0 and np.ptp(y[rows]) > 0]
    if not members:
        return float("nan")
    ranks = [(_doubled_ranks(x[rows]), _doubled_ranks(y[rows])) for rows in members]
    observed = sum(int(a @ b) for a, b in ranks)
    # Four times L less its mean, which is not an integer where a block holds an even number of rows.
    mean = sum(float(a.sum() * b.sum()) / len(a) for a, b in ranks)
    if max(map(len, members)) > LARGEST_BLOCK:
        variance = sum(float(_squares(a) * _squares(b)) / (len(a) - 1) for a, b in ranks)
        return erfc(abs(observed - mean) / sqrt(2 * variance))
    chances, start = np.ones(1), 0
    for a, b in ranks:
        sums = np.array([order @ a for order in np.array(list(permutations(b)))])
        low = int(sums.min())
        chances = np.convolve(chances, np.bincount(sums - low) / len(sums))
        start += low
    distance = np.abs(start + np.arange(len(chances)) - mean)
    return min(1.0, float(chances[distance >= abs(observed - mean) - 1e-6].sum()))


def _doubled_ranks(values: Floats) -> Integers:
    """Return twice the midranks, which are integers."""
    return np.asarray((2 * pd.Series(values).rank().to_numpy()).round(), dtype=np.int64)


def _squares(ranks: Integers) -> float:
    return float(((ranks - ranks.mean()) ** 2).sum())
