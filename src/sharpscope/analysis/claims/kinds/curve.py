"""Claim kind ``curve``: one quantity follows a given curve."""

from __future__ import annotations

from math import inf
from typing import Literal

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim, Positive
from sharpscope.analysis.claims.estimate import by_cluster, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.verdict import Effect


class Curve(BaseClaim):
    """y equals ``curve``, an expression such as ``2/lr``, up to a factor 1 + ``tolerance``, over all of x.

    Effect: the factor by which y is off, exp of the mean |log(y / curve)|, averaged over each seed's runs and then
    over seeds, with Student's interval. Deviations upwards at one x and downwards at another do not cancel.
    Second effect: the geometric mean of y / curve, in which they do cancel. Third effect: the ratio at the value of
    x where it is furthest from 1.
    """

    kind: Literal["curve"]
    x: Expression
    y: Expression
    curve: Expression
    tolerance: Positive

    def find(self, evidence: Evidence) -> Finding:
        """Return the factor by which y is off the curve; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y, self.curve])
        x, y, curve = chosen.columns
        ratio = y / np.where(curve == 0, np.nan, curve)
        if not (ratio > 0).all():
            raise NotEvaluable(
                f"{self.y} and {self.curve} must have the same sign everywhere, and they do not"
            )
        logs, clusters = np.log(ratio), labels(chosen.rows, [self.cluster])
        off = student(by_cluster(np.abs(logs), clusters), self.level).through(np.exp, np.log)
        mean = student(by_cluster(logs, clusters), self.level).through(np.exp, np.log)
        level = labels(chosen.rows, [self.x])
        means = np.bincount(level, logs) / np.bincount(level)
        worst = int(np.abs(means).argmax())
        name = f"factor by which {self.y} is off {self.curve}"
        return Finding(
            effect=Effect(name, off.value, off.low, off.high),
            checks=(Check(name, off, -inf, 1 + self.tolerance),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=off.clusters,
            others=(
                Effect(f"geometric mean of {self.y} / ({self.curve})", mean.value, mean.low, mean.high),
                Effect(
                    f"that ratio where it is furthest off, at {self.x} = {x[level == worst][0]:.4g}",
                    float(np.exp(means[worst])),
                ),
            ),
            relation=Relation(chosen.rows, x, y, clusters, clusters),
        )
