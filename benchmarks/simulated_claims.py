"""Simulated tables of which the truth is known, one function per kind of claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

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
from sharpscope.analysis.claims.verdict import Effect, Word
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
    """One simulated table: its verdict, estimates with their true values, and the interval shown with its own.

    ``shown`` is that of the check that decides, given where there are several. Of two checks it is the interval of
    one of them; of more the end that contradicts is corrected for their number, so that it is one of its own.
    """

    estimates: tuple[tuple[Estimated, float], ...]
    word: Word
    shown: tuple[Effect, float] | None = None

    @property
    def decided(self) -> bool:
        """Whether the claim was decided, either way."""
        return self.word in ("supported", "contradicted")

    def covered(self) -> list[bool]:
        """Return which intervals hold the true value; their ends are quantiles of the confidence distribution."""
        low, high = (1 - LEVEL) / 2, (1 + LEVEL) / 2
        found = [low <= estimate.below(true) <= high for estimate, true in self.estimates]
        return [*found, self.deciding_covers()] if len(self.estimates) > 2 else found

    def deciding_covers(self) -> bool:
        """Return whether the interval of the check that decides holds its true value."""
        assert self.shown is not None
        effect, true = self.shown
        return effect.low <= true <= effect.high


def labels(seeds: int, settings: int) -> tuple[np.ndarray, np.ndarray]:
    """Seed and setting of each row of a grid written out row by row."""
    return np.repeat(np.arange(seeds), settings), np.tile(np.arange(settings), seeds)


def of_one(estimate: Estimated, true: float, low: float = -inf, high: float = inf) -> Outcome:
    """The outcome of a claim that a number lies in a range."""
    return Outcome(((estimate, true),), judged(Check("effect", estimate, low, high)).word)


def of_several(truth: Mapping[str, float], *checks: Check) -> Outcome:
    """The outcome of a claim that several numbers lie in their ranges, by their names."""
    found = judged(*checks)
    shown = found.shown()
    return Outcome(
        tuple((check.estimate, truth[check.name]) for check in checks),
        found.word,
        (shown, truth[shown.name]) if checks[0].estimate.confidence is not None else None,
    )


def judged(*checks: Check, never: Sequence[Check] = ()) -> Judgement:
    """The judgement on the checks of one claim."""
    return Judgement(checks, ONCE, Named("effect", checks[0].estimate), tuple(never))


def rising(estimate: Estimated, threshold: float = 0.0) -> Check:
    """The claim that a number exceeds a threshold."""
    return Check("effect", estimate, threshold, inf)


# One function per kind. Without an effect the truth lies exactly at the edge of what is claimed; an effect moves it
# to the claimed side.


def trend(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    seed, x = labels(seeds, 4)
    y = draw.grid(seeds, 4).ravel() + effect * x / 3
    design = Design(x[:, None].astype(float), y, seed, seed, x)
    outcome = of_one(coefficient(design, np.array([3.0])), effect, low=0.0)
    if outcome.word == "supported":  # a contrary step decides no claim more
        check = rising(outcome.estimates[0][0])
        outcome = Outcome(outcome.estimates, judged(check, never=contrary(design, x)).word)
    return outcome


def contrary(design: Design, x: np.ndarray) -> list[Check]:
    changes = [step for *_, step in steps(design, x.astype(float)) if step.confidence is not None]
    return [
        Check("step", step.with_confidence(Stretched(step.confidence, len(changes))), -inf, 0.0)
        for step in changes
    ]


def flat(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    seed, x = labels(seeds, 4)
    y = draw.grid(seeds, 4).ravel() + 1.0 * x / 3
    found = coefficient(Design(x[:, None].astype(float), y, seed, seed, x), np.array([3.0]))
    return of_one(found, 1.0, -1.0 - effect, 1.0 + effect)


def interaction(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    seed, cell = labels(seeds, 9)
    u, v = (cell % 3).astype(float), (cell // 3).astype(float)
    y = draw.grid(seeds, 9).ravel() + effect * u * v
    design = Design(np.stack([u, u * v], axis=1), y, seed * 3 + cell // 3, seed, cell)
    return of_one(coefficient(design, np.array([0.0, 1.0])), effect, low=0.0)


def ratio_law(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    seed, cell = labels(seeds, 9)
    columns = np.stack([cell % 3, cell // 3], axis=1).astype(float)
    y = draw.grid(seeds, 9).ravel() + columns @ np.array([-1.0, 1.1])
    found = coefficient(Design(columns, y, seed, seed, cell), np.ones(2))
    return of_one(found, 0.1, -0.1 - effect, 0.1 + effect)


def paired(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    """A difference of matched runs, or of the logarithms of the widths of two basins."""
    y = draw.grid(seeds, 2)
    return of_one(student(y[:, 0] - y[:, 1] + effect), effect, low=0.0)


def crossing(draw: Draw, seeds: int, effect: float = 0.0, at_large: float | None = None) -> Outcome:
    """The difference is ``effect`` at small x and the negative of ``at_large``, or of ``effect``, at large x."""
    difference = draw.grid(seeds, 4) - draw.grid(seeds, 4)
    at_large = effect if at_large is None else at_large
    small, large = student(difference[:, 0] + effect), student(difference[:, 3] - at_large)
    checks = Check("small", small, 0.0), Check("large", large, -inf, 0.0)
    return of_several({"small": effect, "large": -at_large}, *checks)


def crossing_at_one_end(draw: Draw, seeds: int) -> Outcome:
    return crossing(draw, seeds, at_large=60.0)


def curve(draw: Draw, seeds: int, effect: float = 0.0, within: float = 3.0, clear: int = 0) -> Outcome:
    """Four settings whose means lie ``effect`` within what is tolerated, the last ``clear`` in its middle.

    Unit: the noise. Tolerated is ``within`` either way.
    """
    seed, x = labels(seeds, 4)
    edge = log(1.3)
    scale = edge / within
    means = scale * np.where(np.arange(4) < 4 - clear, within - effect, 0.0)
    each = means_at_settings(scale * draw.grid(seeds, 4).ravel() + means[x], x, seed)
    names = [f"mean {index}" for index in range(4)]
    checks = [Check(name, found, -edge, edge) for name, found in zip(names, each, strict=True)]
    return of_several(dict(zip(names, means, strict=True)), *checks)


def curve_at_one_setting(draw: Draw, seeds: int) -> Outcome:
    return curve(draw, seeds, within=60.0, clear=3)


def matched(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    """Six settings a side; the matched quantity is noisy, unequally on the two sides, and y is curved in it."""
    seed, cell = labels(seeds, 12)
    is_a = cell < 6
    true = np.linspace(0, 3, 6)[cell % 6] + 0.35 * ~is_a
    of_seed = draw.shared * draw(seeds)[seed]
    y = 0.6 * true + 0.4 * (true - 1.5) ** 2 + 0.3 * draw(len(seed)) + of_seed + effect * is_a
    m = true + np.where(is_a, 0.3, 0.1) * draw(len(seed))
    found, _ = matched_difference(m, y, is_a, cell, seed)
    return of_one(found, effect, low=0.0)


def optimum(draw: Draw, seeds: int, effect: float = 0.0, means: Sequence[float] | None = None) -> Outcome:
    """By default a plateau: there nothing is gained anywhere, and noise alone picks the best setting."""
    means = effect * np.array([0, 1, 3, 1, 0]) / 3 if means is None else np.asarray(means, float)
    seed, x = labels(seeds, len(means))
    y = draw.grid(seeds, len(means)).ravel() + means[x]
    allowed = np.array([False, *[True] * (len(means) - 2), False])
    found = best_level(y, x, np.zeros_like(x), seed, allowed)
    assert found is not None
    best = float(means[found.best[0]])
    checks = Check("gain", found.gain, 0.0, inf), Check("beyond", found.beyond, -inf, 0.0)
    return of_several({"gain": best - means[0], "beyond": means[-1] - best}, *checks)


def optimum_that_stays(draw: Draw, seeds: int) -> Outcome:
    """A rise to a plateau that lasts to the end: the gain is clear, and nothing changes beyond."""
    return optimum(draw, seeds, means=(0, 6, 6, 6, 6))


def optimum_at_a_peak(draw: Draw, seeds: int) -> Outcome:
    """A clear peak: here the claim is true, and only the intervals are asked for."""
    found = optimum(draw, seeds, means=(0, 1, 3, 1, 0))
    return Outcome(found.estimates, "inconclusive", found.shown)


def curve_distance(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    """Curves of 20 epochs; without an effect both sides' distances from the baseline have one distribution."""
    of_seed = draw.shared * draw(seeds, 1)
    baseline, a, b = (draw(seeds, 20) + draw(seeds, 1) + of_seed for _ in range(3))
    distances = [np.sqrt(((side - baseline) ** 2).mean(axis=1)) for side in (a, b)]
    return of_one(student(np.log(distances[0] / distances[1]) - effect), -effect, high=0.0)


def variance_ratio(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    """Three strata; a seed moves both sides of all strata by as much as the noise."""
    values = draw(3, 2, seeds) + draw.shared * draw(1, 1, seeds)
    values[:, 0] *= exp(effect)
    return of_one(deviation_ratio(values, np.full(3, 1 / 3)), exp(effect), low=1.0)


def correlation(draw: Draw, seeds: int, effect: float = 0.0) -> Outcome:
    """Twelve configurations; without an effect their two quantities have nothing to do with one another.

    With one, the true τ is not known, and 0 stands in its place.
    """
    common = effect * draw(12, 1)
    y = [
        (common + 0.7 * draw(12, 1) + 0.5 * draw(12, seeds) + draw.shared * draw(1, seeds)).ravel()
        for _ in "xy"
    ]
    clusters, seed = comparable(np.repeat(np.arange(12), seeds), np.tile(np.arange(seeds), 12))
    value, error, k = jackknife(within_seeds(*y, clusters, seed))
    found = Estimated(value, k, Student(value, error, k - 1) if k >= FEWEST else None, FEWEST)
    return of_one(found, 0.0, low=0.0)


def bound(draw: Draw, seeds: int, effect: float = 0.0, models: int = 8) -> Outcome:
    """Configurations that differ by as much as their seeds."""
    y = draw(models, 1) + draw(models, seeds) + draw.shared * draw(1, seeds) - effect
    cluster, seed = np.repeat(np.arange(models), seeds), np.tile(np.arange(seeds), models)
    return of_one(two_way_mean(y.ravel(), cluster, seed), -effect, high=0.0)


def bound_of_four(draw: Draw, seeds: int) -> Outcome:
    return bound(draw, seeds, models=4)


def bound_of_sixteen(draw: Draw, seeds: int) -> Outcome:
    return bound(draw, seeds, models=16)


KINDS: dict[str, Callable[[Draw, int], Outcome]] = {
    "trend": trend,
    "flat": flat,
    "interaction": interaction,
    "ratio_law": ratio_law,
    "paired, basin_width": paired,
    "crossing, one end at the edge": crossing_at_one_end,
    "crossing, both ends at the edge": crossing,
    "curve, one setting at the edge": curve_at_one_setting,
    "curve, all four at the edge": curve,
    "matched": matched,
    "optimum, nothing changes beyond": optimum_that_stays,
    "optimum, nothing changes anywhere": optimum,
    "optimum, a clear peak": optimum_at_a_peak,
    "curve_distance": curve_distance,
    "variance_ratio": variance_ratio,
    "correlation": correlation,
    "bound": bound,
    "bound, four models": bound_of_four,
    "bound, sixteen models": bound_of_sixteen,
}
"""Kind (and situation) → one simulated table. ``invariance`` has no interval: an identity holds or fails."""

EFFECTS: dict[str, tuple[Callable[[Draw, int, float], Outcome], float]] = {
    "trend": (trend, 2.0),
    "flat": (flat, 3.0),
    "interaction": (interaction, 0.6),
    "ratio_law": (ratio_law, 0.6),
    "paired, basin_width": (paired, 2.0),
    "crossing": (crossing, 2.5),
    "curve": (curve, 1.5),
    "matched": (matched, 0.4),
    "optimum": (optimum, 2.5),
    "curve_distance": (curve_distance, 0.4),
    "variance_ratio": (variance_ratio, 0.7),
    "correlation": (correlation, 1.4),
    "bound": (bound, 1.8),
}
"""Kind → what simulates it, and an effect that some numbers of seeds find in about half of all tables."""


UNEQUAL = {
    "trend, 3 settings, the last three times as noisy": (1.0, 1.0, 3.0),
    "trend, 3 settings, the last ten times": (1.0, 1.0, 10.0),
    "trend, 3 settings, the second ten times": (1.0, 10.0, 1.0),
    "trend, 6 settings, the last ten times": (1.0, 1.0, 1.0, 1.0, 1.0, 10.0),
    "curve, 6 settings, the last ten times": (1.0, 1.0, 1.0, 1.0, 1.0, 10.0),
    "optimum, 6 settings, the last ten times": (1.0, 1.0, 1.0, 1.0, 1.0, 10.0),
}
"""Situation → the size of each setting's noise. No setting differs from another in its mean."""


def with_unequal_noise(situation: str, draw: Draw, seeds: int) -> tuple[Estimated, ...]:
    """The estimates of a table of a situation, all of zero."""
    sizes = np.array(UNEQUAL[situation])
    y = (draw(seeds, len(sizes)) * sizes + draw(seeds, 1)).ravel()
    seed, x = labels(seeds, len(sizes))
    if situation.startswith("curve"):
        return tuple(means_at_settings(y, x, seed))
    if situation.startswith("optimum"):
        inner = np.isin(np.arange(len(sizes)), (0, len(sizes) - 1), invert=True)
        best = best_level(y, x, np.zeros_like(x), seed, inner)
        assert best is not None
        return (best.beyond,)
    return (coefficient(Design(x[:, None].astype(float), y, seed, seed, x), np.ones(1)),)
