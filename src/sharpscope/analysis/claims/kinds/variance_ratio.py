"""Claim kind ``variance_ratio``: one side's values vary less, or more, over seeds than the other's."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import exp, log
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim, Side, beyond, direction_sign
from sharpscope.analysis.claims.conditions import Conditions, holds
from sharpscope.analysis.claims.confidence import Inverted
from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, Named, NotEvaluable
from sharpscope.analysis.claims.selection import Selected, format_row, key, select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.resampling import Floats
from sharpscope.errors import InputError
from sharpscope.seeding import numpy_generator

FEWEST_SEEDS = 6
"""Fewer seeds have no interval. With k seeds there are 2^(k-1) ways to swap the sides: with five or fewer no p-value
falls below 5 %."""

MOST_SWAPS = 2048
"""Ways to swap the sides that are tried; up to twelve seeds that is all of them."""


class VarianceRatio(BaseClaim):
    """The standard deviation over seeds of y on side ``a`` is ``less`` or ``greater`` than on side ``b``.

    Effect: the ratio of the standard deviations, its geometric mean over the strata of ``within``. Runs of one seed
    belong together, in both sides and all strata. If the true ratio is θ, a/θ and b can be swapped in any seed
    without a change of their joint distribution, once the median of their differences is taken out. The p-value of θ
    is the share of swaps with a ratio at least as far out as the one found, and the interval holds what is not
    rejected (after Pitman, *A note on normal
    correlation*, Biometrika 31, 1939, whose test of the same question assumes normal values; this one keeps its
    level for heavy tails). Fewer than `FEWEST_SEEDS` seeds have no interval, and a stratum of fewer is left out where
    others have enough.

    ``most_at``: the claim is instead that it is so in these rows more than in the others; the effect is then the
    ratio there over the ratio elsewhere.
    """

    kind: Literal["variance_ratio"]
    y: Expression
    a: Conditions
    b: Conditions
    direction: Side
    within: list[Expression] = Field(default_factory=list)
    most_at: Conditions = Field(default_factory=dict)

    def find(self, evidence: Evidence) -> Finding:
        """Return the ratio of the standard deviations; see the class."""
        table = evidence.table(self.source)
        a, b = (select(table, {**self.where, **side}, [self.y]) for side in (self.a, self.b))
        every = self._strata(a, b)
        enough = [one for one in every if np.isfinite(one[0]).all(axis=0).sum() >= FEWEST_SEEDS]
        strata = enough or every
        name = f"ratio of the standard deviations of {self.y}"
        weights = np.full(len(strata), 1 / len(strata))
        if self.most_at:
            there = np.array([most for _, most in strata])
            if there.all() or not there.any():
                raise NotEvaluable("most_at needs settings on either side of it, and all of them lie on one")
            weights = np.where(there, 1 / there.sum(), -1 / (~there).sum())
            name = f"{name}, there over elsewhere"
        values = np.stack([pairs for pairs, _ in strata])  # (strata, 2, seeds)
        found = deviation_ratio(values, weights)
        claimed = beyond(1.0, direction_sign(self.direction))
        deviations = np.sqrt(np.nanmean(np.nanvar(values, axis=2, ddof=1), axis=0))
        return Finding(
            effect=Named(name, found, neutral=1.0),
            checks=(Check(name, found, *claimed),),
            rows=pd.concat([a.rows, b.rows], ignore_index=True),
            selected=pd.concat([a.everything, b.everything], ignore_index=True),
            clusters=found.clusters,
            others=tuple(
                Effect(f"mean standard deviation of {self.y} on side {side}", float(deviation))
                for side, deviation in zip("ab", deviations, strict=True)
            ),
            notes=(
                (
                    f"{len(every) - len(strata)} of {len(every)} settings have fewer than {FEWEST_SEEDS} "
                    f"{self.cluster}s on both sides and are left out.",
                )
                if len(strata) < len(every)
                else ()
            ),
            would_change=(
                f"At least {FEWEST_SEEDS} {self.cluster}s on both sides would: fewer give the ratio no interval."
                if found.confidence is None
                else ""
            ),
        )

    def _strata(self, a: Selected, b: Selected) -> list[tuple[Floats, bool]]:
        """Return per stratum both sides' values, (2, seeds), and whether it is in most_at.

        A seed that a stratum lacks has NaN there.
        """
        wide = []
        for side, name in ((a, "a"), (b, "b")):
            keys = pd.DataFrame({column: key(side.rows, column) for column in [*self.within, self.cluster]})
            twice = keys.duplicated()
            if twice.any():
                raise NotEvaluable(
                    f"several runs of side {name} share {format_row(keys[twice].iloc[0])}: add what tells them "
                    f"apart to within, or to the conditions of side {name}"
                )
            try:
                most = holds(side.rows, self.most_at)
            except InputError as error:
                raise NotEvaluable(f"{error} among the runs") from error
            wide.append(
                pd.DataFrame(
                    {
                        "stratum": [tuple(row) for row in keys[self.within].to_numpy()],
                        "seed": keys[self.cluster],
                        f"y of {name}": side.columns[0],
                        f"most of {name}": most,
                    }
                )
            )
        both = wide[0].merge(wide[1], on=["stratum", "seed"], how="inner")
        seeds = np.unique(both["seed"])
        found = []
        for _, part in both.groupby("stratum", sort=False):
            values = part.set_index("seed")[["y of a", "y of b"]].reindex(seeds).to_numpy(dtype=float).T
            spread = np.nanstd(values, axis=1)
            if np.isfinite(values).all(axis=0).sum() >= 2 and (spread > 0).all():
                found.append((values, bool(part["most of a"].all())))
        if not found:
            raise NotEvaluable(
                f"a spread needs two {self.cluster}s that ran both sides of one setting with different outcomes, "
                "and none has them"
            )
        return found


def deviation_ratio(values: Floats, weights: Floats) -> Estimated:
    """Return exp of the weighted sum over strata of log(sd a / sd b), with its interval by swapping sides.

    ``values``: (strata, 2, seeds), NaN where a seed has no value; ``weights``: (strata,). The difference of the
    sides' locations is estimated by the median of the seeds' differences: an outlier would move the mean, and under
    heavy tails 93.8 % would be covered. The p-values are multiplied by k/(k - 1) for k seeds, since it is estimated.
    """
    known = np.asarray(np.isfinite(values).all(axis=1))  # (strata, seeds)
    count = known.sum(axis=1)
    a, b = (np.where(known, values[:, side], 0.0) for side in (0, 1))
    a, b = (
        np.where(known, part - (part.sum(axis=1) / count)[:, None], 0.0) for part in (a, b)
    )  # (strata, seeds), centred
    squares = [(a * a).sum(axis=1), (b * b).sum(axis=1)]
    observed = float(weights @ np.log(squares[0] / squares[1])) / 2
    k = int(count.min())
    once = Estimated(observed, k, needed=FEWEST_SEEDS)
    if k >= FEWEST_SEEDS:
        swaps, listed = _swaps(values.shape[2])

        @cache  # both ends are asked for several times
        def confidence(theta: float) -> float:
            # θ scales each stratum by the sign of its weight, so that the weighted sum is θ where θ is the truth.
            own = a / np.exp(theta * np.sign(weights) / np.abs(weights).sum())[:, None]
            found = float(weights @ np.log((own * own).sum(axis=1) / squares[1])) / 2
            apart = np.nanmedian(np.where(known, own - b, np.nan), axis=1)
            own = np.where(known, own - apart[:, None], 0.0)
            ratios = _log_ratios(own, b, known, swaps) @ weights  # (swaps,)
            # Swapping all seeds turns the sign, so that the ways listed stand for their opposites too. The order as
            # it is counts as a way of its own, and a sample of the ways does not hold it.
            as_far = int((np.abs(ratios) >= abs(found) - 1e-12).sum())
            share = as_far / len(ratios) if listed else (as_far + 1) / (len(ratios) + 1)
            half = min(share * k / (k - 1), 1.0) / 2
            return half if found >= 0 else 1 - half

        once = once.with_confidence(Inverted(confidence, observed - 12.0, observed + 12.0))
    return once.through(exp, log)


def _log_ratios(a: Floats, b: Floats, known: np.ndarray, swaps: Floats) -> Floats:
    """Return log(sd/sd) of each stratum after each swap, (swaps, strata)."""
    count = known.sum(axis=1)
    change, squares = b - a, b * b - a * a
    logs = []
    for sign in (1, -1):
        start, total = (a, (a * a).sum(axis=1)) if sign > 0 else (b, (b * b).sum(axis=1))
        moved = total + sign * (swaps @ squares.T)  # (swaps, strata)
        mean = (start.sum(axis=1) + sign * (swaps @ change.T)) / count
        logs.append(np.log(np.maximum(moved - count * mean**2, 1e-300)))
    return np.asarray((logs[0] - logs[1]) / 2, dtype=np.float64)


def _swaps(seeds: int) -> tuple[Floats, bool]:
    """Return which seeds' sides are swapped, (swaps, seeds), and whether that is every way, but for swapping all.

    Where the ways are many it is a seeded sample of them.
    """
    if 2 ** (seeds - 1) <= MOST_SWAPS:
        return np.array(
            [(0, *rest) for rest in product((0.0, 1.0), repeat=seeds - 1)], dtype=np.float64
        ), True
    draw = numpy_generator("swaps of two sides", seeds)
    return draw.integers(0, 2, (MOST_SWAPS, seeds)).astype(np.float64), False
