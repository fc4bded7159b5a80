"""Claim kind ``optimum``: one quantity rises with another up to a point, and stops or falls beyond it."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from sharpscope.analysis.claims.claim import BaseClaim, Positive
from sharpscope.analysis.claims.estimate import Estimated, by_cluster, student
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, NotEvaluable
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.slope import related
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.resampling import Flags, Floats, Integers


class Optimum(BaseClaim):
    """y rises from the smallest x to a best one, and then ``falls`` or ``stops`` rising (by ``margin`` at most).

    Per seed (and stratum of ``within``): the gain, y at the best x less y at the smallest, and the change beyond, y
    at the largest x less y at the best. The best x of a seed is that of the *other* seeds' mean, so that the seed's
    own noise does not choose it. Both get Student's interval over seeds and both must lie as claimed: the gain
    above 0, the change beyond below 0, or below ``margin`` for ``stops``. Effect: the gain; then the change beyond,
    and the best x of all seeds together.

    ``where_peak``: the bounds within which the best x is looked for; by default anywhere between the two ends.
    ``extremum``: ``minimum`` for a quantity that falls to its best value; gain and change are then those of -y.
    """

    kind: Literal["optimum"]
    x: Expression
    y: Expression
    then: Literal["falls", "stops"] = "falls"
    where_peak: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    margin: Positive | None = None
    extremum: Literal["maximum", "minimum"] = "maximum"
    within: list[Expression] = Field(default_factory=list)

    @model_validator(mode="after")
    def _margin_where_needed(self) -> Optimum:
        if (self.then == "stops") != (self.margin is not None):
            raise ValueError('then = "stops" needs a margin, in the unit of y, and "falls" takes none')
        if self.where_peak is not None and self.where_peak[0] > self.where_peak[1]:
            raise ValueError(f"where_peak must be [low, high], received {self.where_peak}")
        return self

    def find(self, evidence: Evidence) -> Finding:
        """Return gain and change beyond; see the class."""
        chosen = select(evidence.table(self.source), self.where, [self.x, self.y])
        x, y = chosen.columns
        y = -y if self.extremum == "minimum" else y
        level, stratum = labels(chosen.rows, [self.x]), labels(chosen.rows, self.within)
        seeds = labels(chosen.rows, [self.cluster])
        order = np.argsort([x[level == index][0] for index in range(level.max() + 1)])
        values = np.array([x[level == index][0] for index in order])
        level = np.argsort(order)[level]
        allowed = self._candidates(values)
        gains, beyond, owners, best = [], [], [], []
        for index in range(stratum.max() + 1):
            here = stratum == index
            table = _levels(y[here], level[here], seeds[here], len(values), int(seeds.max()) + 1)
            for seed, (up, after) in _cross_fitted(table, allowed).items():
                gains.append(up)
                beyond.append(after)
                owners.append(seed)
            mean = np.where(allowed, _mean(table), np.nan)
            if np.isfinite(mean).any():
                best.append(float(values[np.nanargmax(mean)]))
        if not gains:
            raise NotEvaluable(
                f"no {self.cluster} has {self.y} at the smallest, a middle and the largest {self.x}"
            )
        of_seed = np.array(owners)
        gain, past = (student(by_cluster(np.array(part), of_seed), self.level) for part in (gains, beyond))
        sign = "-" if self.extremum == "minimum" else ""
        names = (
            f"gain in {sign}{self.y} up to the best {self.x}",
            f"change of {sign}{self.y} beyond the best {self.x}",
        )
        checks = (
            Check(names[0], gain, 0.0, inf),
            Check(names[1], past, -inf, 0.0 if self.margin is None else self.margin),
        )
        return Finding(
            effect=_effect(names[0], gain),
            checks=checks,
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=gain.clusters,
            others=(
                _effect(names[1], past),
                Effect(f"best {self.x}", float(np.mean(best)), min(best), max(best)),
            ),
            relation=related(self, chosen, self.within),
        )

    def _candidates(self, values: Floats) -> Flags:
        """Return which values of x may be the best."""
        inner = np.ones(len(values), dtype=bool)
        inner[[0, -1]] = False
        if self.where_peak is not None:
            low, high = self.where_peak
            inner &= (values >= low * (1 - 1e-9)) & (values <= high * (1 + 1e-9))
            if not inner.any():
                raise NotEvaluable(
                    f"no run has {self.x} between {low:g} and {high:g}, with others on both sides"
                )
        if not inner.any():
            raise NotEvaluable(f"an optimum needs at least three values of {self.x}")
        return inner


def _levels(y: Floats, level: Integers, seed: Integers, levels: int, seeds: int) -> Floats:
    """Return the mean of y at each level in each seed, (levels, seeds), NaN where there is no run."""
    cell = level * seeds + seed
    counts = np.bincount(cell, minlength=levels * seeds)
    sums = np.bincount(cell, y, minlength=levels * seeds)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).reshape(levels, seeds)


def _cross_fitted(table: Floats, allowed: Flags) -> dict[int, tuple[float, float]]:
    """Return each seed's gain up to the best level and change beyond it, the level being the other seeds' best."""
    found = {}
    for seed in range(table.shape[1]):
        own = table[:, seed]
        others = np.delete(table, seed, axis=1)
        mean = np.where(allowed & np.isfinite(own), _mean(others if others.shape[1] else table), np.nan)
        if np.isfinite(own[[0, -1]]).all() and np.isfinite(mean).any():
            best = own[np.nanargmax(mean)]
            found[seed] = (float(best - own[0]), float(own[-1] - best))
    return found


def _mean(table: Floats) -> Floats:
    """Return the mean over seeds at each level, NaN where no seed has the level."""
    finite = np.isfinite(table)
    counts = finite.sum(axis=1)
    sums = np.where(finite, table, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _effect(name: str, found: Estimated) -> Effect:
    return Effect(name, found.value, found.low, found.high)
