"""Do verdicts keep what they promise? Coverage, wrong decisions, power, looks and the control, by simulation.

    python benchmarks/verdicts.py [--repetitions 4000] [--only coverage,power] [--write]

Every kind of claim is simulated on data of which the truth is known, with the code that judges real tables.
``--write`` stores the figures in benchmarks/verdicts.json and renews the tables of docs/claims.md, which are made
of them. On one busy core all of it takes about an hour.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from pathlib import Path

import numpy as np
from scipy import stats

from sharpscope.analysis.claims.confidence import Anytime, Stretched, Student
from sharpscope.analysis.claims.contrast import Design, coefficient, steps
from sharpscope.analysis.claims.estimate import Estimated, student
from sharpscope.analysis.claims.finding import Check, Named, Relation
from sharpscope.analysis.claims.judgement import Judgement
from sharpscope.analysis.claims.kinds.bound import two_way_mean
from sharpscope.analysis.claims.kinds.curve import means_at_settings
from sharpscope.analysis.claims.kinds.matched import matched_difference
from sharpscope.analysis.claims.kinds.optimum import best_level
from sharpscope.analysis.claims.kinds.variance_ratio import deviation_ratio
from sharpscope.analysis.claims.looks import Looks, Rule, look_level
from sharpscope.analysis.claims.ranks_within import partial_within, spline_p_value
from sharpscope.analysis.rank_correlation import Kendall
from sharpscope.analysis.within_seeds import FEWEST, comparable, jackknife, within_seeds

HERE = Path(__file__).parent
SEEDS = (2, 3, 5, 10)
NOISES = ("normal", "t3")
LOOKS = (3, 5, 8, 12)
LEVEL = 0.95
ONCE = Rule(LEVEL)


@dataclass(frozen=True)
class Draw:
    """Noise of unit variance, normal or of Student's t with three degrees of freedom."""

    generator: np.random.Generator
    noise: str = "normal"
    shared: float = 0.0

    def __call__(self, *shape: int) -> np.ndarray:
        if self.noise == "normal":
            return self.generator.standard_normal(shape)
        return self.generator.standard_t(3, shape) / sqrt(3)

    def grid(self, seeds: int, settings: int) -> np.ndarray:
        """Noise of every seed and setting, and what the seed does to all settings alike, (seeds, settings)."""
        return self(seeds, settings) + self.shared * self(seeds, 1)


@dataclass(frozen=True)
class Outcome:
    """One simulated table: estimates with their true values, and whether a true null was decided, either way."""

    estimates: tuple[tuple[Estimated, float], ...]
    decided: bool


def labels(seeds: int, settings: int) -> tuple[np.ndarray, np.ndarray]:
    """Seed and setting of each row of a grid written out row by row."""
    return np.repeat(np.arange(seeds), settings), np.tile(np.arange(settings), seeds)


def decided(*checks: Check, never: Sequence[Check] = (), rule: Rule = ONCE) -> bool:
    """Whether the checks of one claim decide it."""
    effect = Named("effect", checks[0].estimate)
    return Judgement(checks, rule, effect, tuple(never)).word in ("supported", "contradicted")


def rising(estimate: Estimated, threshold: float = 0.0) -> Check:
    """The claim that a number exceeds a threshold, which is the truth wherever it is asked here."""
    return Check("effect", estimate, threshold, inf)


# One function per kind: a table in which what is claimed lies exactly at the edge of being true.


def trend(draw: Draw, seeds: int) -> Outcome:
    seed, x = labels(seeds, 4)
    design = Design(x[:, None].astype(float), draw.grid(seeds, 4).ravel(), seed, seed, x)
    found = coefficient(design, np.array([3.0]))
    return Outcome(((found, 0.0),), decided(rising(found), never=contrary(design, x)))


def contrary(design: Design, x: np.ndarray) -> list[Check]:
    changes = [step for *_, step in steps(design, x.astype(float)) if step.confidence is not None]
    return [
        Check("step", step.with_confidence(Stretched(step.confidence, len(changes))), -inf, 0.0)
        for step in changes
    ]


def flat(draw: Draw, seeds: int) -> Outcome:
    seed, x = labels(seeds, 4)
    y = draw.grid(seeds, 4).ravel() + 1.0 * x / 3
    found = coefficient(Design(x[:, None].astype(float), y, seed, seed, x), np.array([3.0]))
    return Outcome(((found, 1.0),), decided(Check("change", found, -1.0, 1.0)))


def interaction(draw: Draw, seeds: int) -> Outcome:
    seed, cell = labels(seeds, 9)
    u, v = (cell % 3).astype(float), (cell // 3).astype(float)
    design = Design(
        np.stack([u, u * v], axis=1), draw.grid(seeds, 9).ravel(), seed * 3 + cell // 3, seed, cell
    )
    found = coefficient(design, np.array([0.0, 1.0]))
    return Outcome(((found, 0.0),), decided(rising(found)))


def ratio_law(draw: Draw, seeds: int) -> Outcome:
    seed, cell = labels(seeds, 9)
    columns = np.stack([cell % 3, cell // 3], axis=1).astype(float)
    y = draw.grid(seeds, 9).ravel() + columns @ np.array([-1.0, 1.1])
    found = coefficient(Design(columns, y, seed, seed, cell), np.ones(2))
    return Outcome(((found, 0.1),), decided(Check("sum", found, -0.1, 0.1)))


def paired(draw: Draw, seeds: int) -> Outcome:
    y = draw.grid(seeds, 2)
    found = student(y[:, 0] - y[:, 1])
    return Outcome(((found, 0.0),), decided(rising(found)))


def crossing(draw: Draw, seeds: int) -> Outcome:
    difference = draw.grid(seeds, 4) - draw.grid(seeds, 4)
    small, large = student(difference[:, 0]), student(difference[:, 3])
    swing = student(difference[:, 3] - difference[:, 0])
    return Outcome(((swing, 0.0), (small, 0.0)), decided(rising(small), Check("large", large, -inf, 0.0)))


def curve(draw: Draw, seeds: int) -> Outcome:
    seed, x = labels(seeds, 4)
    edge = log(1.3) / 0.1  # noise of a tenth on the logarithm, every mean at the end of what is tolerated
    y = 0.1 * (draw.grid(seeds, 4).ravel() + edge)
    each = means_at_settings(y, x, seed)
    checks = [Check("mean", found, -log(1.3), log(1.3)) for found in each]
    whole = student(y.reshape(seeds, 4).mean(axis=1))
    return Outcome(((whole, log(1.3)), (each[0], log(1.3))), decided(*checks))


def matched(draw: Draw, seeds: int) -> Outcome:
    """Six settings a side; the matched quantity is noisy, unequally on the two sides, and y is curved in it."""
    seed, cell = labels(seeds, 12)
    is_a = cell < 6
    true = np.linspace(0, 3, 6)[cell % 6] + 0.35 * ~is_a
    of_seed = draw.shared * draw(seeds)[seed]
    y = 0.6 * true + 0.4 * (true - 1.5) ** 2 + 0.3 * draw(len(seed)) + of_seed
    m = true + np.where(is_a, 0.3, 0.1) * draw(len(seed))
    found, _ = matched_difference(m, y, is_a, cell, seed)
    return Outcome(((found, 0.0),), decided(rising(found)) if found.clusters else False)


def optimum(draw: Draw, seeds: int, means: Sequence[float] = (0, 0, 0, 0, 0)) -> Outcome:
    """By default a plateau: there nothing is gained anywhere, and noise alone picks the best setting."""
    seed, x = labels(seeds, len(means))
    y = draw.grid(seeds, len(means)).ravel() + np.asarray(means, float)[x]
    allowed = np.array([False, *[True] * (len(means) - 2), False])
    found = best_level(y, x, np.zeros_like(x), seed, allowed)
    assert found is not None
    best = means[found.best[0]]
    checks = (Check("gain", found.gain, 0.0, inf), Check("beyond", found.beyond, -inf, 0.0))
    true = ((found.gain, best - means[0]), (found.beyond, means[-1] - best))
    return Outcome(true, decided(*checks))


def optimum_at_a_peak(draw: Draw, seeds: int) -> Outcome:
    return Outcome(optimum(draw, seeds, (0, 1, 3, 1, 0)).estimates, False)


def curve_distance(draw: Draw, seeds: int) -> Outcome:
    """Curves of 20 epochs; both sides' distances from the baseline have one distribution."""
    of_seed = draw.shared * draw(seeds, 1)
    baseline, a, b = (draw(seeds, 20) + draw(seeds, 1) + of_seed for _ in range(3))
    distances = [np.sqrt(((side - baseline) ** 2).mean(axis=1)) for side in (a, b)]
    found = student(np.log(distances[0] / distances[1]))
    return Outcome(((found, 0.0),), decided(Check("ratio", found, -inf, 0.0)))


def basin_width(draw: Draw, seeds: int) -> Outcome:
    y = draw.grid(seeds, 2)
    found = student(y[:, 0] - y[:, 1])
    return Outcome(((found, 0.0),), decided(rising(found)))


def variance_ratio(draw: Draw, seeds: int) -> Outcome:
    """Three strata; a seed moves both sides of all strata by as much as the noise."""
    values = draw(3, 2, seeds) + draw.shared * draw(1, 1, seeds)
    found = deviation_ratio(values, np.full(3, 1 / 3))
    return Outcome(((found, 1.0),), decided(rising(found, 1.0)))


def correlation(draw: Draw, seeds: int) -> Outcome:
    """Twelve configurations whose two quantities have nothing to do with one another."""
    y = [(0.7 * draw(12, 1) + 0.5 * draw(12, seeds) + draw.shared * draw(1, seeds)).ravel() for _ in "xy"]
    clusters, seed = comparable(np.repeat(np.arange(12), seeds), np.tile(np.arange(seeds), 12))
    value, error, k = jackknife(within_seeds("kendall", *y, clusters, seed))
    found = _tau(value, error, k)
    return Outcome(((found, 0.0),), decided(rising(found)))


def _tau(value: float, error: float, k: int) -> Estimated:
    return Estimated(value, k, Student(value, error, k - 1) if k >= FEWEST else None, FEWEST)


def bound(draw: Draw, seeds: int) -> Outcome:
    """Eight configurations that differ by as much as their seeds."""
    y = draw(8, 1) + draw(8, seeds) + draw.shared * draw(1, seeds)
    cluster, seed = np.repeat(np.arange(8), seeds), np.tile(np.arange(seeds), 8)
    found = two_way_mean(y.ravel(), cluster, seed)
    return Outcome(((found, 0.0),), decided(Check("mean", found, -inf, 0.0)))


KINDS: dict[str, Callable[[Draw, int], Outcome]] = {
    "trend": trend,
    "flat": flat,
    "interaction": interaction,
    "ratio_law": ratio_law,
    "paired": paired,
    "crossing": crossing,
    "curve": curve,
    "matched": matched,
    "optimum": optimum,
    "optimum, clear peak": optimum_at_a_peak,
    "curve_distance": curve_distance,
    "basin_width": basin_width,
    "variance_ratio": variance_ratio,
    "correlation": correlation,
    "bound": bound,
}
"""Kind (and situation) → one simulated table. ``invariance`` has no interval: an identity holds or fails."""


def coverage(repetitions: int, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, object]:
    """Per kind and number of seeds: coverage of nominal 95 %, smallest and largest, and wrong decisions, largest."""
    found: dict[str, object] = {}
    for kind in kinds:
        found[kind] = {str(k): of_kind(KINDS[kind], k, repetitions) for k in SEEDS}
    return found


def of_kind(
    simulate: Callable[[Draw, int], Outcome], seeds: int, repetitions: int
) -> dict[str, float] | None:
    """Smallest and largest coverage over noises, shared seed effects and effects, largest share of wrong
    decisions."""
    covered, wrong = [], []
    for index, (noise, shared) in enumerate((noise, shared) for noise in NOISES for shared in (0.0, 1.0)):
        draw = Draw(np.random.default_rng([seeds, index]), noise, shared)
        outcomes = [simulate(draw, seeds) for _ in range(repetitions)]
        if any(estimate.confidence is None for estimate, _ in outcomes[0].estimates):
            return None
        for number in range(len(outcomes[0].estimates)):
            inside = []
            for outcome in outcomes:
                estimate, true = outcome.estimates[number]
                low, high = estimate.interval(LEVEL)
                inside.append(low <= true <= high)
            covered.append(float(np.mean(inside)))
        wrong.append(float(np.mean([outcome.decided for outcome in outcomes])))
    return {"low": min(covered), "high": max(covered), "wrong": max(wrong)}


def first_seeds(repetitions: int) -> dict[str, object]:
    """Coverage at the fewest seeds that have an interval, for the kinds that need more than two."""
    pairs = (("variance_ratio", 8), ("bound", 3))
    return {kind: {str(k): of_kind(KINDS[kind], k, repetitions)} for kind, k in pairs}


def random_slopes(repetitions: int) -> dict[str, object]:
    """Coverage of a trend whose slope differs between seeds, by the slopes' sd in units of the noise."""
    found: dict[str, object] = {}
    for spread in (0.5, 1.0, 2.0):
        for k in (3, 5, 6, 8, 10, 20):
            draw = Draw(np.random.default_rng([k, int(10 * spread)]))
            seed, x = labels(k, 3)
            inside = 0
            for _ in range(repetitions):
                slopes = spread * draw(k, 1) * (np.arange(3) - 1) / 2
                design = Design(x[:, None].astype(float), (draw.grid(k, 3) + slopes).ravel(), seed, seed, x)
                low, high = coefficient(design, np.array([2.0])).interval(LEVEL)
                inside += low <= 0 <= high
            found.setdefault(str(spread), {})[str(k)] = inside / repetitions  # type: ignore[attr-defined, index]
    return found


def power(repetitions: int) -> dict[str, object]:
    """Chance that a trend is supported: three settings, a rise of two standard deviations end to end."""
    found: dict[str, dict[str, float]] = {"trend": {}, "seeds' own slopes": {}, "former rule": {}}
    for k in (2, 3, 4, 5, 6, 8, 10, 20):
        draw = Draw(np.random.default_rng(k))
        seed, x = labels(k, 3)
        hits = dict.fromkeys(found, 0)
        for _ in range(repetitions):
            y = draw.grid(k, 3) + np.arange(3.0)
            design = Design(x[:, None].astype(float), y.ravel(), seed, seed, x)
            change = coefficient(design, np.array([2.0]))
            word = Judgement((rising(change),), ONCE, Named("", change), tuple(contrary(design, x))).word
            hits["trend"] += word == "supported"
            hits["seeds' own slopes"] += student(y[:, 2] - y[:, 0]).interval(LEVEL)[0] > 0
        former = min(repetitions, 1000)
        hits["former rule"] = sum(former_trend(draw.grid(k, 3) + np.arange(3.0)) for _ in range(former))
        for rule, count in hits.items():
            found[rule][str(k)] = count / (former if rule == "former rule" else repetitions)
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


def conjunctions(repetitions: int) -> dict[str, object]:
    """Claims of several parts at whose edge the truth lies: wrongly contradicted, by any part and by Holm."""
    found: dict[str, object] = {}
    draw = Draw(np.random.default_rng(0))
    for parts in (2, 3, 5):
        by_any = by_holm = either = 0
        for _ in range(repetitions):
            checks = [rising(student(draw(5))) for _ in range(parts)]
            p = np.array([check.p_contradicted for check in checks])
            by_any += bool((p <= 0.05).any())
            by_holm += bool(parts * p.min() <= 0.05)
            either += bool(parts * p.min() <= 0.05 or max(check.p_supported for check in checks) <= 0.05)
        found[str(parts)] = {
            "any": by_any / repetitions,
            "holm": by_holm / repetitions,
            "decided": either / repetitions,
        }
    return found


def looks(repetitions: int) -> dict[str, object]:
    """Wrong decisions when looking at 3, 5, 8 and 12 seeds: at 95 % each time, and at the level of planned looks."""
    result: dict[str, object] = {"level": look_level(LOOKS), "found level": search_level(), "wrong": {}}
    for kind in ("paired", "trend"):
        for noise in NOISES:
            for shared in (0.0, 1.0):
                draw = Draw(np.random.default_rng([len(noise), int(shared)]), noise, shared)
                naive = planned = 0
                for _ in range(repetitions):
                    p = [2.0] * len(LOOKS)
                    rule = Rule(LEVEL, Looks(LOOKS, LOOKS))
                    y = draw.grid(LOOKS[-1], 3 if kind == "trend" else 2)
                    for number, k in enumerate(LOOKS):
                        check = rising(change_of(y[:k], kind))
                        p[number] = min(check.p_supported, check.p_contradicted)
                    naive += min(p) <= 0.05
                    planned += min(map(rule.p_value, p)) <= 0.05
                result["wrong"][f"{kind}, {noise}, {'shared' if shared else 'own'}"] = {  # type: ignore[index]
                    "naive": naive / repetitions,
                    "planned": planned / repetitions,
                }
    result["effort"] = effort(repetitions)
    return result


def change_of(y: np.ndarray, kind: str) -> Estimated:
    """The effect of a trend over three settings, or of a pair, (seeds, settings)."""
    if kind == "paired":
        return student(y[:, 1] - y[:, 0])
    seed, x = labels(*y.shape)
    return coefficient(
        Design(x[:, None].astype(float), y.ravel(), seed, seed, x), np.array([float(y.shape[1] - 1)])
    )


def search_level(sequences: int = 400_000) -> float:
    """The α at each of the looks that decides 5 % of sequences without an effect, by bisection on other draws."""
    draw = np.random.default_rng(2026)
    values = draw.standard_normal((sequences, LOOKS[-1]))
    t = [values[:, :k].mean(1) / values[:, :k].std(1, ddof=1) * sqrt(k) for k in LOOKS]
    low, high = 0.0, 0.05
    for _ in range(40):
        middle = (low + high) / 2
        hit = np.zeros(sequences, bool)
        for k, of_look in zip(LOOKS, t, strict=True):
            hit |= np.abs(of_look) > stats.t.ppf(1 - middle / 2, k - 1)
        low, high = (middle, high) if hit.mean() <= 0.05 else (low, middle)
    return low


def effort(repetitions: int) -> dict[str, object]:
    """Chance of a decision and mean number of seeds of a sequence of planned looks, by the effect in sd of a pair."""
    alpha, found = 1 - look_level(LOOKS), {}
    draw = np.random.default_rng(1)
    for effect in (0.5, 1.0, 1.5, 2.0):
        values = effect + draw.standard_normal((max(repetitions, 20_000), LOOKS[-1]))
        seeds, hit = np.full(len(values), LOOKS[-1]), np.zeros(len(values), bool)
        for k in LOOKS:
            t = values[:, :k].mean(1) / values[:, :k].std(1, ddof=1) * sqrt(k)
            now = (np.abs(t) > stats.t.ppf(1 - alpha / 2, k - 1)) & ~hit
            seeds[now], hit = k, hit | now
        found[str(effect)] = {"decided": float(hit.mean()), "seeds": float(seeds.mean())}
    return dict(found)


def unplanned(repetitions: int) -> dict[str, object]:
    """Wrong decisions when looking after every seed, up to 50; and the width of the sequence by its prior."""
    found: dict[str, object] = {"wrong": {}, "width": {}}
    for noise in NOISES:
        draw = Draw(np.random.default_rng(3), noise)
        naive = sequence = fallback = 0
        for _ in range(repetitions):
            values = draw(50)
            k = np.arange(2, 51)
            mean = np.cumsum(values)[1:] / k
            error = np.sqrt(np.maximum(np.cumsum(values**2)[1:] - k * mean**2, 1e-12) / (k - 1) / k)
            p = 2 * stats.t.sf(np.abs(mean / error), k - 1)
            naive += bool((p <= 0.05).any())
            fallback += bool((p * k * (k - 1) <= 0.05).any())
            sequence += any(
                2 * min(c := Anytime(m, e, int(n)).below(0.0), 1 - c) <= 0.05
                for m, e, n in zip(mean, error, k, strict=True)
            )
        counts = {"naive": naive, "sequence": sequence, "bonferroni": fallback}
        found["wrong"][noise] = {rule: count / repetitions for rule, count in counts.items()}  # type: ignore[index]
    for prior in (1.0, 4.0, 9.0):
        ends = {k: -Anytime(0.0, 1.0, k, prior).quantile(0.025) for k in (3, 4, 5, 8, 12, 20)}
        found["width"][str(prior)] = {  # type: ignore[index]
            str(k): end / float(stats.t.ppf(0.975, k - 1)) if np.isfinite(end) else None
            for k, end in ends.items()
        }
    return found


def humps(repetitions: int) -> dict[str, object]:
    """Pools in which measure and gap follow training loss alone, along a hump, a line or a step; and real
    relations."""
    shapes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "hump": lambda z: -4 * (z - 0.5) ** 2,
        "line": lambda z: z,
        "wave": lambda z: 0.5 * np.sin(2 * np.pi * z),
        "step": lambda z: np.tanh(10 * (z - 0.5)) / 2,
    }
    found: dict[str, object] = {}
    for configurations, seeds in ((12, 3), (24, 3), (48, 2)):
        draw = Draw(np.random.default_rng(configurations))
        cluster = np.repeat(np.arange(configurations), seeds)
        row: dict[str, float] = {}
        for name, shape in shapes.items():
            row[name] = survivors(draw, cluster, shape, 0.0, repetitions)[1]
            if name == "hump":
                row["hump, by ranks alone"] = survivors(draw, cluster, shape, 0.0, repetitions)[0]
        row["a relation of its own"] = survivors(draw, cluster, shapes["hump"], 0.2, repetitions)[1]
        found[f"{configurations} × {seeds}"] = row
    return found


def survivors(
    draw: Draw, cluster: np.ndarray, shape: Callable[[np.ndarray], np.ndarray], own: float, repetitions: int
) -> tuple[float, float]:
    """The share of pools whose relation survives the partial rank correlation, and that and the spline."""
    ranks = both = 0
    k, n = int(cluster.max()) + 1, len(cluster)
    for _ in range(repetitions):
        z = draw.generator.uniform(size=k)[cluster] + 0.03 * draw(n)
        common = own * (0.7 * draw(k)[cluster] + 0.7 * draw(n))
        x, y = (shape(z) + 0.2 * draw(n) + common for _ in range(2))
        relation = Relation(None, x, y, np.zeros(n, dtype=np.int64), cluster)  # type: ignore[arg-type]
        partial, _ = partial_within(relation, z)
        assert partial is not None
        low, high = partial.interval(LEVEL)
        one = low > 0 or high < 0
        ranks += one
        both += one and spline_p_value(relation, z) <= 0.05
    return ranks / repetitions, both / repetitions


SECTIONS: dict[str, tuple[Callable[..., dict[str, object]], float]] = {
    "coverage": (coverage, 1.0),
    "first_seeds": (first_seeds, 1.0),
    "random_slopes": (random_slopes, 1.0),
    "power": (power, 1.0),
    "conjunctions": (conjunctions, 5.0),
    "looks": (looks, 1.0),
    "unplanned": (unplanned, 0.5),
    "humps": (humps, 0.25),
}
"""Section → what computes it, and its share of the repetitions."""


def share(value: float | None) -> str:
    """A share in per cent, or a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def tables(found: dict[str, dict]) -> dict[str, list[str]]:
    """The tables of docs/claims.md by the name of their marker, lines of Markdown."""
    lines = {
        "coverage": [
            "| kind | 2 seeds | 3 | 5 | 10 | wrongly decided, at most |",
            "|---|---|---|---|---|---|",
        ]
    }
    for kind, row in found["coverage"].items():
        cells = [
            "–" if row[str(k)] is None else f"{share(row[str(k)]['low'])}–{share(row[str(k)]['high'])}"
            for k in SEEDS
        ]
        wrong = [cell["wrong"] for cell in row.values() if cell is not None]
        first = [
            f"{k} seeds: {share(cell['low'])}–{share(cell['high'])}"
            for k, cell in found["first_seeds"].get(kind, {}).items()
            if row.get(k) is None
        ]
        note = f" ({first[0]})" if first else ""
        lines["coverage"].append(
            f"| {kind}{note} | {' | '.join(cells)} | {share(max(wrong)) if wrong and max(wrong) else '–'} |"
        )
    seeds = list(found["power"]["trend"])
    lines["power"] = [f"| rule | {' | '.join(seeds)} seeds |", "|---" * (len(seeds) + 1) + "|"]
    for rule, row in found["power"].items():
        lines["power"].append(f"| {rule} | {' | '.join(share(row[k]) for k in seeds)} |")
    slopes = found["random_slopes"]
    seeds = list(next(iter(slopes.values())))
    lines["slopes"] = [f"| slopes' sd / noise | {' | '.join(seeds)} seeds |", "|---" * (len(seeds) + 1) + "|"]
    lines["slopes"] += [
        f"| {sd} | {' | '.join(share(row[k]) for k in seeds)} |" for sd, row in slopes.items()
    ]
    lines["conjunctions"] = ["| parts | any part at 5 % | Holm | decided either way |", "|---|---|---|---|"]
    lines["conjunctions"] += [
        f"| {parts} | {share(row['any'])} | {share(row['holm'])} | {share(row['decided'])} |"
        for parts, row in found["conjunctions"].items()
    ]
    wrong = found["looks"]["wrong"]
    lines["looks"] = ["| kind, noise, seed effects | 95 % at each look | planned looks |", "|---|---|---|"]
    lines["looks"] += [
        f"| {name} | {share(row['naive'])} | {share(row['planned'])} |" for name, row in wrong.items()
    ]
    lines["effort"] = ["| effect / sd | decided by 12 seeds | seeds on average |", "|---|---|---|"]
    lines["effort"] += [
        f"| {effect} | {share(row['decided'])} | {row['seeds']:.1f} |"
        for effect, row in found["looks"]["effort"].items()
    ]
    lines["level"] = [
        f"For looks at 3, 5, 8 and 12 seeds each interval has the level {100 * found['looks']['level']:.2f} % "
        f"(found anew by bisection on other draws: {100 - 100 * found['looks']['found level']:.2f} %)."
    ]
    lines["unplanned"] = [
        "| noise | 95 % at each seed | confidence sequence | α/(k(k − 1)) |",
        "|---|---|---|---|",
    ]
    lines["unplanned"] += [
        f"| {noise} | {share(row['naive'])} | {share(row['sequence'])} | {share(row['bonferroni'])} |"
        for noise, row in found["unplanned"]["wrong"].items()
    ]
    seeds = list(next(iter(found["unplanned"]["width"].values())))
    lines["width"] = [f"| prior variance | {' | '.join(seeds)} seeds |", "|---" * (len(seeds) + 1) + "|"]
    lines["width"] += [
        f"| {prior} | {' | '.join('none' if row[k] is None else f'{row[k]:.2f}' for k in seeds)} |"
        for prior, row in found["unplanned"]["width"].items()
    ]
    shapes = list(next(iter(found["humps"].values())))
    lines["humps"] = [f"| configurations × seeds | {' | '.join(shapes)} |", "|---" * (len(shapes) + 1) + "|"]
    lines["humps"] += [
        f"| {pool} | {' | '.join(share(row[name]) for name in shapes)} |"
        for pool, row in found["humps"].items()
    ]
    return lines


def renew(page: str, found: dict[str, dict]) -> str:
    """The page with what lies between each pair of markers, ``<!-- name -->`` and ``<!-- /name -->``, written
    anew."""
    for name, lines in tables(found).items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if start in page:
            before, _, rest = page.partition(start)
            _, _, after = rest.partition(end)
            page = f"{before}{start}\n" + "\n".join(lines) + f"\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--only", default="", help=f"some of {', '.join(SECTIONS)}, separated by commas")
    parser.add_argument(
        "--kinds", default="", help="of coverage these kinds alone, the others as they are stored"
    )
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else list(SECTIONS)
    stored = HERE / "verdicts.json"
    found = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for name in chosen:
        start = time.perf_counter()
        compute, part = SECTIONS[name]
        kinds = given.kinds.split(",") if given.kinds and name == "coverage" else []
        computed = compute(max(int(given.repetitions * part), 1), *([kinds] if kinds else []))
        found[name] = found.get(name, {}) | computed if kinds else computed
        print(
            f"{name}: {time.perf_counter() - start:.0f} s\n{json.dumps(found[name], indent=1)}",
            file=sys.stderr,
        )
        if given.write:
            stored.write_text(json.dumps(found, indent=1, sort_keys=False) + "\n", encoding="utf-8")
    if given.write and set(SECTIONS) <= set(found):
        page = HERE.parent / "docs" / "claims.md"
        page.write_text(renew(page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
