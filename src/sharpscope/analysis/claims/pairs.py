"""Runs of two sides, matched one to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.finding import NotEvaluable, Relation
from sharpscope.analysis.claims.selection import Selected, format_row, key, labels
from sharpscope.analysis.resampling import Floats, Integers


@dataclass(frozen=True)
class Pairs:
    """Values of side a and side b, one entry per pair, and the pair's cluster.

    ``index_a`` and ``index_b`` are the pairs' rows in either side, ``keys`` the matched columns. ``relation`` sets
    the values against the side they are of (1 for a), within pairs. ``notes`` say what found no partner.
    """

    a: Floats
    b: Floats
    clusters: Integers
    keys: pd.DataFrame
    index_a: Integers
    index_b: Integers
    rows_a: pd.DataFrame
    relation: Relation
    notes: tuple[str, ...]

    @property
    def difference(self) -> Floats:
        """The values of a less those of b; what is beneath 1e-12 of their size is rounding and zero."""
        size = np.maximum(np.abs(self.a), np.abs(self.b))
        found = self.a - self.b
        return np.where(np.abs(found) <= 1e-12 * size, 0.0, found)


def pair_up(
    a: Selected,
    b: Selected,
    match: Sequence[str],
    cluster: str,
    names: tuple[str, str] = ("side a", "side b"),
) -> Pairs:
    """Return the pairs whose matched columns are equal, in the order of side a.

    Raises `NotEvaluable` where a side has several rows that match, for then nothing says which is meant, and where
    there is no pair.
    """
    sides = []
    for name, side in zip(names, (a, b), strict=True):
        keys = pd.DataFrame({column: key(side.rows, column) for column in match})
        twice = keys.duplicated()
        if twice.any():
            raise NotEvaluable(
                f"several runs of {name} share {format_row(keys[twice].iloc[0])}: add what tells them apart to "
                f"match, or to the conditions of {name}"
            )
        sides.append(keys.assign(**{f"row of {name}": np.arange(len(keys))}))
    joined = sides[0].merge(sides[1], on=list(match), how="inner")
    if not len(joined):
        raise NotEvaluable(f"no run of {names[0]} has one of {names[1]} with the same {', '.join(match)}")
    index_a, index_b = (joined[f"row of {name}"].to_numpy() for name in names)
    rows_a = a.rows.iloc[index_a].reset_index(drop=True)
    rows = pd.concat([rows_a, b.rows.iloc[index_b]], ignore_index=True)
    n = len(joined)
    values = np.concatenate([a.columns[0][index_a], b.columns[0][index_b]])
    both_clusters = labels(rows, [cluster])
    relation = Relation(rows, np.repeat([1.0, 0.0], n), values, np.tile(np.arange(n), 2), both_clusters)
    lost = len(a.rows) + len(b.rows) - 2 * n
    notes = (
        (f"{lost} of {len(a.rows) + len(b.rows)} runs found no partner and are left out.",) if lost else ()
    )
    return Pairs(
        values[:n],
        values[n:],
        both_clusters[:n],
        joined[list(match)],
        index_a,
        index_b,
        rows_a,
        relation,
        notes,
    )
