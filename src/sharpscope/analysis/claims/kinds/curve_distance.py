"""Claim kind ``curve_distance``: one rule's learning curves lie closer to the baseline's than another's."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.conditions import Conditions
from sharpscope.analysis.claims.estimate import by_cluster, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable
from sharpscope.analysis.claims.pairs import pair_up
from sharpscope.analysis.claims.selection import Selected, select


class CurveDistance(BaseClaim):
    """The learning curves y of side ``a`` lie closer to those of ``baseline`` than side ``b``'s do.

    The distance of two runs is the root mean square, over the epochs that both have, of the difference in one column
    of the history; the mean of it over the columns in ``y``. Each run is compared with the baseline's run of equal
    ``match``. Effect: the ratio of a's distance to b's, its geometric mean over seeds with Student's interval; the
    claim is that it is below 1. Further effects: both distances.
    """

    kind: Literal["curve_distance"]
    y: Annotated[list[Expression], Field(min_length=1)]
    baseline: Conditions
    a: Conditions
    b: Conditions
    match: Annotated[list[Expression], Field(min_length=1)] = Field(default_factory=lambda: ["seed"])

    def find(self, evidence: Evidence) -> Finding:
        """Return the ratio of the distances; see the class."""
        history = evidence.table("history")
        base, a, b = (
            select(history, {**self.where, **side}, self.y, "epoch of a run")
            for side in (self.baseline, self.a, self.b)
        )
        distances = [self._distances(side, base, name) for side, name in ((a, "side a"), (b, "side b"))]
        pairs = pair_up(distances[0], distances[1], self.match, self.cluster)
        if not ((pairs.a > 0) & (pairs.b > 0)).all():
            raise NotEvaluable("a side has the baseline's own curve, so that no ratio of distances exists")
        ratio = student(by_cluster(np.log(pairs.a / pairs.b), pairs.clusters)).through(np.exp, np.log)
        name = "ratio of the distances to the baseline's learning curves"
        others = []
        for side, of_side in (("a", pairs.a), ("b", pairs.b)):
            mean = student(by_cluster(of_side, pairs.clusters))
            others.append(Named(f"distance of {side} from the baseline", mean))
        return Finding(
            effect=Named(name, ratio, neutral=1.0),
            checks=(Check(name, ratio, -inf, 1.0),),
            rows=pairs.relation.rows,
            selected=pd.concat([a.everything, b.everything, base.everything], ignore_index=True),
            clusters=ratio.clusters,
            others=tuple(others),
            notes=pairs.notes,
        )

    def _distances(self, side: Selected, base: Selected, name: str) -> Selected:
        """Return one row per run, its last epoch, with its distance from the baseline as the one column."""
        both = pair_up(side, base, [*dict.fromkeys([*self.match, "epoch"])], self.cluster, (name, "baseline"))
        index_a, index_b = both.index_a, both.index_b
        squares = np.stack(
            [
                (own[index_a] - other[index_b]) ** 2
                for own, other in zip(side.columns, base.columns, strict=True)
            ]
        )
        runs = both.rows_a.groupby("run_id", sort=False)
        run = runs.ngroup().to_numpy()
        sums = np.stack([np.bincount(run, of_column) for of_column in squares])
        distances = np.sqrt(sums / np.bincount(run)).mean(axis=0)
        return Selected(runs.tail(1).reset_index(drop=True), side.everything, (distances,))
