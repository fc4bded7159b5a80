"""Claim kind ``ratio_law``: a quantity depends on learning rate and batch size through their ratio alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim, Positive
from sharpscope.analysis.claims.contrast import coefficient, design_of
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select


class RatioLaw(BaseClaim):
    """log y = a log ``numerator`` + b log ``denominator`` + a constant per seed, with a + b within ± ``margin`` of
    zero.

    If minima at one lr / batch_size are alike whatever the two are, the two exponents cancel (Jastrzębski et al.,
    *Three factors influencing minima in SGD*, 2018, section 2). Effect: the sum of the exponents, by least squares
    with an intercept per seed and stratum of ``within``; `sharpscope.analysis.claims.contrast.coefficient` gives
    the interval. The claim is an equivalence, supported where the whole interval lies within the margin. Further
    effects: both exponents. A law that holds because y depends on neither is noted.
    """

    kind: Literal["ratio_law"]
    y: Expression
    numerator: Expression = "lr"
    denominator: Expression = "batch_size"
    margin: Positive
    within: list[Expression] = Field(default_factory=list)

    def find(self, evidence: Evidence) -> Finding:
        """Return the sum of the exponents; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.numerator, self.denominator, self.y])
        for name, values in zip((self.numerator, self.denominator, self.y), chosen.columns, strict=True):
            if not (values > 0).all():
                raise NotEvaluable(
                    f"a power law needs positive values, and {name} is not positive everywhere"
                )
        columns = np.log(np.stack(chosen.columns[:2], axis=1))  # (n, 2)
        y = np.log(chosen.columns[2])
        clusters = labels(chosen.rows, [self.cluster])
        blocks = labels(chosen.rows, [self.cluster, *self.within])
        relation = Relation(
            chosen.rows, chosen.columns[0] / chosen.columns[1], chosen.columns[2], blocks, clusters
        )
        design = design_of(relation, columns, y)
        total, *exponents = (coefficient(design, np.array(w)) for w in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)))
        if not total.clusters:
            raise NotEvaluable(
                f"no {self.cluster} was run at values of {self.numerator} and {self.denominator} that vary "
                "apart from one another"
            )
        name = f"sum of the exponents of {self.numerator} and {self.denominator} in {self.y}"
        names = [f"exponent of {part}" for part in (self.numerator, self.denominator)]
        idle = all(abs(exponent.value) < self.margin for exponent in exponents)
        return Finding(
            effect=Named(name, total),
            checks=(Check(name, total, -self.margin, self.margin),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=total.clusters,
            others=tuple(Named(name, found) for name, found in zip(names, exponents, strict=True)),
            relation=relation,
            notes=(
                (f"Both exponents are below {self.margin:g}: {self.y} hardly depends on either quantity.",)
                if idle
                else ()
            ),
        )
