"""Claim kind ``trend``: one quantity rises or falls with another."""

from __future__ import annotations

from math import inf
from typing import Literal

from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim, Direction, direction_sign
from sharpscope.analysis.claims.estimate import Estimated, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, NotEvaluable, Relation
from sharpscope.analysis.claims.rank_trend import mean_tau
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.slope import related, scaled, slopes, without_trend
from sharpscope.analysis.claims.verdict import Effect


class Trend(BaseClaim):
    """y rises or falls with x, at equal values of the columns or expressions in ``within``.

    Effect: Kendall's τ_b of y on x, taken within each seed and stratum, averaged over strata and then over seeds,
    with the interval of `mean_tau`. Second effect: the slope, log–log where both are positive, with an intercept
    per seed and stratum and Student's interval over seeds.
    """

    kind: Literal["trend"]
    x: Expression
    y: Expression
    direction: Direction
    within: list[Expression] = Field(default_factory=list)

    def find(self, evidence: Evidence) -> Finding:
        """Return τ_b and slope; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y])
        relation = related(self, chosen, self.within)
        configurations, runs = (labels(chosen.rows, [name]) for name in ("configuration", "run_id"))
        tau = mean_tau(
            *(relation.x, relation.y, relation.blocks, relation.clusters, configurations, runs),
            self.level,
        )
        if not tau.clusters:
            raise NotEvaluable(without_trend(self.x, self.y, self.cluster, relation))
        name = f"τ_b of {self.y} on {self.x}"
        low, high = (0.0, inf) if direction_sign(self.direction) > 0 else (-inf, 0.0)
        return Finding(
            effect=Effect(name, tau.value, tau.low, tau.high),
            checks=(Check(name, tau, low, high),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=tau.clusters,
            others=(slope_effect(self, relation),),
            relation=relation,
        )


def slope_effect(claim: Trend, relation: Relation) -> Effect:
    """Return the mean over seeds of the slope of y on x."""
    x, log_x = scaled(relation.x, claim.x)
    y, log_y = scaled(relation.y, claim.y)
    if not (log_x and log_y):
        x, y = relation.x, relation.y
    found: Estimated = student(slopes(x, y, relation.blocks, relation.clusters), claim.level)
    name = "log–log slope" if log_x and log_y else "slope"
    return Effect(f"{name} of {claim.y} on {claim.x}", found.value, found.low, found.high)
