"""Claim kind ``matched``: a difference that remains where another quantity is equal."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Literal

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.claim import BaseClaim, Side, beyond, direction_sign
from sharpscope.analysis.claims.conditions import Conditions
from sharpscope.analysis.claims.confidence import Student
from sharpscope.analysis.claims.estimate import Estimated, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.verdict import NAN, Effect
from sharpscope.analysis.resampling import Floats, Integers

_POINTS = 41
"""Equally spaced points of the common support at which the two curves are compared."""


class Matched(BaseClaim):
    """At equal values of ``match_on``, y of side ``a`` is greater or less than y of side ``b``.

    Either side gives one point per setting, the means over seeds of ``match_on`` (its logarithm where it is
    positive) and of y, and these points a piecewise linear curve. Effect: the mean of a's curve less b's over their
    common support. The interval is Student's of the jackknife's pseudo-values, which leave out one seed at a time
    (Tukey 1958; Miller, *The jackknife: a review*, Biometrika 61, 1974). ``match_on`` is measured with noise, and a
    curve through noisy points is flattened and bent: averaging over seeds makes that bias smaller by their number,
    and the jackknife takes out what is left of it to first order. Second effect: the common support.
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
        rows = pd.concat([side.rows for side in sides], ignore_index=True)
        is_a = np.repeat([True, False], [len(side.rows) for side in sides])
        m = np.concatenate([side.columns[0] for side in sides])
        m = np.log(m) if logarithmic else m
        y = np.concatenate([side.columns[1] for side in sides])
        seeds, settings = labels(rows, [self.cluster]), labels(rows, ["configuration"])
        found, (low, high) = matched_difference(m, y, is_a, settings, seeds)
        if not found.clusters:
            spans = [f"{side.columns[0].min():.3g} to {side.columns[0].max():.3g}" for side in sides]
            raise NotEvaluable(
                f"{self.match_on} has no common support: it spans {spans[0]} on side a and {spans[1]} on side b"
            )
        low, high = (float(np.exp(end)) if logarithmic else end for end in (low, high))
        name = f"difference in {self.y} at equal {self.match_on}"
        claimed = beyond(0.0, direction_sign(self.direction))
        return Finding(
            effect=Named(name, found),
            checks=(Check(name, found, *claimed),),
            rows=rows,
            selected=pd.concat([side.everything for side in sides], ignore_index=True),
            clusters=found.clusters,
            others=(Effect(f"common support of {self.match_on}", NAN, low, high),),
            relation=Relation(rows, is_a.astype(float), y, seeds, seeds),
            notes=(f"Compared for {self.match_on} from {low:.3g} to {high:.3g}, the common support.",),
        )


def matched_difference(
    m: Floats, y: Floats, is_a: np.ndarray, settings: Integers, seeds: Integers
) -> tuple[Estimated, tuple[float, float]]:
    """Return the mean difference of the two sides' curves and the support they share; no clusters where none.

    All arguments have one entry per run. The jackknife's error is enlarged by sqrt(k/(k - 1)) for k seeds: curves
    with corners and a support with ends are not smooth, and without it intervals cover 94 %
    (``benchmarks/verdicts.py``).
    """
    curves = [_curve(m[side], y[side], settings[side]) for side in (is_a, ~is_a)]
    low, high = max(curve[0][0] for curve in curves), min(curve[0][-1] for curve in curves)
    if low > high:
        return Estimated(NAN, 0), (NAN, NAN)
    points = np.linspace(low, high, _POINTS)
    whole = _difference(points, curves)
    names = np.unique(seeds)
    k = len(names)
    if k < 2:
        return Estimated(whole, k), (low, high)
    left_out = []
    for seed in names:
        kept = seeds != seed
        if not (kept & is_a).any() or not (kept & ~is_a).any():
            return Estimated(whole, k, needed=k + 1), (low, high)
        part = [_curve(m[side & kept], y[side & kept], settings[side & kept]) for side in (is_a, ~is_a)]
        left_out.append(_difference(points, part))
    found = student(k * whole - (k - 1) * np.array(left_out))
    if isinstance(found.confidence, Student):
        wider = replace(found.confidence, error=found.confidence.error * sqrt(k / (k - 1)))
        found = found.with_confidence(wider)
    return found, (low, high)


def _curve(m: Floats, y: Floats, settings: Integers) -> tuple[Floats, Floats]:
    """Return the settings' means in the order of m, the mean of y where m ties."""
    _, setting = np.unique(settings, return_inverse=True)
    count = np.bincount(setting)
    m, y = np.bincount(setting, m) / count, np.bincount(setting, y) / count
    values, inverse = np.unique(m, return_inverse=True)
    return values, np.bincount(inverse, y) / np.bincount(inverse)


def _difference(points: Floats, curves: list[tuple[Floats, Floats]]) -> float:
    a, b = (np.interp(points, *curve) for curve in curves)
    return float((a - b).mean())
