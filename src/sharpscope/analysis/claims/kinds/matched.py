"""Claim kind ``matched``: a difference that remains where another quantity is equal."""

from __future__ import annotations

from math import inf
from typing import Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.claim import BaseClaim, Side, direction_sign
from sharpscope.analysis.claims.conditions import Conditions
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import key, labels, select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.resampling import Floats


class Matched(BaseClaim):
    """At equal values of ``match_on``, y of side ``a`` is greater or less than y of side ``b``.

    Each seed's runs of a side, in the order of ``match_on``, give a piecewise linear curve of y (in log ``match_on``
    where that is positive). The two curves are compared on their common support, at every value of ``match_on``
    that a run of either side has there, and the differences a - b averaged. Effect: the mean over seeds, with
    Student's interval. Second effect: the common support. A seed without common support is left out and said so.
    """

    kind: Literal["matched"]
    y: Expression
    match_on: Expression
    a: Conditions
    b: Conditions
    direction: Side

    def find(self, evidence: Evidence) -> Finding:
        """Return the mean difference on the common support; see the class."""
        table = evidence.table(self.source)
        sides = [select(table, {**self.where, **side}, [self.match_on, self.y]) for side in (self.a, self.b)]
        logarithmic = all((side.columns[0] > 0).all() for side in sides)
        seeds = [key(side.rows, self.cluster).to_numpy() for side in sides]
        differences, supports, without = [], [], []
        for seed in np.unique(np.concatenate(seeds)):
            curves = []
            for side, of_seed in zip(sides, seeds, strict=True):
                m, y = (column[of_seed == seed] for column in side.columns)
                curves.append(_curve(np.log(m) if logarithmic else m, y))
            found = _difference(*curves)
            if found is None:
                without.append(seed)
            else:
                differences.append(found[0])
                supports.append(found[1:])
        if not differences:
            spans = [f"{side.columns[0].min():.3g} to {side.columns[0].max():.3g}" for side in sides]
            raise NotEvaluable(
                f"{self.match_on} has no common support in any {self.cluster}: it spans {spans[0]} on side a and "
                f"{spans[1]} on side b"
            )
        mean = student(np.array(differences), self.level)
        support = np.mean(supports, axis=0)
        low, high = np.exp(support) if logarithmic else support
        name = f"difference in {self.y} at equal {self.match_on}"
        notes = [
            f"Compared for {self.match_on} from {low:.3g} to {high:.3g}, the mean of the seeds' common supports."
        ]
        if without:
            notes.append(
                f"{len(without)} of {len(without) + len(differences)} {self.cluster}s have no common support."
            )
        rows = pd.concat([side.rows for side in sides], ignore_index=True)
        is_a = np.repeat([1.0, 0.0], [len(side.rows) for side in sides])
        y = np.concatenate([side.columns[1] for side in sides])
        clusters = labels(rows, [self.cluster])
        claimed = (0.0, inf) if direction_sign(self.direction) > 0 else (-inf, 0.0)
        return Finding(
            effect=Effect(name, mean.value, mean.low, mean.high),
            checks=(Check(name, mean, *claimed),),
            rows=rows,
            selected=pd.concat([side.everything for side in sides], ignore_index=True),
            clusters=mean.clusters,
            others=(Effect(f"common support of {self.match_on}", float("nan"), float(low), float(high)),),
            relation=Relation(rows, is_a, y, clusters, clusters),
            notes=tuple(notes),
        )


def _curve(m: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return points in the order of m, the mean of y where m ties."""
    values, inverse = np.unique(m, return_inverse=True)
    return values, np.bincount(inverse, y) / np.maximum(np.bincount(inverse), 1)


def _difference(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> tuple[float, float, float] | None:
    """Return the mean of a - b on the common support and the support, None where there is none."""
    if not len(a[0]) or not len(b[0]):
        return None
    low, high = max(a[0][0], b[0][0]), min(a[0][-1], b[0][-1])
    if low > high:
        return None
    points = np.unique(np.concatenate([a[0], b[0]]))
    points = points[(points >= low) & (points <= high)]
    return float((np.interp(points, *a) - np.interp(points, *b)).mean()), float(low), float(high)
