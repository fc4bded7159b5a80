"""Least-squares slopes within blocks, one per seed."""

from __future__ import annotations

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.finding import Relation
from sharpscope.analysis.claims.selection import Selected, labels
from sharpscope.analysis.resampling import Floats, Integers


def scaled(values: Floats, expression: str) -> tuple[Floats, bool]:
    """Return the base-10 logarithm of positive values and True, or the values themselves and False.

    What the expression already gives as a logarithm is left as it is.

    >>> scaled(np.array([0.1, 10.0]), "lr")
    (array([-1.,  1.]), True)
    >>> scaled(np.array([2.0, 3.0]), "log10(batch_size)")
    (array([2., 3.]), False)
    """
    if (values > 0).all() and not expression.lstrip().startswith(("log(", "log10(")):
        return np.log10(values), True
    return values, False


def centred(values: Floats, blocks: Integers) -> Floats:
    """Return the values less the mean of their block."""
    _, block = np.unique(blocks, return_inverse=True)
    return np.asarray(values - (np.bincount(block, values) / np.bincount(block))[block], dtype=np.float64)


def slopes(x: Floats, y: Floats, blocks: Integers, clusters: Integers) -> Floats:
    """Return each cluster's least-squares slope of y on x with an intercept per block, NaN where x is constant.

    In the order of the clusters' labels.

    >>> x, y = np.array([0.0, 1, 0, 2]), np.array([0.0, 3, 5, 11])
    >>> slopes(x, y, np.array([0, 0, 1, 1]), np.zeros(4, dtype=int)).tolist()
    [3.0]
    """
    x, y = centred(x, blocks), centred(y, blocks)
    found = []
    for cluster in np.unique(clusters):
        here = clusters == cluster
        spread = float((x[here] ** 2).sum())
        found.append(float((x[here] * y[here]).sum()) / spread if spread > 1e-18 else float("nan"))
    return np.array(found)


def related(claim: BaseClaim, chosen: Selected, within: list[str]) -> Relation:
    """Return the two chosen columns as a relation within clusters and strata."""
    x, y = chosen.columns
    clusters = labels(chosen.rows, [claim.cluster])
    return Relation(chosen.rows, x, y, labels(chosen.rows, [claim.cluster, *within]), clusters)


def without_trend(x: str, y: str, cluster: str, relation: Relation) -> str:
    """Return why no seed and stratum has a trend."""
    spans = [np.ptp(relation.x[relation.blocks == block]) for block in np.unique(relation.blocks)]
    if max(spans) > 0:
        return f"{y} is the same at every value of {x}"
    return f"no {cluster} was run at two values of {x} with the rest equal"
