"""Claim kind ``curve``: one quantity follows a given curve."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sharpscope.analysis.claims.claim import BaseClaim, Positive
from sharpscope.analysis.claims.confidence import Student
from sharpscope.analysis.claims.contrast import SEEDS_DIFFER, Design, differ, pooled_noise
from sharpscope.analysis.claims.estimate import Estimated, by_cluster, student, with_error
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable, Relation
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.resampling import Floats, Integers


class Curve(BaseClaim):
    """y equals ``curve``, an expression such as ``2/lr``, up to a factor 1 + ``tolerance``, at every value of x.

    One check for each value of x: the geometric mean over seeds of y / curve there, with the interval of
    `means_at_settings`, lies between 1/(1 + tolerance) and 1 + tolerance. All must hold, which needs no correction
    (Berger, *Technometrics* 24, 1982); any that lies outside contradicts, corrected for their number. Effect: the
    mean at the value of x that lies least within the tolerance. Second effect: the geometric mean over x and seeds,
    with Student's interval over seeds.
    """

    kind: Literal["curve"]
    x: Expression
    y: Expression
    curve: Expression
    tolerance: Positive

    def find(self, evidence: Evidence) -> Finding:
        """Return the factor by which y is off the curve; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y, self.curve])
        x, y, curve = chosen.columns
        ratio = y / np.where(curve == 0, np.nan, curve)
        if not (ratio > 0).all():
            raise NotEvaluable(
                f"{self.y} and {self.curve} must have the same sign everywhere, and they do not"
            )
        logs, clusters = np.log(ratio), labels(chosen.rows, [self.cluster])
        level = labels(chosen.rows, [self.x])
        values = np.array([x[level == index][0] for index in range(int(level.max()) + 1)])
        range_ = (1 / (1 + self.tolerance), 1 + self.tolerance)
        each = [found.through(np.exp, np.log) for found in means_at_settings(logs, level, clusters)]
        checks = tuple(
            Check(f"mean of {self.y} / ({self.curve}) at {self.x} = {value:.4g}", found, *range_)
            for value, found in sorted(zip(values, each, strict=True), key=lambda pair: float(pair[0]))
        )
        mean = student(by_cluster(logs, clusters)).through(np.exp, np.log)
        return Finding(
            effect=Named(f"geometric mean of {self.y} / ({self.curve})", mean, neutral=1.0),
            checks=checks,
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=mean.clusters,
            relation=Relation(chosen.rows, x, y, clusters, clusters),
        )


def means_at_settings(values: Floats, settings: Integers, seeds: Integers) -> list[Estimated]:
    """Return the mean over seeds at each setting, the variance between seeds pooled over settings.

    Where the settings' noises are unequal, each has its own (`Noise.choose`).

    What a seed does alike at all settings is not averaged out by more settings. Where that is found at the level
    `SEEDS_DIFFER`, the pooled variance is the sum of a part per seed and a part per seed and setting, and its degrees
    of freedom are those of Satterthwaite
    (*An approximate distribution of estimates of variance components*, Biometrics Bulletin 2, 1946). One value for
    each seed and setting is taken; several are averaged.
    """
    cells = np.unique(np.stack([settings, seeds]), axis=1, return_inverse=True)
    (setting, seed), cell = cells[0], cells[1].ravel()
    y = np.bincount(cell, values) / np.bincount(cell)
    counts = np.bincount(setting)
    means = np.bincount(setting, y) / counts
    total = float(((y - means[setting]) ** 2).sum())
    freedom = len(y) - len(counts)
    if freedom < 1:
        return [student(y[setting == index]) for index in range(len(counts))]
    variance = total / freedom
    size = 1e-12 * float(np.abs(y).max())
    variance = 0.0 if np.sqrt(variance) <= size else variance
    noise = pooled_noise(Design(np.zeros((len(y), 0)), y, seed, seed, setting))
    left = noise.freedom
    effective = float(freedom)
    if 0 < left < freedom and variance > 0:
        shared = max(total - noise.variance * left, 0.0)
        if differ(shared / (freedom - left), freedom - left, noise.variance, left, SEEDS_DIFFER):
            effective = total**2 / (shared**2 / (freedom - left) + (noise.variance * left) ** 2 / left)
    found = []
    for index, mean in enumerate(means):
        own = y[setting == index]
        error = float(np.sqrt(variance / counts[index]))
        pooled = with_error(float(mean), len(own), Student(float(mean), error, effective), own)
        found.append(noise.choose(pooled, student(own)))
    return found
