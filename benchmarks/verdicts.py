"""Do verdicts keep what they promise? Coverage, wrong decisions, power, looks and the control, by simulation.

    python benchmarks/verdicts.py [--repetitions 5000] [--only coverage,power] [--kinds "trend;bound"] [--write]

Every kind of claim is simulated on data of which the truth is known (simulated_claims.py), with the code that judges
real tables. ``--write`` stores the figures in benchmarks/verdicts.json as they come and renews the tables of
docs/claims.md, which are made of them (verdicts_page.py). On one core all of it takes about an hour; any part of it
can be computed alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy import stats
from simulated_claims import (
    EFFECTS,
    KINDS,
    LEVEL,
    NOISES,
    UNEQUAL,
    Draw,
    Outcome,
    labels,
    of_one,
    rising,
    with_unequal_noise,
)
from simulated_power import best_power, former_power, power, power_of_kinds
from verdicts_page import SEEDS, renew

from sharpscope.analysis.claims import contrast
from sharpscope.analysis.claims.confidence import Anytime
from sharpscope.analysis.claims.contrast import Design, coefficient
from sharpscope.analysis.claims.estimate import Estimated, student
from sharpscope.analysis.claims.finding import Relation
from sharpscope.analysis.claims.looks import Looks, Rule, look_level
from sharpscope.analysis.claims.ranks_within import partial_within, spline_p_value

HERE = Path(__file__).parent
LOOKS = (3, 5, 8, 12)

CHEAP = ("paired, basin_width", "crossing", "curve", "variance_ratio", "correlation", "bound")
"""Kinds, by the beginning of their names, of which three times as many tables are simulated in the same time."""


def coverage(repetitions: int, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, object]:
    """Per kind and number of seeds: coverage of nominal 95 %, smallest and largest, and wrong decisions, largest."""
    return {kind: {str(k): of_kind(KINDS[kind], k, repetitions) for k in SEEDS} for kind in kinds}


def of_kind(
    simulate: Callable[[Draw, int], Outcome], seeds: int, repetitions: int
) -> dict[str, float] | None:
    """Smallest and largest coverage over noises, shared seed effects and effects, largest share of wrong decisions.

    ``deciding``, where a claim has several checks: the largest coverage of the interval of the one that decides.
    """
    covered, wrong, deciding = [], [], []
    for index, (noise, shared) in enumerate((noise, shared) for noise in NOISES for shared in (0.0, 1.0)):
        draw = Draw(np.random.default_rng([seeds, index]), noise, shared)
        outcomes = [simulate(draw, seeds) for _ in range(repetitions)]
        if any(estimate.confidence is None for estimate, _ in outcomes[0].estimates):
            return None
        covered += np.mean([outcome.covered() for outcome in outcomes], axis=0).tolist()
        wrong.append(float(np.mean([outcome.decided for outcome in outcomes])))
        if outcomes[0].shown is not None:
            deciding.append(float(np.mean([outcome.deciding_covers() for outcome in outcomes])))
    found = {"low": min(covered), "high": max(covered), "wrong": max(wrong)}
    return found | ({"deciding": max(deciding)} if deciding else {})


def first_seeds(repetitions: int) -> dict[str, object]:
    """Coverage at the fewest seeds that have an interval, for the kind that needs more than those of `SEEDS`."""
    pairs = (("variance_ratio", 6), ("variance_ratio", 8))
    found: dict[str, dict] = {}
    for kind, k in pairs:
        found.setdefault(kind, {})[str(k)] = of_kind(KINDS[kind], k, repetitions)
    return dict(found)


def random_slopes(repetitions: int) -> dict[str, object]:
    """Coverage of a trend whose slope differs between seeds, by settings and the slopes' sd in units of the noise."""
    found: dict[str, dict[str, float]] = {}
    for settings, spread in ((3, 0.5), (3, 1.0), (3, 2.0), (3, 4.0), (5, 1.0), (5, 2.0)):
        row: dict[str, float] = {}
        for k in (2, 3, 5, 6, 10, 20):
            draw = Draw(np.random.default_rng([k, int(10 * spread), settings]))
            seed, x = labels(k, settings)
            along = np.arange(settings) / (settings - 1) - 0.5
            inside = 0
            for _ in range(repetitions):
                y = (draw.grid(k, settings) + spread * draw(k, 1) * along).ravel()
                design = Design(x[:, None].astype(float), y, seed, seed, x)
                inside += of_one(coefficient(design, np.array([settings - 1.0])), 0.0).covered()[0]
            row[str(k)] = inside / repetitions
        found[f"{settings}, {spread:g}"] = row
    return dict(found)


def unequal_noise(repetitions: int) -> dict[str, object]:
    """Coverage where one setting is noisier than the others, and that of the pooled noise alone.

    Smallest and largest of each: a curve has an interval for every setting.
    """
    found: dict[str, dict[str, dict[str, list[float]]]] = {"judged": {}, "pooled": {}}
    for rule, rows in found.items():
        level, few = (contrast.UNEQUAL, contrast.UNEQUAL_FEW) if rule == "judged" else (0.0, {})
        with patch.multiple(contrast, UNEQUAL=level, UNEQUAL_FEW=few):
            for situation in UNEQUAL:
                row = rows.setdefault(situation, {})
                for k in SEEDS:
                    draw = Draw(np.random.default_rng([k, len(situation)]))
                    tables = (with_unequal_noise(situation, draw, k) for _ in range(repetitions))
                    each = [[of_one(one, 0.0).covered()[0] for one in table] for table in tables]
                    covered = np.mean(each, axis=0)
                    row[str(k)] = [float(covered.min()), float(covered.max())]
    return dict(found)


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
            held = max(1, parts / 2) * p.min() > 0.05  # these contradict on one side alone
            by_holm += not held
            either += not held or max(check.p_supported for check in checks) <= 0.05
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
    "unequal_noise": (unequal_noise, 0.5),
    "power": (power, 1.0),
    "best_power": (best_power, 1.0),
    "power_of_kinds": (power_of_kinds, 0.2),
    "former_power": (former_power, 0.25),
    "conjunctions": (conjunctions, 1.0),
    "looks": (looks, 1.0),
    "unplanned": (unplanned, 0.5),
    "humps": (humps, 0.2),
}
"""Section → what computes it, and its share of the repetitions."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5000)
    parser.add_argument("--only", default="", help=f"some of {', '.join(SECTIONS)}, separated by commas")
    parser.add_argument(
        "--kinds",
        default="",
        help="of coverage and power_of_kinds these alone, separated by semicolons, the others as they are stored",
    )
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else list(SECTIONS)
    stored = HERE / "verdicts.json"
    found = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    for name in chosen:
        compute, part = SECTIONS[name]
        every = {"coverage": list(KINDS), "power_of_kinds": list(EFFECTS)}.get(name, [])
        kinds = given.kinds.split(";") if given.kinds and every else every
        if unknown := sorted(set(kinds) - set(every)):
            parser.error(f"{name} has no kind {unknown[0]!r}; it has {'; '.join(every)}")
        parts = [([kind],) for kind in kinds] if every else [()]
        for arguments in parts:  # a kind at a time, so that an interrupted run keeps what it has
            start = time.perf_counter()
            cheap = name == "coverage" and arguments[0][0].startswith(CHEAP)
            repetitions = max(int(given.repetitions * part * (3 if cheap else 1)), 1)
            computed = compute(repetitions, *arguments)
            found[name] = found.get(name, {}) | computed if arguments else computed
            counts = found.setdefault("repetitions", {}).setdefault(name, {})
            counts |= dict.fromkeys(arguments[0] if arguments else ["all"], repetitions)
            print(
                f"{name}: {time.perf_counter() - start:.0f} s\n{json.dumps(computed)}",
                file=sys.stderr,
                flush=True,
            )
            if given.write:
                stored.write_text(json.dumps(found, indent=1, sort_keys=False) + "\n", encoding="utf-8")
        if every:  # what is no kind any more is forgotten, and the order is that of the kinds
            found[name] = {kind: found[name][kind] for kind in every if kind in found[name]}
            found["repetitions"][name] = {k: n for k, n in found["repetitions"][name].items() if k in every}
    if given.write:
        stored.write_text(json.dumps(found, indent=1, sort_keys=False) + "\n", encoding="utf-8")
    if given.write and set(SECTIONS) <= set(found):
        page = HERE.parent / "docs" / "claims.md"
        page.write_text(renew(page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
