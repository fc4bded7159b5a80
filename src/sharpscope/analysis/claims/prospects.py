"""How likely each claim is to be decided with a number of seeds, before they are run."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.contrast import scaled
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.finding import Check, NotEvaluable
from sharpscope.analysis.claims.kinds import Conjunction, Single
from sharpscope.analysis.claims.looks import Looks, look_level
from sharpscope.analysis.claims.power import (
    CHANCE,
    MOST_SEEDS,
    chance_decided,
    seeds_needed,
    spread_from_noise,
    spread_of,
)
from sharpscope.analysis.claims.verdict import NAN

COLUMNS = ("id", "kind", "seeds", "chance", "needed", "note")

_OVER_SETTINGS = ("trend", "flat", "interaction", "ratio_law")
_OF_TWO_RUNS = ("paired", "crossing", "matched", "basin_width", "curve_distance", "optimum", "curve")


def prospects(
    claims: Sequence[Single | Conjunction],
    evidence: Evidence,
    seeds: Sequence[int],
    *,
    looks: Looks | None = None,
) -> pd.DataFrame:
    """Return one row per claim and number of seeds, as far as an earlier table tells.

    Columns: ``id``, ``kind``, ``seeds``; ``chance`` that the claim is decided, for or against, if effect and spread
    are what the table says, NaN where it does not; ``needed``, the fewest seeds with a chance of `CHANCE`, NaN
    beyond `MOST_SEEDS`; ``note``, why there is no chance. With ``looks`` the level of planned looks is used
    throughout. A claim that needs all of several checks is as likely to be supported as its least likely one at
    most, and that is what is said. An effect estimated from three seeds is often wrong by half: take it for an
    order of magnitude.
    """
    level = 0.95 if looks is None else look_level(looks.planned)
    rows = []
    for claim in claims:
        parts = claim.claims if isinstance(claim, Conjunction) else [claim]
        where = claim.where if isinstance(claim, Conjunction) else {}
        checks: list[Check] = []
        note = ""
        for part in parts:
            try:
                found = part.model_copy(update={"where": {**where, **part.where}}).find(evidence)
            except NotEvaluable as missing:
                note = str(missing)
                continue
            checks += found.checks
        known = [check for check in checks if spread_of(check.estimate) is not None and _ends(check)]
        if not known and not note:
            note = "the earlier runs say nothing of how the effect varies between seeds"
        ladder = [_chance(known, len(checks), k, level) for k in seeds]
        needed = _needed(known, len(checks), level) if known else NAN
        rows += [
            (claim.id, claim.kind, k, chance, needed, note) for k, chance in zip(seeds, ladder, strict=True)
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _chance(checks: list[Check], of: int, seeds: int, level: float) -> float:
    """Return the chance that checks, of so many in all, decide their claim."""
    if not checks:
        return NAN
    against = [check for check in checks if not check.low < check.estimate.value < check.high]
    if against:
        # Any one contradicts, at a level that allows for their number.
        return max(_of_check(check, seeds, 1 - (1 - level) / of) for check in against)
    return min(_of_check(check, seeds, level) for check in checks) if len(checks) == of else NAN


def _of_check(check: Check, seeds: int, level: float) -> float:
    spread = spread_of(check.estimate)
    assert spread is not None  # prospects keeps these alone
    return chance_decided(_distance(check), spread, seeds, level)


def _needed(checks: list[Check], of: int, level: float) -> float:
    low, high = 1, MOST_SEEDS
    if not _chance(checks, of, high, level) >= CHANCE:
        return NAN
    while high - low > 1:
        middle = (low + high) // 2
        enough = _chance(checks, of, middle, level) >= CHANCE
        low, high = (low, middle) if enough else (middle, high)
    return float(high)


def _distance(check: Check) -> float:
    """Return how far the estimate is from the nearer end of the claimed range, on its straight scale."""
    straight = check.estimate.inverse
    return min(abs(straight(check.estimate.value) - straight(end)) for end in _ends(check))


def _ends(check: Check) -> list[float]:
    return [end for end in (check.low, check.high) if isfinite(end)]


def chance_from_noise(
    claim: Single,
    values: Sequence[float] | None,
    noise: float,
    effect: float,
    seeds: int,
    level: float = 0.95,
) -> float:
    """Return the chance that a claim is decided, from the noise of a run and a true effect, without earlier runs.

    ``values``: those of x in the grid, for the kinds that compare settings; ``noise``: the standard deviation of y
    over seeds at one setting; ``effect``: how far the truth lies from the claim's threshold; both in the unit of y,
    or of its logarithm where the effect is a factor. NaN for kinds whose error has another form (`variance_ratio`,
    `correlation`, `bound`, `invariance`).

    >>> from sharpscope.analysis.claims import read_claims
    >>> (claim,) = read_claims([{"id": "K1", "statement": "It rises.", "kind": "trend", "x": "lr",
    ...                          "y": "test_accuracy", "direction": "rising"}])
    >>> round(chance_from_noise(claim, [0.01, 0.1, 1.0], noise=0.01, effect=0.02, seeds=5), 2)
    0.79
    """
    if claim.kind in _OVER_SETTINGS and values is not None:
        x, _ = scaled(np.asarray(values, dtype=np.float64), getattr(claim, "x", ""))
        return chance_decided(effect, spread_from_noise(noise, x.tolist()), seeds, level)
    if claim.kind in _OF_TWO_RUNS or claim.kind in _OVER_SETTINGS:
        return chance_decided(effect, spread_from_noise(noise), seeds, level)
    return NAN


def seeds_from_noise(
    claim: Single, values: Sequence[float] | None, noise: float, effect: float, chance: float = CHANCE
) -> int | None:
    """Return the fewest seeds with which `chance_from_noise` reaches ``chance``, None where `MOST_SEEDS` do not."""
    if claim.kind in _OVER_SETTINGS and values is not None:
        x, _ = scaled(np.asarray(values, dtype=np.float64), getattr(claim, "x", ""))
        return seeds_needed(effect, spread_from_noise(noise, x.tolist()), chance)
    if claim.kind in _OF_TWO_RUNS or claim.kind in _OVER_SETTINGS:
        return seeds_needed(effect, spread_from_noise(noise), chance)
    return None
