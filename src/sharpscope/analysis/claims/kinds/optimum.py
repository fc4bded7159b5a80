"""Claim kind ``optimum``: one quantity rises with another up to a point, and stops or falls beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from sharpscope.analysis.claims.claim import BaseClaim, Positive
from sharpscope.analysis.claims.confidence import BestOf, Mirrored
from sharpscope.analysis.claims.contrast import Design, pooled_noise, related
from sharpscope.analysis.claims.estimate import Estimated, with_error
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable
from sharpscope.analysis.claims.selection import labels, select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.resampling import Flags, Floats, Integers


class Optimum(BaseClaim):
    """y rises from the smallest x to a best one, and then ``falls`` or ``stops`` rising (by ``margin`` at most).

    The best x of a stratum of ``within`` is the one with the largest mean of y over seeds. The gain is y there less
    y at the smallest x, the change beyond is y at the largest x less y there; both are averaged over strata, and
    both must lie as claimed: the gain above 0, the change beyond below 0, or below ``margin`` for ``stops``.
    Effect: that of the two which lies less on the claimed side; then the other, and the best x.

    A mean that was picked as the largest is biased upwards. The end of either interval on that side is therefore that
    of the largest of as many means as could be the best (`BestOf`): those not below the best by Student's one-sided
    test at 5 %. The error is the residual of a mean per setting and an intercept per seed and stratum.

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
        values = np.unique(x)
        level = np.searchsorted(values, x)
        stratum, seeds = labels(chosen.rows, self.within), labels(chosen.rows, [self.cluster])
        found = best_level(y, level, stratum, seeds, self._candidates(values))
        if found is None:
            raise NotEvaluable(
                f"no {self.cluster} has {self.y} at the smallest, a middle and the largest {self.x}"
            )
        sign = "-" if self.extremum == "minimum" else ""
        names = (
            f"gain in {sign}{self.y} up to the best {self.x}",
            f"change of {sign}{self.y} beyond the best {self.x}",
        )
        checks = (
            Check(names[0], found.gain, 0.0, inf),
            Check(names[1], found.beyond, -inf, 0.0 if self.margin is None else self.margin),
        )
        best = values[list(found.best)]
        return Finding(
            effect=Named(names[0], found.gain),
            checks=checks,
            rows=chosen.rows,
            selected=chosen.everything,
            clusters=found.gain.clusters,
            others=(
                Named(names[1], found.beyond),
                Effect(f"best {self.x}", float(best.mean()), float(best.min()), float(best.max())),
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


@dataclass(frozen=True)
class Best:
    """The gain up to the best level, the change beyond it, and the best level of each stratum."""

    gain: Estimated
    beyond: Estimated
    best: tuple[int, ...]


def best_level(y: Floats, level: Integers, stratum: Integers, seeds: Integers, allowed: Flags) -> Best | None:
    """Return what is found of the best of the ``allowed`` levels, None where no seed has both ends and one between.

    One entry per run in all but ``allowed``, (levels,). In each stratum the seeds that ran every level are compared.
    Where fewer than two did, it is the seeds that ran both ends, at the levels that all of them ran.
    """
    kept, picks = np.zeros(len(y), dtype=bool), []
    for index in np.unique(stratum):
        here = stratum == index
        table = _levels(y[here], level[here], seeds[here], len(allowed), int(seeds.max()) + 1)
        ran = np.isfinite(table)
        whole = np.asarray(ran[ran.any(axis=1)].all(axis=0) & ran[[0, -1]].all(axis=0))
        if whole.sum() < 2:
            whole = np.asarray(ran[[0, -1]].all(axis=0))
        between = np.asarray(allowed & np.isfinite(table[:, whole]).all(axis=1))
        if not whole.any() or not between.any():
            continue
        table = table[:, whole]
        means = table.mean(axis=1)
        best = int(np.nanargmax(np.where(between, means, np.nan)))
        picks.append((means, between, best, table))
        kept |= here & whole[seeds] & (between[level] | (level == 0) | (level == len(allowed) - 1))
    if not picks:
        return None
    k = len(np.unique(seeds[kept]))
    gain = float(np.mean([means[best] - means[0] for means, _, best, _ in picks]))
    beyond = float(np.mean([means[-1] - means[best] for means, _, best, _ in picks]))
    where = tuple(best for _, _, best, _ in picks)
    own = y[kept]
    block = np.unique(np.stack([seeds, stratum])[:, kept], axis=1, return_inverse=True)[1].ravel()
    settings = level[kept] * (int(stratum.max()) + 1) + stratum[kept]
    noise = pooled_noise(Design(np.zeros((len(own), 0)), own, block, seeds[kept], settings))
    variance, freedom = noise.variance, noise.freedom
    if k < 2 or freedom < 1:
        return Best(Estimated(gain, k), Estimated(beyond, k), where)
    error = sqrt(2 * variance * sum(1 / table.shape[1] for *_, table in picks)) / len(picks)
    close = tuple(
        sorted(
            int((between & (means >= means[best] - _reach(variance, table.shape[1], freedom))).sum())
            for means, between, best, table in picks
        )
    )

    def found(change: float, end: int, sign: int) -> Estimated:
        """Return the change from the best to an end, or back, with the noise that `Noise.choose` takes."""
        both = []
        for size, left in ((error, float(freedom)), _own_error([(t[best], t[end]) for *_, best, t in picks])):
            confidence = BestOf(sign * change, size, left, close)
            both.append(with_error(change, k, confidence if sign > 0 else Mirrored(confidence)))
        return noise.choose(*both)

    return Best(found(gain, 0, 1), found(beyond, -1, -1), where)


def _own_error(pairs: list[tuple[Floats, Floats]]) -> tuple[float, float]:
    """Return the error of the mean over strata of two levels' difference, from these alone, and its freedom."""
    errors = np.array([(a - b).std(ddof=1) / sqrt(len(a)) if len(a) > 1 else 0.0 for a, b in pairs])
    left = np.array([max(len(a) - 1, 1) for a, _ in pairs])
    largest = float(errors.max())
    if largest == 0.0:
        return 0.0, float(left.sum())
    share = (errors / largest) ** 2
    freedom = float(share.sum() ** 2 / (share**2 / left).sum())
    return largest * sqrt(float(share.sum())) / len(pairs), freedom


def _reach(variance: float, count: int, freedom: int) -> float:
    """Return how far below the best a mean may lie and still be the best by a one-sided test at 5 %."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.95)) * sqrt(2 * variance / count)


def _levels(y: Floats, level: Integers, seed: Integers, levels: int, seeds: int) -> Floats:
    """Return the mean of y at each level in each seed, (levels, seeds), NaN where there is no run."""
    cell = level * seeds + seed
    counts = np.bincount(cell, minlength=levels * seeds)
    sums = np.bincount(cell, y, minlength=levels * seeds)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).reshape(levels, seeds)
