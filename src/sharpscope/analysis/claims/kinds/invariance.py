"""Claim kind ``invariance``: a change that must vanish is below a bound in every row."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim, Positive
from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Finding, Named
from sharpscope.analysis.claims.selection import labels, select


class Invariance(BaseClaim):
    """The size of y, a (relative) change that should be zero, is at most ``below`` in every row.

    Effect: the largest size of y. An identity holds or fails whatever the seed, so the effect has no interval, and
    one row beyond the bound contradicts the claim.
    """

    kind: Literal["invariance"]
    y: Expression
    below: Positive = 1e-4

    def find(self, evidence: Evidence) -> Finding:
        """Return the largest change; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.y])
        sizes = np.abs(chosen.columns[0])
        largest = float(sizes.max())
        beyond = int((sizes > self.below).sum())
        if beyond:
            text = f"{beyond} of {len(sizes)} rows exceed {self.below:g}; the largest is {largest:.3g}."
        else:
            text = f"None of {len(sizes)} rows exceeds {self.below:g}; the largest is {largest:.3g}."
        return Finding(
            effect=Named(f"largest size of {self.y}", Estimated(largest, len(sizes))),
            checks=(),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=int(labels(chosen.rows, [self.cluster]).max()) + 1,
            settled=("contradicted" if beyond else "supported", text),
            would_change=(
                "A bound above the largest change would, or a more exact measurement."
                if beyond
                else f"A single row beyond {self.below:g} would."
            ),
        )
