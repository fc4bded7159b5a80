"""The sections of benchmarks/verdicts.py on power: how often a true claim is supported, by this rule and others."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from scipy import optimize, sparse, stats
from simulated_claims import EFFECTS, LEVEL, NOISES, ONCE, Draw, contrary, labels, rising

from sharpscope.analysis.claims.contrast import Design, coefficient
from sharpscope.analysis.claims.estimate import student
from sharpscope.analysis.claims.finding import Named
from sharpscope.analysis.claims.judgement import Judgement
from sharpscope.analysis.rank_correlation import Kendall

LADDER = (2, 3, 4, 5, 6, 7, 8, 10, 13, 20)
"""Numbers of seeds at which each kind's power is asked for: rules change at 3, 6 and 13 of them."""


def power(repetitions: int) -> dict[str, object]:
    """Chance that a trend is supported: three settings, a rise of two standard deviations end to end."""
    found: dict[str, dict[str, float]] = {"trend": {}, "seeds' own slopes": {}}
    for k in (2, 3, 4, 5, 6, 8, 10, 20):
        draw = Draw(np.random.default_rng(k))
        seed, x = labels(k, 3)
        hits = dict.fromkeys(found, 0)
        for _ in range(repetitions):
            y = draw.grid(k, 3) + np.arange(3.0)
            design = Design(x[:, None].astype(float), y.ravel(), seed, seed, x)
            change = coefficient(design, np.array([2.0]))
            checks = (rising(change),)
            if checks[0].p_supported <= 1 - LEVEL:  # only then are the steps looked at
                word = Judgement(checks, ONCE, Named("", change), tuple(contrary(design, x))).word
                hits["trend"] += word == "supported"
            hits["seeds' own slopes"] += student(y[:, 2] - y[:, 0]).interval(LEVEL)[0] > 0
        for rule, count in hits.items():
            found[rule][str(k)] = count / repetitions
    return dict(found)


def power_of_kinds(repetitions: int, kinds: Sequence[str] = tuple(EFFECTS)) -> dict[str, object]:
    """Chance of "supported" of each kind where it is true, by noise and number of seeds with effects of their own."""
    found: dict[str, object] = {}
    for kind in kinds:
        simulate, effect = EFFECTS[kind]
        rows: dict[str, dict[str, float]] = {noise: {} for noise in NOISES}
        for noise, row in rows.items():
            for k in LADDER:
                draw = Draw(np.random.default_rng([k, len(noise)]), noise, 1.0)
                words = [simulate(draw, k, effect).word for _ in range(repetitions)]
                row[str(k)] = words.count("supported") / repetitions
        found[kind] = rows
    return found


def former_power(repetitions: int) -> dict[str, object]:
    """The same of the rule before this one."""
    found = {}
    for k in (2, 3, 4, 5, 6, 8, 10, 20):
        draw = Draw(np.random.default_rng(k))
        hits = sum(former_trend(draw.grid(k, 3) + np.arange(3.0)) for _ in range(repetitions))
        found[str(k)] = hits / repetitions
    return dict(found)


def former_trend(y: np.ndarray) -> bool:
    """Whether the rule before this one supported a rise: τ_b's widest of Student, a floor and a jackknife.

    Kendall's τ_b within seeds, averaged; Student's interval over seeds, one for the number of comparisons, and the
    jackknife over settings, which more seeds do not narrow. ``y``: (seeds, settings), complete and without ties.
    """
    k, m = y.shape
    x = np.arange(float(m))

    def taus(keep: np.ndarray) -> np.ndarray:
        n = int(keep.sum())
        return np.array([Kendall(x[keep], row[keep], np.arange(n))(np.ones((1, n)))[0] for row in y])

    every = taus(np.ones(m, bool))
    mean = float(every.mean())
    quantile = [float(stats.t.ppf(0.975, n - 1)) for n in (k, m)]
    without = np.array([taus(np.arange(m) != index).mean() for index in range(m)])
    n = k * 9 * m * (m - 1) / (2 * (2 * m + 5))
    reach = max(
        quantile[0] * float(every.std(ddof=1)) / sqrt(k),
        quantile[1] * sqrt((m - 1) / m * float(((without - without.mean()) ** 2).sum())),
        1.96 * sqrt((1 - (mean * n / (n + 4)) ** 2) / n),
    )
    return mean - reach > 0


def best_power(repetitions: int) -> dict[str, object]:
    """The most that any interval around the mean can support of what `power` asks for, by its number of seeds.

    Any interval, that is, whose width depends on the two mean squares (of the seeds' own slopes, and of the rest),
    which covers 95 % where slopes do not differ and 93 % where their standard deviation is up to twice the noise's.
    Whether it reaches the threshold is a function of mean/s and of the share of the slopes in s², the pooled
    variance: on a grid of both the best one solves a linear program (it may also decide by lot, which only helps).
    The program fits its draws, of which there are therefore many.
    """
    spreads = (0.0, 0.5, 1.0, 1.5, 2.0)
    shares = np.concatenate([[0.0], 1 / (1 + np.exp(-np.linspace(-4, 7, 49))), [1.0]])
    sizes = np.concatenate([[0.0], np.geomspace(0.3, 300, 79), [np.inf]])
    shape, draws = (len(shares) - 1, len(sizes) - 1), 800 * repetitions
    rows, columns = shape
    steps = sparse.kron(sparse.eye(rows), sparse.diags([1.0, -1.0], [0, 1], shape=(columns - 1, columns)))
    found = {}
    for k in (2, 3, 5):
        draw = np.random.default_rng(k)

        def chances(slopes: float, rise: float, k: int = k, draw: np.random.Generator = draw) -> np.ndarray:
            # The change of one seed has variance 2 from the noise, 3 settings leave k - 1 of freedom to either part.
            ratio = 1 + slopes**2 / 2
            mean = draw.standard_normal(draws) * sqrt(ratio) + rise
            own, rest = ratio * draw.chisquare(k - 1, draws), draw.chisquare(k - 1, draws)
            size = mean / np.sqrt((own + rest) / (2 * (k - 1)))
            return np.stack(
                [
                    np.histogram2d((own / (own + rest))[side * size > 0], (side * size)[side * size > 0],
                                   bins=[shares, sizes])[0].ravel() / draws
                    for side in (1, -1)
                ]
            )  # fmt: skip

        misses = np.array([chances(slopes, 0.0).sum(axis=0) for slopes in spreads])
        right = chances(0.0, sqrt(2 * k))[0]
        allowed = np.array([0.05, *[0.07] * (len(spreads) - 1)])
        best = optimize.linprog(
            -right,
            A_ub=sparse.vstack([sparse.csr_matrix(misses), steps.tocsr()]),
            b_ub=np.concatenate([allowed, np.zeros(steps.shape[0])]),
            bounds=(0, 1),
            method="highs",
        )
        found[str(k)] = -float(best.fun)
    return dict(found)
