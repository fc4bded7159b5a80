"""Claim kind ``crossing``: a lies on one side of b at small x and on the other at large x."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim, Range, Side, beyond, direction_sign
from sharpscope.analysis.claims.conditions import Conditions
from sharpscope.analysis.claims.estimate import Estimated, by_cluster, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression, evaluate_expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable
from sharpscope.analysis.claims.pairs import pair_up
from sharpscope.analysis.claims.selection import select
from sharpscope.analysis.resampling import Flags, Floats, Integers


class Crossing(BaseClaim):
    """At small x, y of side ``a`` is ``low`` (greater or less) than of side ``b``; at large x the reverse.

    Runs are paired where x and the columns in ``match`` are equal. ``small`` and ``large`` bound the two ends of x;
    by default they are the lowest and the highest third of the values that x takes, one value at least. Either end
    has the mean over seeds of the difference a - b there, with Student's interval, and both must lie as claimed (no
    correction for testing two is due where both must hold: Berger, *Technometrics* 24, 1982). Effect: the difference
    at the end that lies less on the claimed side; then that at the other, and the change from the small to the large.
    """

    kind: Literal["crossing"]
    x: Expression
    y: Expression
    a: Conditions
    b: Conditions
    low: Side
    match: Annotated[list[Expression], Field(min_length=1)] = Field(default_factory=lambda: ["seed"])
    small: Range | None = None
    large: Range | None = None

    def find(self, evidence: Evidence) -> Finding:
        """Return the differences at both ends; see the class."""
        table = evidence.table(self.source)
        a, b = (select(table, {**self.where, **side}, [self.y, self.x]) for side in (self.a, self.b))
        pairs = pair_up(a, b, [*dict.fromkeys([self.x, *self.match])], self.cluster)
        x = evaluate_expression(self.x, pairs.rows_a)
        values = np.unique(x)
        if len(values) < 2:
            raise NotEvaluable(f"the pairs have a single value of {self.x}, and a crossing needs two")
        third = max(len(values) // 3, 1)
        at_ends = (
            _within(x, self.small, values[0], values[third - 1]),
            _within(x, self.large, values[-third], values[-1]),
        )
        difference = pairs.difference
        ends: list[Estimated] = []
        names = [f"difference in {self.y} at {end} {self.x}" for end in ("small", "large")]
        for here, name in zip(at_ends, names, strict=True):
            if not here.any():
                raise NotEvaluable(f"no pair gives the {name}")
            ends.append(student(by_cluster(difference[here], pairs.clusters[here])))
        swing = student(_swings(difference, pairs.clusters, at_ends[0], at_ends[1]))
        if not swing.clusters:  # each end has seeds of its own
            swing = Estimated(ends[1].value - ends[0].value, min(end.clusters for end in ends))
        at_low = direction_sign(self.low)
        claimed = (beyond(0.0, at_low), beyond(0.0, -at_low))
        checks = tuple(Check(name, end, *side) for name, end, side in zip(names, ends, claimed, strict=True))
        name = f"change of the difference in {self.y} from small to large {self.x}"
        return Finding(
            effect=Named(name, swing),
            checks=checks,
            rows=pairs.relation.rows,
            selected=pd.concat([a.everything, b.everything], ignore_index=True),
            clusters=min(end.clusters for end in ends),
            others=tuple(Named(check.name, check.estimate) for check in checks),
            relation=pairs.relation,
            notes=pairs.notes,
        )


def _within(x: Floats, given: dict[str, float] | None, low: float, high: float) -> Flags:
    if given is not None:
        low, high = given.get("min", -inf), given.get("max", inf)
    slack = 1e-9 * np.abs(x)
    return np.asarray((x >= low - slack) & (x <= high + slack), dtype=np.bool_)


def _swings(difference: Floats, clusters: Integers, small: Flags, large: Flags) -> Floats:
    """Return each cluster's mean difference at large x less that at small x, NaN where it lacks an end."""
    found = []
    for cluster in np.unique(clusters):
        ends = [difference[here & (clusters == cluster)] for here in (small, large)]
        found.append(float(ends[1].mean() - ends[0].mean()) if all(map(len, ends)) else float("nan"))
    return np.array(found)
