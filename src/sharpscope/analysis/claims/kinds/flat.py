"""Claim kind ``flat``: one quantity hardly changes with another."""

from __future__ import annotations

from math import inf, log
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from sharpscope.analysis.claims.claim import BaseClaim, Positive
from sharpscope.analysis.claims.contrast import (
    centred,
    coefficient,
    design_of,
    related,
    scaled,
    without_trend,
)
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.resampling import Floats


class Flat(BaseClaim):
    """Over the range of x, y changes by less than ``margin``, or by less than ``matters`` where no margin is given.

    Effect: the change of y from the smallest to the largest x along the least-squares line (in log x where x is
    positive), one intercept per seed and stratum of ``within``, with the interval of
    `sharpscope.analysis.claims.contrast.coefficient`. The claim is an equivalence: it is supported where the whole
    interval lies within the margin (Schuirmann's two one-sided tests, *Journal of Pharmacokinetics and
    Biopharmaceutics* 15, 1987), and not where a difference merely was not found. A line does not see a hump, so
    that no value of x may lie beyond the margin from y's mean either.

    ``relative``: the margin is a share of y (0.1 for ten per cent), otherwise in y's own unit. ``side``: whether
    both directions are excluded, or only a rise (``not_rising``) or only a fall (``not_falling``).
    """

    kind: Literal["flat"]
    x: Expression
    y: Expression
    margin: Positive | None = None
    relative: bool = True
    side: Literal["both", "not_rising", "not_falling"] = "both"
    within: list[Expression] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_margin(self) -> Flat:
        if self.margin is None and self.matters is None:
            raise ValueError("a flat claim needs a margin, or matters, the smallest change of interest")
        return self

    def find(self, evidence: Evidence) -> Finding:
        """Return the change of y over the range of x; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y])
        relation = related(self, chosen, self.within)
        x, _ = scaled(relation.x, self.x)
        logarithmic = self.relative and bool((relation.y > 0).all())
        y = np.log(relation.y) if logarithmic else relation.y
        if self.relative and not logarithmic:
            size = float(np.abs(relation.y).mean())
            if size == 0:
                raise NotEvaluable(f"{self.y} is zero throughout, so that no relative change exists")
            y = y / size
        change = coefficient(design_of(relation, x[:, None], y), np.array([np.ptp(x)]))
        if not change.clusters:
            raise NotEvaluable(without_trend(self.x, self.y, self.cluster, relation))
        if logarithmic:
            change = change.through(np.expm1, np.log1p)
        name = f"{'relative ' if self.relative else ''}change of {self.y} over the range of {self.x}"
        margin = self.margin if self.margin is not None else self.matters
        assert margin is not None  # _has_margin
        departure = self._departure(relation, y)
        held_back = ""
        check = Check(name, change, *self._bounds(margin, logarithmic))
        humped = departure > (log(1 + margin) if logarithmic else margin)
        if self.side == "both" and humped:
            held_back = (
                f"End to end {self.y} changes by less than the margin, but at one value of {self.x} it lies "
                f"{departure:.3g} from its mean."
            )
        return Finding(
            effect=Named(name, change),
            checks=(check,),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=change.clusters,
            others=(Effect(f"largest departure of {self.y} from its mean", departure),),
            relation=relation,
            held_back=held_back,
        )

    def _bounds(self, margin: float, logarithmic: bool) -> tuple[float, float]:
        # A fall undoes a rise by the same factor: 1/(1 + margin) stands opposite 1 + margin.
        fall = -margin / (1 + margin) if logarithmic else -margin
        low = -inf if self.side == "not_rising" else fall
        return low, inf if self.side == "not_falling" else margin

    def _departure(self, relation: Relation, y: Floats) -> float:
        """Return how far the mean at any one x lies from the mean, blocks taken out."""
        level = labels(relation.rows, [self.x])
        left = centred(y, relation.blocks)
        means = np.bincount(level, left) / np.bincount(level)
        return float(np.abs(means).max())
