"""Claim kind ``interaction``: the slope of one quantity on another grows or shrinks with a third."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.claim import BaseClaim, Direction, direction_sign
from sharpscope.analysis.claims.conditions import holds
from sharpscope.analysis.claims.contrast import coefficient, design_of, scaled
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select


class Interaction(BaseClaim):
    """The slope of y on x, with its sign, rises or falls as ``by`` grows.

    Least squares of y on u and u·v with an intercept per seed and value of ``by``, where u is x and v is ``by``,
    base-10 logarithms where they are positive. Effect: the coefficient of u·v, the change of the slope per tenfold
    (or per unit) of ``by``, with the interval of `sharpscope.analysis.claims.contrast.coefficient`. Further
    effects: the slope at the smallest and at the largest ``by``. Of a column of text with two values, such as two
    optimizers, the first in the alphabet counts as 0 and the other as 1.
    """

    kind: Literal["interaction"]
    x: Expression
    y: Expression
    by: Expression
    direction: Direction

    def find(self, evidence: Evidence) -> Finding:
        """Return the change of the slope; see the class."""
        table, by_name = _numbered(evidence.table(self.source), self.where, self.by)
        chosen = select(table, self.where, [self.x, self.y, by_name])
        x, y, by = chosen.columns
        u, log_x = scaled(x, self.x)
        v, log_by = scaled(by, by_name)
        seeds, strata = labels(chosen.rows, [self.cluster]), labels(chosen.rows, [self.cluster, by_name])
        relation = Relation(chosen.rows, x, y, strata, seeds)
        change = coefficient(design_of(relation, np.stack([u, u * v], axis=1), y), np.array([0.0, 1.0]))
        if not change.clusters:
            raise NotEvaluable(
                f"no {self.cluster} was run at two values of {self.x} for each of two values of {by_name}"
            )
        ends = []
        for end in (by.min(), by.max()):
            here = np.isclose(by, end, rtol=1e-9)
            part = Relation(chosen.rows[here], x[here], y[here], strata[here], seeds[here])
            found = coefficient(design_of(part, u[here, None], y[here]), np.ones(1))
            name = f"slope of {self.y} on {self.x} at {by_name} = {end:.4g}"
            ends.append(Named(name, found, _per(self.x, log_x)))
        name = f"change of the slope of {self.y} on {self.x} with {by_name}"
        low, high = (0.0, inf) if direction_sign(self.direction) > 0 else (-inf, 0.0)
        unit = f"{_per(self.x, log_x)}, {_per(by_name, log_by)}"
        return Finding(
            effect=Named(name, change, unit),
            checks=(Check(name, change, low, high),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=change.clusters,
            others=tuple(ends),
            relation=relation,
        )


def _per(name: str, logarithmic: bool) -> str:
    return f"per tenfold {name}" if logarithmic else f"per unit of {name}"


def _numbered(table: pd.DataFrame, where: Mapping[str, Any], name: str) -> tuple[pd.DataFrame, str]:
    """Return a table and the column of it to use: one of 0 and 1 in place of a column of two texts."""
    if name not in table.columns or pd.api.types.is_numeric_dtype(table[name]):
        return table, name
    values = sorted(set(table.loc[holds(table, where), name].dropna().astype(str)))
    if len(values) != 2:
        raise NotEvaluable(
            f"{name} holds text, of which two values are compared, and there are {len(values)}"
        )
    named = f"{name} = {values[1]}"
    return table.assign(**{named: (table[name].astype(str) == values[1]).astype("float64")}), named
