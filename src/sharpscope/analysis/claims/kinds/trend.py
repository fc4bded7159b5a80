"""Claim kind ``trend``: one quantity rises or falls with another."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim, Direction, beyond, direction_sign
from sharpscope.analysis.claims.confidence import Stretched
from sharpscope.analysis.claims.contrast import (
    Design,
    coefficient,
    design_of,
    related,
    scaled,
    steps,
    without_trend,
)
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.rank_correlation import Kendall
from sharpscope.analysis.resampling import Floats
from sharpscope.analysis.within_seeds import page_p_value


class Trend(BaseClaim):
    """y rises or falls with x, at equal values of the columns or expressions in ``within``.

    Effect: the change of y from the smallest to the largest x along the least-squares line (in log x where x is
    positive), one intercept per seed and stratum; as a ratio where y is positive and no accuracy, or where
    ``relative`` says so, otherwise in y's own unit. `sharpscope.analysis.claims.contrast.coefficient` gives the
    interval.

    A line does not see a hump. Where x is a single column, the claim is therefore also contradicted if y changes the
    wrong way between two neighbouring values of x: by the interval at level 1 - α/steps (Bonferroni). The effect is
    then the change of that step.

    Further effects, which describe and do not decide: the mean over seeds and strata of Kendall's τ_b, and the exact
    p-value of Page's test (`page_p_value`), which assumes nothing of the noise.
    """

    kind: Literal["trend"]
    x: Expression
    y: Expression
    direction: Direction
    within: list[Expression] = Field(default_factory=list)
    relative: bool | None = None

    def find(self, evidence: Evidence) -> Finding:
        """Return the change of y over the range of x; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y])
        relation = related(self, chosen, self.within)
        x, _ = scaled(relation.x, self.x)
        y, ratio = on_its_scale(relation.y, self.y, self.relative)
        design = design_of(relation, x[:, None], y)
        change = coefficient(design, np.array([np.ptp(x)]))
        if not change.clusters or np.ptp(relation.y) == 0:
            raise NotEvaluable(without_trend(self.x, self.y, self.cluster, relation))
        sign = direction_sign(self.direction)
        name = f"{'ratio' if ratio else 'change'} of {self.y} from the smallest to the largest {self.x}"
        effect = Named(name, change, neutral=0.0)
        never = self._contrary_steps(design, x, relation, sign, ratio) if self._single(evidence) else ()
        if ratio:
            effect = Named(name, change.through(np.exp, np.log), neutral=1.0)
        return Finding(
            effect=effect,
            checks=(Check(name, effect.estimate, *beyond(effect.neutral, sign)),),
            never=never,
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=change.clusters,
            others=self._described(relation, design.separate),
            relation=relation,
        )

    def _single(self, evidence: Evidence) -> bool:
        """Whether x is a column of its own: only then are its neighbours neighbouring settings."""
        return self.x in evidence.table(self.source).columns

    def _contrary_steps(
        self, design: Design, x: Floats, relation: Relation, sign: int, ratio: bool
    ) -> tuple[Check, ...]:
        between = steps(design, x)
        if len(between) < 2:
            return ()
        own = {value: float(relation.x[np.flatnonzero(x == value)[0]]) for value in np.unique(x)}
        found = []
        for low, high, step in between:
            if step.confidence is None:
                continue
            change = step.with_confidence(Stretched(step.confidence, len(between)))
            change = change.through(np.exp, np.log) if ratio else change
            kind, nothing = ("ratio", 1.0) if ratio else ("change", 0.0)
            name = f"{kind} of {self.y} from {self.x} = {own[low]:.4g} to {own[high]:.4g}"
            found.append(Check(name, change, *beyond(nothing, -sign)))
        return tuple(found)

    def _described(self, relation: Relation, separate: bool) -> tuple[Effect, ...]:
        taus = []
        for block in np.unique(relation.blocks):
            here = relation.blocks == block
            x, y = relation.x[here], relation.y[here]
            if np.ptp(x) > 0 and np.ptp(y) > 0:
                taus.append(float(Kendall(x, y, np.arange(len(x)))(np.ones((1, len(x))))[0]))
        found = [Effect(f"mean τ_b of {self.y} on {self.x}", float(np.mean(taus)))] if taus else []
        if separate:
            exact = page_p_value(relation.x, relation.y, relation.blocks)
            found.append(Effect("p-value of Page's test within seeds", exact))
        return tuple(found)


def on_its_scale(y: Floats, expression: str, relative: bool | None) -> tuple[Floats, bool]:
    """Return log y and True where changes of y are ratios, and y itself and False where they are differences.

    Ratios by default where y is positive, but for accuracies and for what is already written as a logarithm.
    """
    differences = expression.endswith("accuracy") or expression.lstrip().startswith(("log(", "log10("))
    ratio = not differences if relative is None else relative
    if ratio and (y > 0).all():
        return np.log(y), True
    if relative:
        raise NotEvaluable(f"a ratio needs positive values, and {expression} is not positive everywhere")
    return y, False
