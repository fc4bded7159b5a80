"""Claim kind ``variance_ratio``: one side's values vary less, or more, over seeds than the other's."""

from __future__ import annotations

from math import ceil, exp, inf, log, sqrt
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sharpscope.analysis.claims.claim import BaseClaim, Side, direction_sign
from sharpscope.analysis.claims.conditions import Conditions, holds
from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import Expression
from sharpscope.analysis.claims.finding import Check, Finding, NotEvaluable
from sharpscope.analysis.claims.selection import Selected, format_row, key, select
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.claims.what_would_change import MOST_SEEDS
from sharpscope.analysis.resampling import Floats, Integers
from sharpscope.errors import InputError
from sharpscope.seeding import numpy_generator

_DRAWS = 20_000
"""Draws of the sampling distribution: its 2.5 % quantiles then err by about 2 % of the interval's width."""


class VarianceRatio(BaseClaim):
    """The standard deviation over seeds of y on side ``a`` is ``less`` or ``greater`` than on side ``b``.

    Effect: the ratio of the standard deviations, its geometric mean over the strata of ``within``. The interval is
    that of the F distribution, exact for normal values: the logarithm of each stratum's ratio of variances is the
    true one plus that of an F variable with the strata's degrees of freedom, drawn 20 000 times (seeded). Seeds of
    different strata are taken for independent. With three seeds the 95 % interval of a single ratio spans a factor
    of 39, so that the verdict is nearly always inconclusive; four strata of three seeds still span a factor of
    6.

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
        strata = self._spreads(a, "a").merge(self._spreads(b, "b"), on="stratum", how="inner")
        strata = strata[(strata["variance a"] > 0) & (strata["variance b"] > 0)]
        if not len(strata):
            raise NotEvaluable(
                f"a spread needs two {self.cluster}s on both sides of one setting, and none has them"
            )
        variances = strata[["variance a", "variance b"]].to_numpy(dtype=np.float64)
        logs = np.log(variances[:, 0] / variances[:, 1])
        weights = np.full(len(logs), 1 / len(logs))
        name = f"ratio of the standard deviations of {self.y}"
        if self.most_at:
            there = strata["most"].to_numpy(dtype=bool)
            if there.all() or not there.any():
                raise NotEvaluable("most_at needs settings on either side of it, and all of them lie on one")
            weights = np.where(there, 1 / there.sum(), -1 / (~there).sum())
            name = f"{name}, there over elsewhere"
        freedom = strata[["freedom a", "freedom b"]].to_numpy(dtype=np.int64)
        found = _ratio(logs, freedom, weights, int(freedom.min()) + 1, self.level)
        check = Check(name, found, *((1.0, inf) if direction_sign(self.direction) > 0 else (-inf, 1.0)))
        return Finding(
            effect=Effect(name, found.value, found.low, found.high),
            checks=(check,),
            rows=pd.concat([a.rows, b.rows], ignore_index=True),
            selected=pd.concat([a.everything, b.everything], ignore_index=True),
            clusters=found.clusters,
            others=tuple(
                Effect(
                    f"mean standard deviation of {self.y} on side {side}",
                    _root_mean(strata[f"variance {side}"]),
                )
                for side in "ab"
            ),
            notes=(
                (
                    "A ratio of standard deviations from so few values is nearly always inconclusive: at one setting "
                    "with three on either side it must exceed 6 or fall below 1/6."
                ),
            )
            if freedom.min() < 5
            else (),
            would_change=_what_would_change(check, len(logs), self.level),
        )

    def _spreads(self, side: Selected, name: str) -> pd.DataFrame:
        """Return per stratum its variance over seeds, its degrees of freedom, and whether it is in ``most_at``."""
        keys = pd.DataFrame({column: key(side.rows, column) for column in [*self.within, self.cluster]})
        twice = keys.duplicated()
        if twice.any():
            raise NotEvaluable(
                f"several runs of side {name} share {format_row(keys[twice].iloc[0])}: add what tells them apart to "
                f"within, or to the conditions of side {name}"
            )
        try:
            most = holds(side.rows, self.most_at)
        except InputError as error:
            raise NotEvaluable(f"{error} among the runs") from error
        table = pd.DataFrame(
            {
                "stratum": [tuple(row) for row in keys[self.within].to_numpy()],
                "y": side.columns[0],
                "most": most,
            }
        )
        grouped = table.groupby("stratum", sort=False)
        found = grouped.agg(
            **{f"variance {name}": ("y", "var"), f"freedom {name}": ("y", "count"), "most": ("most", "all")}
        )
        found[f"freedom {name}"] -= 1
        return found.reset_index() if name == "a" else found.drop(columns="most").reset_index()


def _ratio(logs: Floats, freedom: Integers, weights: Floats, clusters: int, level: float) -> Estimated:
    """Return exp of half the weighted sum of log variance ratios, with its interval."""
    from scipy.stats import f

    tails = [(1 + level) / 2, (1 - level) / 2]
    if len(logs) == 1:
        noise = np.log(f.ppf(tails, *freedom[0]))
    else:
        draw = numpy_generator("ratios of variances", freedom.tolist(), _DRAWS)
        draws = np.log(draw.f(freedom[:, 0], freedom[:, 1], size=(_DRAWS, len(logs))))
        noise = np.quantile(draws @ weights, tails)
    value = float(logs @ weights)
    low, high = (value - float(part) for part in noise)
    return Estimated(value, low, high, clusters).through(
        lambda part: exp(part / 2), lambda part: 2 * log(part)
    )


def _root_mean(variances: pd.Series[float]) -> float:
    return sqrt(float(variances.mean()))


def _what_would_change(check: Check, strata: int, level: float) -> str:
    """Return how many seeds would settle an open ratio, by the normal approximation; "" where it is settled."""
    from scipy.stats import norm

    if check.outcome() != "inconclusive":
        return ""
    size = abs(log(check.estimate.value))
    needed = 1 + ceil((float(norm.ppf((1 + level) / 2)) / size) ** 2 / strata) if size > 0 else MOST_SEEDS + 1
    if needed > MOST_SEEDS:
        return "The spreads are too nearly equal for any feasible number of seeds to tell them apart."
    return f"A ratio of this size would need about {needed} seeds on either side of each setting to stand out from 1."
