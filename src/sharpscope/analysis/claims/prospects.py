"""How likely each claim is to be decided with a number of seeds, before they are run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Any

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.conditions import holds
from sharpscope.analysis.claims.contrast import scaled
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.expression import columns_of, evaluate_expression
from sharpscope.analysis.claims.finding import Check, NotEvaluable, correction, sides, within
from sharpscope.analysis.claims.kinds import Conjunction, Single
from sharpscope.analysis.claims.kinds.interaction import Interaction, numbered
from sharpscope.analysis.claims.looks import Looks, look_level
from sharpscope.analysis.claims.power import (
    CHANCE,
    MOST_SEEDS,
    Spread,
    chance_decided,
    seeds_needed,
    spread_from_noise,
    spread_of,
)
from sharpscope.analysis.claims.verdict import NAN
from sharpscope.errors import InputError

COLUMNS = ("id", "kind", "seeds", "chance", "needed", "note")

_OVER_SETTINGS = ("trend", "flat", "interaction", "ratio_law")
_OF_TWO_RUNS = ("paired", "crossing", "matched", "optimum", "curve")


def prospects(
    claims: Sequence[Single | Conjunction],
    evidence: Evidence,
    seeds: Sequence[int],
    *,
    looks: Looks | None = None,
) -> pd.DataFrame:
    """Return one row per claim and number of seeds, as far as an earlier table tells.

    Columns: ``id``, ``kind``, ``seeds``; ``chance`` that the claim is decided, for or against or as too small to
    matter, if effect and spread are what the table says, NaN where it does not; ``needed``, the fewest seeds with a
    chance of `CHANCE`, NaN beyond `MOST_SEEDS`; ``note``, why there is no chance, as for a claim that settings
    decide. With ``looks`` the level of planned looks is used throughout. A claim that needs all of several checks is
    as likely to be supported as its least likely one at most, and that is what is said. An effect estimated from
    three seeds is often wrong by half: take it for an order of magnitude.
    """
    level = 0.95 if looks is None else look_level(looks.planned)
    rows = []
    for claim in claims:
        parts = claim.claims if isinstance(claim, Conjunction) else [claim]
        where = claim.where if isinstance(claim, Conjunction) else {}
        of_parts: list[tuple[Check, ...]] = []
        small: list[tuple[Check, ...]] = []  # of each part: what would show it too small to matter
        of_settings: list[Check] = []  # their error shrinks with settings, which more seeds do not add
        note = ""
        for part in parts:
            try:
                found = part.model_copy(update={"where": {**where, **part.where}}).find(evidence)
            except NotEvaluable as missing:
                note = str(missing)
                continue
            of_parts.append(found.checks)
            negligible = within(found.checks, found.effect, part.matters)
            if (found.unit or part.cluster) == "configuration":
                of_settings += found.checks
                note = _settings_needed(found.checks, negligible, level)
            else:
                small.append(negligible)
        checks = [check for found in of_parts for check in found]
        known = [check for check in checks if _foreseen(check) and check not in of_settings]
        times = max(1.0, sum(map(sides, of_parts)) / 2) * max(map(correction, of_parts), default=1.0)
        open_claim = _Open(known, len(checks), times, level, small)
        needed = open_claim.needed()
        if not note and isnan(open_claim.chance(MOST_SEEDS)):
            unknown = next((check.name for check in checks if check not in known), "effect")
            note = f"the earlier runs say nothing of how the {unknown} varies between seeds"
        rows += [(claim.id, claim.kind, k, open_claim.chance(k), needed, note) for k in seeds]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _settings_needed(checks: Sequence[Check], small: tuple[Check, ...], level: float) -> str:
    """Say how many settings decide a claim that takes them for a sample, as far as the table tells."""
    start = f"settings decide it, {checks[0].estimate.clusters} here, and not seeds"
    if not all(map(_foreseen, checks)):
        return start
    needed = _Open(checks, len(checks), correction(checks), level, [small]).needed()
    if isnan(needed):
        return f"{start}; fewer than {MOST_SEEDS} would hardly do"
    enough = max(int(needed), *(check.estimate.needed for check in checks))
    return f"{start}; {enough} would with a chance of {100 * CHANCE:.0f} %"


@dataclass(frozen=True)
class _Open:
    """A claim to be decided: those checks whose error is foreseen, of so many in all.

    Any of them contradicts at α/``times``. ``small``: of each part the checks that would show it too small to matter,
    which decides the whole.
    """

    checks: Sequence[Check]
    of: int
    times: float
    level: float
    small: Sequence[tuple[Check, ...]]

    def chance(self, seeds: int) -> float:
        """Return the chance of a decision, for or against or for an effect too small to matter."""
        if not self.checks:
            return NAN
        against = [check for check in self.checks if not check.low < check.estimate.value < check.high]
        if against:
            found = max(_of_check(check, seeds, 1 - (1 - self.level) / self.times) for check in against)
        elif len(self.checks) == self.of:
            found = min(_of_check(check, seeds, self.level) for check in self.checks)
        else:
            return NAN
        return max(found, *(self._small(checks, seeds) for checks in self.small), 0.0)

    def _small(self, checks: tuple[Check, ...], seeds: int) -> float:
        if not all(_foreseen(check) and check.low < check.estimate.value < check.high for check in checks):
            return 0.0
        return min((_of_check(check, seeds, self.level) for check in checks), default=0.0)

    def needed(self) -> float:
        """Return the fewest seeds with a chance of `CHANCE`, NaN beyond `MOST_SEEDS`."""
        low, high = 1, MOST_SEEDS
        if not self.chance(high) >= CHANCE:
            return NAN
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.chance(middle) >= CHANCE else (middle, high)
        return float(high)


def _foreseen(check: Check) -> bool:
    return spread_of(check.estimate) is not None and (isfinite(check.low) or isfinite(check.high))


def _of_check(check: Check, seeds: int, level: float) -> float:
    spread = spread_of(check.estimate)
    assert spread is not None  # `_foreseen`
    nearer, other = check.distances()
    return chance_decided(nearer, spread, seeds, level, other)


def prospects_from_noise(
    claims: Sequence[Single | Conjunction],
    settings: pd.DataFrame,
    noise: Mapping[str, float],
    effects: Mapping[str, float],
    seeds: Sequence[int],
    *,
    looks: Looks | None = None,
) -> pd.DataFrame:
    """Return the table of `prospects` without earlier runs, from an assumed noise.

    ``settings``: one row per run of the grid, with its settings. ``noise``: the standard deviation of a column over
    seeds at one setting; ``effects``: how far the truth is assumed to lie from the threshold, by the id of a claim or
    by the column, else the smallest effect that `matters` to the claim. Both in the column's unit, as a share where
    the effect is a ratio: .1 for a factor of 1.1. The key ``""`` stands for every column and claim.
    """
    level = 0.95 if looks is None else look_level(looks.planned)
    rows = []
    for claim in claims:
        parts = claim.claims if isinstance(claim, Conjunction) else [claim]
        where = claim.where if isinstance(claim, Conjunction) else {}
        known: list[tuple[float, Spread]] = []
        note = ""
        for part in parts:
            found = _assumed(part, {**where, **part.where}, claim.id, settings, noise, effects)
            if isinstance(found, str):
                note = note or found
            else:
                known.append(found)
        for k in seeds:
            chances = [chance_decided(effect, spread, k, level) for effect, spread in known]
            rows.append([claim.id, claim.kind, k, NAN if note else min(chances), NAN, note])
        if not note:
            needed = [seeds_needed(effect, spread, level=level) for effect, spread in known]
            for row in rows[-len(seeds) :]:
                row[4] = NAN if None in needed else float(max(filter(None, needed)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _assumed(
    part: Single,
    where: Mapping[str, Any],
    claim: str,
    settings: pd.DataFrame,
    noise: Mapping[str, float],
    effects: Mapping[str, float],
) -> tuple[float, Spread] | str:
    """Return the effect that is assumed of a claim and its spread, or why there is none."""
    y = getattr(part, "y", "")
    y = y if isinstance(y, str) else ""
    names = [y, *columns_of(y)] if y else []
    sd = next((noise[name] for name in (*names, "") if name in noise), None)
    effect = next((effects[name] for name in (claim, *names, "") if name in effects), part.matters)
    if part.kind not in (*_OVER_SETTINGS, *_OF_TWO_RUNS):
        return f"the error of {part.kind} does not follow from the noise of a run; give earlier runs"
    if sd is None:
        return f"no noise is given for {y}; give it, as in --noise {names[-1]}=0.01"
    if effect is None:
        return (
            f"no effect is given for {y}, and the claim names none that matters; give it, as in --effect "
            f"{names[-1]}=0.02"
        )
    if part.kind not in _OVER_SETTINGS or not getattr(part, "x", ""):
        return effect, spread_from_noise(sd)
    try:
        if isinstance(part, Interaction):
            table, by, _ = numbered(settings, where, part.by)
            known = spread_from_noise(sd, _values(by, table, where))
            strata = known.slope + 1
            known = spread_from_noise(known.sd, _values(part.x, settings, where))
            return effect, Spread(known.sd, known.slope * strata)
        return effect, spread_from_noise(sd, _values(part.x, settings, where))  # type: ignore[union-attr]
    except (InputError, KeyError, NotEvaluable) as missing:
        return f"{missing} in the grid"


def _values(axis: str, settings: pd.DataFrame, where: Mapping[str, Any]) -> list[float]:
    """Return the values that a grid gives an axis, in the scale on which a line is fitted; two at least."""
    values = sorted(set(evaluate_expression(axis, settings[holds(settings, where)])))
    if len(values) < 2:
        raise NotEvaluable(f"there are fewer than two values of {axis}")
    return list(map(float, scaled(np.asarray(values, dtype=np.float64), axis)[0]))
