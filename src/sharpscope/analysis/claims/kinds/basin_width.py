"""Claim kind ``basin_width``: one end of interpolated pairs sits in a wider basin than the other."""

from __future__ import annotations

from math import inf
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import model_validator

from sharpscope.analysis.claims.claim import BaseClaim, Range, beyond, direction_sign
from sharpscope.analysis.claims.conditions import Conditions, holds
from sharpscope.analysis.claims.estimate import by_cluster, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import described, labels
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.errors import InputError

_NEEDED = ("pair", "run_a", "run_b", "width_a", "width_b")


class BasinWidths(BaseClaim):
    """The basin at ends ``a`` is wider or narrower than at ends ``b``, or their ``ratio`` a / b is in a range.

    ``a`` and ``b`` are conditions on the runs at the two ends of an interpolated pair, whichever end came first.
    Effect: the geometric mean of width at a / width at b, over a seed's pairs and then over seeds, with Student's
    interval. A pair's two widths are measured along one line and with one rise, so that their ratio has no scale.
    """

    kind: Literal["basin_width"]
    a: Conditions
    b: Conditions
    direction: Literal["wider", "narrower"] | None = None
    ratio: Range | None = None

    @model_validator(mode="after")
    def _one_claim(self) -> BasinWidths:
        if (self.direction is None) == (self.ratio is None):
            raise ValueError("a basin_width claim needs one of direction and ratio, and one only")
        return self

    def find(self, evidence: Evidence) -> Finding:
        """Return the ratio of the widths; see the class."""
        pairs = self._pairs(evidence)
        widths = pairs[["width of a", "width of b"]].to_numpy(dtype=np.float64)
        usable = (np.isfinite(widths) & (widths > 0)).all(axis=1)
        if not usable.any():
            raise NotEvaluable("no such pair has a basin width at both ends")
        pairs, widths = pairs[usable].reset_index(drop=True), widths[usable]
        ends = [_rows(evidence.results, pairs[f"run of {side}"]) for side in "ab"]
        rows = pd.concat(ends, ignore_index=True)
        clusters = labels(rows, [self.cluster])
        n = len(pairs)
        logs = np.log(widths[:, 0] / widths[:, 1])
        found = student(by_cluster(logs, clusters[:n])).through(np.exp, np.log)
        low, high = self._claimed()
        name = "width of the basin at a / at b"
        censored = int((~pairs[["complete a", "complete b"]].astype(bool)).any(axis=1).sum())
        notes = (
            (
                f"In {censored} of {n} pairs a basin reaches beyond the points sampled: its width is a lower bound.",
            )
            if censored
            else ()
        )
        return Finding(
            effect=Named(name, found, neutral=1.0),
            checks=(Check(name, found, low, high),),
            rows=rows,
            selected=rows,
            clusters=found.clusters,
            others=tuple(
                Effect(f"median width at {side}", float(np.median(widths[:, i])))
                for i, side in enumerate("ab")
            ),
            relation=Relation(
                rows, np.repeat([1.0, 0.0], n), widths.T.ravel(), np.tile(np.arange(n), 2), clusters
            ),
            notes=notes,
        )

    def _claimed(self) -> tuple[float, float]:
        if self.ratio is not None:
            return self.ratio.get("min", -inf), self.ratio.get("max", inf)
        return beyond(1.0, direction_sign(str(self.direction)))

    def _pairs(self, evidence: Evidence) -> pd.DataFrame:
        """Return one row per pair that joins the two sides, its ends named after the sides."""
        lines = evidence.landscapes
        if not len(lines):
            raise NotEvaluable("there is no interpolation yet")
        missing = [name for name in _NEEDED if name not in lines.columns]
        if missing:
            raise NotEvaluable(f"the interpolations have no {', '.join(missing)}")
        pairs = lines.drop_duplicates("pair").sort_values("pair").reset_index(drop=True)
        for end in "ab":
            if f"complete_{end}" not in pairs.columns:
                pairs[f"complete_{end}"] = True
        try:
            meets = {
                side: set(evidence.results["run_id"][holds(evidence.results, {**self.where, **conditions})])
                for side, conditions in (("a", self.a), ("b", self.b))
            }
        except InputError as error:
            raise NotEvaluable(f"{error} among the runs") from error
        sides = []
        for first, second in ("ab", "ba"):
            here = pairs[f"run_{first}"].isin(meets["a"]) & pairs[f"run_{second}"].isin(meets["b"])
            names = {
                old: new
                for side, end in (("a", first), ("b", second))
                for old, new in (
                    (f"run_{end}", f"run of {side}"),
                    (f"width_{end}", f"width of {side}"),
                    (f"complete_{end}", f"complete {side}"),
                )
            }
            sides.append(pairs[here][["pair", *names]].rename(columns=names))
        found = pd.concat(sides, ignore_index=True).drop_duplicates("pair").reset_index(drop=True)
        if not len(found):
            raise NotEvaluable(f"no pair joins {described(self.a)} and {described(self.b)}")
        return found


def _rows(results: pd.DataFrame, run_ids: pd.Series[str]) -> pd.DataFrame:
    return results.set_index("run_id", drop=False).loc[list(run_ids)].reset_index(drop=True)
