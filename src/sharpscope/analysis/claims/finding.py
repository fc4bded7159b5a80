"""What a kind of claim finds in the tables, before it is put into a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import pandas as pd

from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.verdict import NAN, Effect, Word
from sharpscope.analysis.resampling import Floats, Integers


class NotEvaluable(Exception):  # noqa: N818  # an outcome, not an error
    """The tables hold nothing that a claim could be judged on; the message says what is missing."""


@dataclass(frozen=True)
class Named:
    """An estimate with its name. ``neutral`` is its value where nothing is there: 1 for a ratio."""

    name: str
    estimate: Estimated
    unit: str = ""
    neutral: float = 0.0

    def effect(self, level: float) -> Effect:
        """Return the number with its interval of this level."""
        return Effect(self.name, self.estimate.value, *self.estimate.interval(level), self.unit)

    def within(self, matters: float) -> Check:
        """Return the check that the effect is smaller than ``matters``: by a share of it where it is a ratio."""
        low, high = (1 / (1 + matters), 1 + matters) if self.neutral == 1 else (-matters, matters)
        return Check(self.name, self.estimate, low, high)


@dataclass(frozen=True)
class Check:
    """One estimate against the range that is claimed for it, open ends infinite; ``name`` is for reasons."""

    name: str
    estimate: Estimated
    low: float = -inf
    high: float = inf

    @property
    def p_supported(self) -> float:
        """The smallest α at which the interval of level 1 - α lies in the range; 1 where none does."""
        if self.estimate.confidence is None:
            return NAN
        return min(1.0, 2 * max(self.estimate.below(self.low), self.estimate.above(self.high)))

    @property
    def p_contradicted(self) -> float:
        """The smallest α at which the interval of level 1 - α lies outside of the range; 1 where none does."""
        if self.estimate.confidence is None:
            return NAN
        return min(1.0, 2 * min(self.estimate.above(self.low), self.estimate.below(self.high)))

    @property
    def ends(self) -> list[float]:
        """The finite ends of the range."""
        return [end for end in (self.low, self.high) if isfinite(end)]

    @property
    def nearest_end(self) -> float:
        """The end of the range that the estimate lies nearest to, on its straight scale."""
        straight = self.estimate.inverse
        return min(self.ends, key=lambda end: abs(straight(self.estimate.value) - straight(end)))

    def distances(self) -> tuple[float, float]:
        """Return how far the estimate lies from the ends of the range, on its straight scale, the nearer one first.

        The other is infinite where the range has one end alone, and where the estimate lies outside of it: what
        decides then is the nearer one.
        """
        straight = self.estimate.inverse
        nearer, *other = sorted(abs(straight(self.estimate.value) - straight(end)) for end in self.ends)
        return nearer, other[0] if other and self.low < self.estimate.value < self.high else inf

    @property
    def narrow(self) -> bool:
        """Whether the range is narrower than the 95 % interval, so that chance crosses either end."""
        low, high = self.estimate.interval(0.95)
        return self.high - self.low < high - low


def within(checks: Sequence[Check], effect: Named, matters: float | None) -> tuple[Check, ...]:
    """Return checks that what is checked is too small to matter; none for a claim about a range of its own.

    ``effect`` says by its neutral value whether they are ratios; without ``matters`` there are none.
    """
    if matters is None or not checks or effect.neutral not in (checks[0].low, checks[0].high):
        return ()
    numbers = (Named(check.name, check.estimate, neutral=effect.neutral) for check in checks)
    return tuple(number.within(matters) for number in numbers)


def sides(checks: Sequence[Check]) -> int:
    """Return on how many sides, 1 or 2, chance contradicts a claim of these checks; 0 where there are none."""
    return min(2, _ends(checks))


def correction(checks: Sequence[Check]) -> float:
    """Return by what the p-value of the clearest of several checks against a claim is multiplied: ends/2, at least 1.

    A check with a wide range contradicts at one end alone, by chance in half of the cases that its two-sided p-value
    counts. Two such checks at the edge of their ranges err as often together as one interval does. A check whose
    range is narrower than its 95 % interval errs at both ends, and both count. The one-sided p-value is multiplied
    by the number of ends: the first step of Holm's procedure (*A simple sequentially rejective multiple test
    procedure*, Scandinavian Journal of Statistics 6, 1979).
    """
    return max(1.0, _ends(checks) / 2)


def _ends(checks: Sequence[Check]) -> int:
    """Return at how many ends of intervals chance contradicts: one of a check, two where it is `Check.narrow`."""
    return sum(1 + check.narrow for check in checks)


@dataclass(frozen=True)
class Relation:
    """Two quantities of the same rows, compared within blocks only; a control can be held fixed in it."""

    rows: pd.DataFrame
    x: Floats
    y: Floats
    blocks: Integers
    clusters: Integers


@dataclass(frozen=True)
class Finding:
    """What a kind of claim found.

    The claim holds where all ``checks`` do. ``never``: checks that contradict a claim which would otherwise be
    supported, where any one of them lies in its range; they support nothing. ``rows`` were used, of those
    ``selected`` (diverged ones included). ``unit`` is what a cluster is called, the claim's own ``cluster`` unless
    given. The ``effect`` shown is that of the check that decides, where there are several. ``settled``, a word and
    its reason, replaces the verdict of the checks where no interval decides.
    ``held_back`` is a reason why the claim is inconclusive although its checks hold. ``would_change`` replaces the
    sentence on what would change the verdict. ``notes`` are sentences for the reader.
    """

    effect: Named
    checks: tuple[Check, ...]
    rows: pd.DataFrame
    selected: pd.DataFrame
    clusters: int
    others: tuple[Named | Effect, ...] = ()
    never: tuple[Check, ...] = ()
    relation: Relation | None = None
    settled: tuple[Word, str] | None = None
    held_back: str = ""
    would_change: str = ""
    unit: str = ""
    notes: tuple[str, ...] = ()
