"""Claim kind ``correlation``: two quantities of the same runs go together, or against each other."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim, beyond
from sharpscope.analysis.claims.confidence import Student
from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.within_seeds import FEWEST, comparable, jackknife, within_seeds


class Correlation(BaseClaim):
    """The rank correlation of x and y over runs has the claimed ``sign``, 1 or -1.

    Effect: Kendall's τ_b among the runs of one seed, over all seeds together. Runs of one seed
    share what the seed does to all settings, which therefore cancels; where no seed was run at two settings, all
    runs are compared. The interval is that of the jackknife that leaves out one configuration with all its seeds at
    a time, with Student's distribution (`jackknife`); fewer than `FEWEST` configurations have none. Where all runs
    share one configuration, as the fifty seeds of hammoud2023, the runs are what is left out. Unlike a ``trend``
    this takes the configurations for a sample of those one could have run.
    """

    kind: Literal["correlation"]
    x: Expression
    y: Expression
    sign: Literal[-1, 1]
    cluster: str = "configuration"

    def find(self, evidence: Evidence) -> Finding:
        """Return the rank correlation; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y])
        x, y = chosen.columns
        for name, values in ((self.x, x), (self.y, y)):
            if np.ptp(values) == 0:
                raise NotEvaluable(f"{name} is the same in every run")
        seeds = labels(chosen.rows, ["seed"]) if "seed" in chosen.rows.columns else np.zeros(len(x), int)
        clusters, seeds = comparable(labels(chosen.rows, [self.cluster]), seeds)
        value, error, k = jackknife(within_seeds(x, y, clusters, seeds))
        if not np.isfinite(value):
            raise NotEvaluable(f"{self.x} or {self.y} is the same in all runs of each seed")
        found = Estimated(value, k, needed=FEWEST)
        if k >= FEWEST and np.isfinite(error):
            found = found.with_confidence(Student(value, error, k - 2)).through(
                lambda part: min(1.0, max(-1.0, part)), float
            )
        name = f"τ_b of {self.y} and {self.x}"
        alike = labels(chosen.rows, [self.cluster]).max() == 0
        return Finding(
            effect=Named(name, found),
            checks=(Check(name, found, *beyond(0.0, self.sign)),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=k,
            unit="run" if alike else "",
            relation=Relation(chosen.rows, x, y, seeds, clusters),
        )
