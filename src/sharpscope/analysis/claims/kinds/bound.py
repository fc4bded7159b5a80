"""Claim kind ``bound``: one quantity does not exceed another."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.estimate import Estimated, by_cluster
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.verdict import NAN, Effect
from sharpscope.analysis.resampling import Floats


class Bound(BaseClaim):
    """``low_side`` <= ``high_side`` in more than the share ``share`` of runs, up to the relative ``slack``.

    Effect: the share of runs in which it holds, with the exact interval of Clopper & Pearson (*Biometrika* 26, 1934)
    for as many trials as there are configurations, each of which counts once with the share of its runs. Where it
    holds in all of n configurations the interval begins at 0.025^(1/n): 0.69 for 10, 0.81 for 17, 0.93 for 50.
    Further effects: the median of low_side / high_side, and its largest.
    """

    kind: Literal["bound"]
    low_side: Expression
    high_side: Expression
    share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    slack: Annotated[float, Field(ge=0)] = 0.0
    cluster: str = "configuration"

    def find(self, evidence: Evidence) -> Finding:
        """Return the share of runs within the bound; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.low_side, self.high_side])
        low_side, high_side = chosen.columns
        holds = low_side <= high_side + self.slack * np.abs(high_side)
        clusters = labels(chosen.rows, [self.cluster])
        alike = clusters.max() == 0
        if alike:  # the runs of a single configuration are themselves the trials
            clusters = np.arange(len(holds))
        found = _share(by_cluster(holds.astype(float), clusters), self.level)
        name = f"share of runs with {self.low_side} at most {self.high_side}"
        with np.errstate(all="ignore"):
            ratio = np.where(high_side > 0, low_side / high_side, np.nan)
        known = ratio[np.isfinite(ratio)]
        return Finding(
            effect=Effect(name, found.value, found.low, found.high),
            checks=(Check(name, found, self.share, inf),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=found.clusters,
            unit="run" if alike else "",
            others=(
                Effect(
                    f"median of {self.low_side} / {self.high_side}",
                    float(np.median(known)) if len(known) else NAN,
                ),
                Effect(
                    f"largest of {self.low_side} / {self.high_side}",
                    float(known.max()) if len(known) else NAN,
                ),
            ),
        )


def _share(shares: Floats, level: float) -> Estimated:
    """Return the mean share with the exact binomial interval for that many trials.

    >>> found = _share(np.ones(10), 0.95)
    >>> round(found.low, 3), found.high
    (0.692, 1.0)
    """
    from scipy.stats import beta

    n, hits, tail = len(shares), float(shares.sum()), (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Estimated(float(shares.mean()), low, high, n)
