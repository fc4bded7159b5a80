"""Simulated tables of which the truth is known, one function per kind of claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np

from sharpscope.analysis.claims.confidence import Stretched, Student
from sharpscope.analysis.claims.contrast import Design, coefficient, steps
from sharpscope.analysis.claims.estimate import Estimated, student
from sharpscope.analysis.claims.finding import Check, Named
from sharpscope.analysis.claims.judgement import Judgement
from sharpscope.analysis.claims.kinds.bound import two_way_mean
from sharpscope.analysis.claims.kinds.curve import means_at_settings
from sharpscope.analysis.claims.kinds.matched import matched_difference
from sharpscope.analysis.claims.kinds.optimum import best_level
from sharpscope.analysis.claims.kinds.variance_ratio import deviation_ratio
from sharpscope.analysis.claims.looks import Rule
from sharpscope.analysis.within_seeds import FEWEST, comparable, jackknife, within_seeds

NOISES = ("normal", "t3")
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


def decided(*checks: Check) -> bool:
    """Whether the checks of one claim decide it."""
    effect = Named("effect", checks[0].estimate)
    return Judgement(checks, ONCE, effect).word in ("supported", "contradicted")


def rising(estimate: Estimated, threshold: float = 0.0) -> Check:
    """The claim that a number exceeds a threshold, which is the truth wherever it is asked here."""
    return Check("effect", estimate, threshold, inf)


# One function per kind: a table in which what is claimed lies exactly at the edge of being true.


def trend(draw: Draw, seeds: int) -> Outcome:
    seed, x = labels(seeds, 4)
    design = Design(x[:, None].astype(float), draw.grid(seeds, 4).ravel(), seed, seed, x)
    found = coefficient(design, np.array([3.0]))
    # A contrary step turns a supported claim into a contradicted one, so that it decides no claim more.
    return Outcome(((found, 0.0),), decided(rising(found)))


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
