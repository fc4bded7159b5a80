"""Claim kind ``paired``: one side is greater, less or in a range of the other, run against matched run."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt, model_validator

from sharpscope.analysis.claims.claim import BaseClaim, Range, Side, beyond, direction_sign
from sharpscope.analysis.claims.conditions import Conditions
from sharpscope.analysis.claims.estimate import by_cluster, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable
from sharpscope.analysis.claims.pairs import Pairs, pair_up
from sharpscope.analysis.claims.selection import Selected, format_row, select
from sharpscope.analysis.claims.verdict import Effect, Word
from sharpscope.analysis.resampling import Floats

Epoch = PositiveInt | Annotated[float, Field(gt=0, le=1)]
"""An epoch by its number (50), or by its share of the run's own epochs (0.5 is half-way, 1.0 the last)."""


class Paired(BaseClaim):
    """y of side ``a`` against y of side ``b``, runs paired where the columns in ``match`` are equal.

    Exactly one of: ``direction`` (a is ``greater`` or ``less`` than b), ``difference`` (a - b lies between ``min``
    and ``max``), ``ratio`` (a / b does). ``every``: each single pair must lie on the claimed side too, and a pair
    that does not contradicts the claim. ``a_epoch`` and ``b_epoch`` take y from the history at that epoch.

    Effect: the mean over seeds of the pairs' mean difference (or the geometric mean of their ratios), with Student's
    interval over seeds.
    """

    kind: Literal["paired"]
    y: Expression
    a: Conditions
    b: Conditions
    match: Annotated[list[Expression], Field(min_length=1)] = Field(default_factory=lambda: ["seed"])
    direction: Side | None = None
    difference: Range | None = None
    ratio: Range | None = None
    every: bool = False
    a_epoch: Epoch | None = None
    b_epoch: Epoch | None = None

    @model_validator(mode="after")
    def _one_claim(self) -> Paired:
        if [self.direction, self.difference, self.ratio].count(None) != 2:
            raise ValueError("a paired claim needs one of direction, difference and ratio, and one only")
        if self.cluster not in self.match:
            raise ValueError(f"match must hold the cluster {self.cluster!r}, so that pairs lie within one")
        return self

    def find(self, evidence: Evidence) -> Finding:
        """Return the mean difference or ratio; see the class."""
        a = self._side(evidence, self.a, self.a_epoch)
        b = self._side(evidence, self.b, self.b_epoch)
        pairs = pair_up(a, b, self.match, self.cluster)
        low, high = self._claimed()
        if self.ratio is None:
            values, name = pairs.difference, f"difference in {self.y}"
            found = student(by_cluster(values, pairs.clusters))
        else:
            if not ((pairs.a > 0) & (pairs.b > 0)).all():
                raise NotEvaluable(f"a ratio needs positive values, and {self.y} is not positive everywhere")
            values, name = pairs.a / pairs.b, f"ratio in {self.y}"
            found = student(by_cluster(np.log(values), pairs.clusters)).through(np.exp, np.log)
        inside = (values > low) & (values < high)
        check = Check(name, found, low, high)
        return Finding(
            effect=Named(name, found, neutral=0.0 if self.ratio is None else 1.0),
            checks=(check,),
            rows=pairs.relation.rows,
            selected=pd.concat([a.everything, b.everything], ignore_index=True),
            clusters=found.clusters,
            others=(Effect("share of pairs as claimed", float(inside.mean())),),
            relation=pairs.relation,
            settled=self._settled(check, pairs, values, inside) if self.every else None,
            notes=pairs.notes,
        )

    def _claimed(self) -> tuple[float, float]:
        if self.direction is not None:
            return beyond(0.0, direction_sign(self.direction))
        given = self.difference if self.difference is not None else self.ratio
        assert given is not None  # _one_claim
        return given.get("min", -inf), given.get("max", inf)

    def _side(self, evidence: Evidence, side: dict[str, Any], epoch: float | None) -> Selected:
        conditions = {**self.where, **side}
        if epoch is None:
            return select(evidence.table(self.source), conditions, [self.y])
        history = evidence.table("history")
        if len(history):
            last = history.groupby("run_id")["epoch"].transform("max")
            wanted = epoch if isinstance(epoch, int) else (last * epoch).round().clip(lower=1)
            history = history[history["epoch"] == wanted]
            if not len(history):
                raise NotEvaluable(f"no run has an epoch {epoch}")
        return select(history, conditions, [self.y])

    def _settled(self, check: Check, pairs: Pairs, values: Floats, inside: Any) -> tuple[Word, str] | None:
        """Return what a pair on the other side settles, None where every pair lies as claimed."""
        against = np.flatnonzero(~inside)
        if not len(against):
            return None
        first = int(against[0])
        return (
            "contradicted",
            f"{len(against)} of {len(values)} pairs {'lies' if len(against) == 1 else 'lie'} on the other side, "
            f"where the claim is of every one: {values[first]:.3g} at {format_row(pairs.keys.iloc[first])}.",
        )
