"""Claim kind ``bound``: one quantity does not exceed another."""

from __future__ import annotations

from math import exp, inf, log, log1p, sqrt
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.confidence import Student
from sharpscope.analysis.claims.contrast import SEEDS_DIFFER, differ
from sharpscope.analysis.claims.estimate import Estimated, by_cluster, student, with_error
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.resampling import Floats, Integers

FEWEST_SEEDS = 3
"""Configurations that share fewer seeds have no interval: two seeds leave one degree of freedom to what a seed does
to all of them, and the interval then covers 87 to 93 % instead of 95 (``benchmarks/verdicts.py``)."""

MOST_COUNTED = 3
"""The mean square of the fewer, seeds or configurations, enters the degrees of freedom (ratio - 1)/2 times, where the
other leaves ``ratio`` degrees for each of its own: once at least, and so many times at most. It rests on few values,
and where it comes out small by chance the error is too small and the freedom too large together. Counted once,
sixteen configurations and three seeds cover 93.1 %, three configurations and twenty seeds 93.0; so counted both cover
95 (``benchmarks/verdicts.py`` has the former)."""


class Bound(BaseClaim):
    """``low_side`` <= ``high_side``, up to the relative ``slack``, in the geometric mean over models.

    Effect: the geometric mean of low_side / high_side over configurations, each of which counts once. The interval
    takes both the configurations and the seeds that they share for samples (`two_way_mean`). The claim is that it
    lies below 1 + slack. Further effects: the share of runs within the bound, and the largest ratio.
    """

    kind: Literal["bound"]
    low_side: Expression
    high_side: Expression
    slack: Annotated[float, Field(ge=0)] = 0.0
    cluster: str = "configuration"

    def find(self, evidence: Evidence) -> Finding:
        """Return the geometric mean of reached / bound; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.low_side, self.high_side])
        low_side, high_side = chosen.columns
        if not ((low_side > 0) & (high_side > 0)).all():
            raise NotEvaluable(
                f"a geometric mean needs positive values, and {self.low_side} or {self.high_side} is not positive "
                "everywhere"
            )
        ratio = low_side / high_side
        clusters = labels(chosen.rows, [self.cluster])
        seeds = labels(chosen.rows, ["seed"]) if "seed" in chosen.rows.columns else np.arange(len(ratio))
        alike = clusters.max() == 0
        if alike:  # the runs of a single configuration are themselves the sample
            clusters = np.arange(len(ratio))
        found = two_way_mean(np.log(ratio), clusters, seeds).through(exp, log)
        left_out = _not_shared(chosen.rows, clusters) if not alike and found.confidence is not None else []
        name = f"geometric mean of {self.low_side} / {self.high_side}"
        return Finding(
            effect=Named(name, found, neutral=1.0),
            checks=(Check(name, found, -inf, exp(log1p(self.slack))),),
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=found.clusters,
            unit="run" if alike else "",
            notes=(
                (f"Left out of the mean, since not every configuration has it: seed {', '.join(left_out)}.",)
                if left_out
                else ()
            ),
            others=(
                Effect(
                    f"share of runs with {self.low_side} at most {self.high_side}",
                    float((ratio <= 1 + self.slack).mean()),
                ),
                Effect(f"largest of {self.low_side} / {self.high_side}", float(ratio.max())),
            ),
            would_change=(
                f"At least {FEWEST_SEEDS} seeds would: models that share fewer give their mean no interval."
                if found.confidence is None
                else ""
            ),
        )


def two_way_mean(values: Floats, clusters: Integers, seeds: Integers) -> Estimated:
    """Return the mean over clusters, both the clusters and the seeds that they share being samples.

    With C clusters and S seeds crossed, the variance of the mean is (MS_C + MS_S - MS_CS) / (C S), with
    Satterthwaite's degrees of freedom (Searle, Casella & McCulloch, *Variance Components*, 1992, section 4.5), in
    which the mean square of the fewer counts more (`MOST_COUNTED`). Where the seeds do not differ at the level
    `SEEDS_DIFFER` they add nothing. Clusters that share no seed are a plain sample. Crossed clusters are compared at
    the seeds that all of them have.
    """
    names, cluster = np.unique(clusters, return_inverse=True)
    present, seed = np.unique(seeds, return_inverse=True)
    own = by_cluster(values, clusters)
    counts = np.zeros((len(names), len(present)))
    np.add.at(counts, (cluster, seed), 1.0)
    if not ((counts > 0).sum(axis=0) > 1).any():
        return student(own)
    whole = (counts > 0).all(axis=0)
    c, s = len(names), int(whole.sum())
    if s < FEWEST_SEEDS or c < 2:
        return Estimated(float(own.mean()), c, needed=c + 1)
    sums = np.zeros_like(counts)
    np.add.at(sums, (cluster, seed), values)
    table = sums[:, whole] / counts[:, whole]  # (c, s)
    mean = float(table.mean())
    of_clusters, of_seeds = table.mean(axis=1), table.mean(axis=0)
    degrees = (c - 1, s - 1, (c - 1) * (s - 1))
    squares = (
        s * float(of_clusters.var(ddof=1)),
        c * float(of_seeds.var(ddof=1)),
        float(((table - of_clusters[:, None] - of_seeds + mean) ** 2).sum()) / degrees[2],
    )
    total, freedom = squares[0], float(c - 1)
    if differ(squares[1], degrees[1], squares[2], degrees[2], SEEDS_DIFFER):
        total = squares[0] + squares[1] - squares[2]
        ratio = degrees[1] / degrees[0]
        times = [min(max((one - 1) / 2, 1.0), MOST_COUNTED) for one in (ratio, 1 / ratio)]
        parts = np.array(squares) * [*times, 1]
        freedom = float((parts[0] + parts[1] - parts[2]) ** 2 / (parts**2 / degrees).sum())
    if sqrt(max(total, 0.0) / (c * s)) <= 1e-12 * float(np.abs(values).max()):
        total = 0.0
    return with_error(mean, c, Student(mean, sqrt(total / (c * s)), max(freedom, 1.0)))


def _not_shared(rows: pd.DataFrame, clusters: Integers) -> list[str]:
    """Return the seeds that not all clusters have, where they share any, as text."""
    if "seed" not in rows.columns:
        return []
    of_seed = pd.Series(clusters).groupby(rows["seed"].to_numpy()).nunique()
    return (
        [f"{seed:g}" for seed in of_seed.index[of_seed < len(np.unique(clusters))]]
        if (of_seed > 1).any()
        else []
    )
