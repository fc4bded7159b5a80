"""Claim kind ``interaction``: the slope of one quantity on another grows or shrinks with a third."""

from __future__ import annotations

from math import inf
from typing import Literal

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim, Direction, direction_sign
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.slope import centred, scaled, slopes
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.resampling import Floats, Integers


class Interaction(BaseClaim):
    """The slope of y on x, with its sign, rises or falls as ``by`` grows.

    Per seed, least squares of y on u and u·v with an intercept per value of ``by``, where u is x and v is ``by``,
    base-10 logarithms where they are positive. Effect: the mean over seeds of the coefficient of u·v, the change of
    the slope per tenfold (or per unit) of ``by``, with Student's interval. Further effects: the slope at the smallest
    and at the largest ``by``.
    """

    kind: Literal["interaction"]
    x: Expression
    y: Expression
    by: Expression
    direction: Direction

    def find(self, evidence: Evidence) -> Finding:
        """Return the change of the slope; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y, self.by])
        x, y, by = chosen.columns
        u, log_x = scaled(x, self.x)
        v, log_by = scaled(by, self.by)
        seeds, strata = labels(chosen.rows, [self.cluster]), labels(chosen.rows, [self.cluster, self.by])
        change = student(_product_coefficients(u, v, y, strata, seeds), self.level)
        if not change.clusters:
            raise NotEvaluable(
                f"no {self.cluster} was run at two values of {self.x} for each of two values of {self.by}"
            )
        ends = []
        for end in (by.min(), by.max()):
            here = np.isclose(by, end, rtol=1e-9)
            found = student(slopes(u[here], y[here], strata[here], seeds[here]), self.level)
            name = f"slope of {self.y} on {self.x} at {self.by} = {end:.4g}"
            ends.append(Effect(name, found.value, found.low, found.high, _per(self.x, log_x)))
        name = f"change of the slope of {self.y} on {self.x} with {self.by}"
        low, high = (0.0, inf) if direction_sign(self.direction) > 0 else (-inf, 0.0)
        unit = f"{_per(self.x, log_x)}, {_per(self.by, log_by)}"
        return Finding(
            effect=Effect(name, change.value, change.low, change.high, unit),
            checks=(Check(name, change, low, high),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=change.clusters,
            others=tuple(ends),
            relation=Relation(chosen.rows, x, y, strata, seeds),
        )


def _product_coefficients(u: Floats, v: Floats, y: Floats, strata: Integers, seeds: Integers) -> Floats:
    """Return each seed's coefficient of u·v, NaN where its runs do not determine one."""
    columns = np.stack([centred(values, strata) for values in (u, u * v)], axis=1)  # (n, 2)
    y = centred(y, strata)
    found = []
    for seed in np.unique(seeds):
        design = columns[seeds == seed]
        scale = np.sqrt((design**2).sum(axis=0))
        if (scale < 1e-12).any() or np.linalg.matrix_rank(design / scale, tol=1e-6) < 2:
            found.append(float("nan"))
            continue
        solution = np.linalg.lstsq(design / scale, y[seeds == seed], rcond=None)[0]
        found.append(float(solution[1] / scale[1]))
    return np.array(found)


def _per(name: str, logarithmic: bool) -> str:
    return f"per tenfold {name}" if logarithmic else f"per unit of {name}"
