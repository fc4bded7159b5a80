"""Claim kind ``interaction``: what one quantity changes another by grows or shrinks with a third."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.claim import BaseClaim, Direction, beyond, direction_sign
from sharpscope.analysis.claims.conditions import holds
from sharpscope.analysis.claims.contrast import coefficient, design_of, scaled
from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.kinds.trend import on_its_scale
from sharpscope.analysis.claims.selection import labels, select


class Interaction(BaseClaim):
    """The change of y over the range of x, with its sign, rises or falls as ``by`` grows.

    Least squares of y on u and u·v with an intercept per seed and value of ``by``, where u is x and v is ``by``,
    logarithms where they are positive. Effect: the change of y along the line from the smallest to the largest x at
    the largest ``by``, less that at the smallest; as a ratio of ratios where y is positive and no accuracy, or where
    ``relative`` says so, as in a `Trend`. That is the coefficient of u·v times both ranges, with the interval of
    `sharpscope.analysis.claims.contrast.coefficient`. Further effects: the change at the smallest and at the largest
    ``by``, each from its own runs. Of a column of text with two values, such as two optimizers, the first in the
    alphabet is the smallest and the other the largest.
    """

    kind: Literal["interaction"]
    x: Expression
    y: Expression
    by: Expression
    direction: Direction
    relative: bool | None = None

    def find(self, evidence: Evidence) -> Finding:
        """Return how much the change of y grows; see the class."""
        table, by_name, ends = numbered(evidence.table(self.source), self.where, self.by)
        chosen = select(table, self.where, [self.x, self.y, by_name])
        x, y, by = chosen.columns
        u, v = scaled(x, self.x)[0], scaled(by, by_name)[0]
        seeds, strata = labels(chosen.rows, [self.cluster]), labels(chosen.rows, [self.cluster, by_name])
        relation = Relation(chosen.rows, x, y, strata, seeds)
        response, ratio = on_its_scale(y, self.y, self.relative)
        both = coefficient(
            design_of(relation, np.stack([u, u * v], axis=1), response),
            np.array([0.0, np.ptp(u) * np.ptp(v)]),
        )
        if not both.clusters:
            raise NotEvaluable(
                f"no {self.cluster} was run at two values of {self.x} for each of two values of {self.by}"
            )
        change = f"{'ratio' if ratio else 'change'} of {self.y} from the smallest to the largest {self.x}"
        smallest, largest = ends or (f"the smallest {self.by}", f"the largest {self.by}")
        of_ends = []
        for end, value in ((smallest, by.min()), (largest, by.max())):
            here = np.isclose(by, value, rtol=1e-9)
            part = Relation(chosen.rows[here], x[here], y[here], strata[here], seeds[here])
            found = coefficient(design_of(part, u[here, None], response[here]), np.array([np.ptp(u)]))
            of_ends.append(_named(f"{change}, at {end}", found, ratio))
        name = f"{change}, at {largest} {'over' if ratio else 'minus'} at {smallest}"
        effect = _named(name, both, ratio)
        return Finding(
            effect=effect,
            checks=(Check(name, effect.estimate, *beyond(effect.neutral, direction_sign(self.direction))),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=both.clusters,
            others=tuple(of_ends),
            relation=relation,
        )


def _named(name: str, change: Estimated, ratio: bool) -> Named:
    return (
        Named(name, change.through(np.exp, np.log), neutral=1.0)
        if ratio
        else Named(name, change, neutral=0.0)
    )


def numbered(
    table: pd.DataFrame, where: Mapping[str, Any], name: str
) -> tuple[pd.DataFrame, str, tuple[str, str] | None]:
    """Return a table, the column of it to use, and its ends' names where it stands for one of two texts."""
    if name not in table.columns or pd.api.types.is_numeric_dtype(table[name]):
        return table, name, None
    values = sorted(set(table.loc[holds(table, where), name].dropna().astype(str)))
    if len(values) != 2:
        raise NotEvaluable(
            f"{name} holds text, of which two values are compared, and there are {len(values)}"
        )
    low, high = (f"{name} = {value}" for value in values)
    return table.assign(**{high: (table[name].astype(str) == values[1]).astype("float64")}), high, (low, high)
