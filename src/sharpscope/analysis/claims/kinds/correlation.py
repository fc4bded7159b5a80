"""Claim kind ``correlation``: two quantities of the same runs go together, or against each other."""

from __future__ import annotations

from math import inf
from typing import Literal

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, NotEvaluable, Relation
from sharpscope.analysis.claims.ranks_within import RESAMPLES
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.rank_correlation import METHODS
from sharpscope.analysis.resampling import percentile_interval, resample_counts


class Correlation(BaseClaim):
    """The rank correlation of x and y over runs has the claimed ``sign``, 1 or -1.

    Effect: Kendall's τ_b (or Spearman's ρ) of all runs, with the expanded percentile interval of 2000 resamples of
    whole configurations (`percentile_interval`). Where all runs share one configuration, as the fifty seeds of
    hammoud2023, the runs are what is resampled. Unlike a ``trend`` this takes the configurations for a sample,
    needs no seed to be run at two settings, and says nothing about other seeds where there is one only.
    """

    kind: Literal["correlation"]
    x: Expression
    y: Expression
    sign: Literal[-1, 1]
    method: Literal["kendall", "spearman"] = "kendall"
    cluster: str = "configuration"

    def find(self, evidence: Evidence) -> Finding:
        """Return the rank correlation; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y])
        x, y = chosen.columns
        for name, values in ((self.x, x), (self.y, y)):
            if np.ptp(values) == 0:
                raise NotEvaluable(f"{name} is the same in every run")
        clusters = labels(chosen.rows, [self.cluster])
        alike = clusters.max() == 0
        if alike:
            clusters = np.arange(len(x))
        k = int(clusters.max()) + 1
        counts = np.vstack([np.ones(k), resample_counts(k, RESAMPLES)])
        found = METHODS[self.method](x, y, clusters)(counts)
        low, high = percentile_interval(found[1:], k, self.level)
        tau = Estimated(float(found[0]), low, high, k)
        name = f"{'τ_b' if self.method == 'kendall' else 'ρ'} of {self.y} and {self.x}"
        return Finding(
            effect=Effect(name, tau.value, low, high),
            checks=(Check(name, tau, *((0.0, inf) if self.sign > 0 else (-inf, 0.0))),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=k,
            unit="run" if alike else "",
            relation=Relation(chosen.rows, x, y, np.zeros(len(x), dtype=np.int64), clusters),
        )
