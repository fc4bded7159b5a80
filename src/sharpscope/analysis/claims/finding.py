"""What a kind of claim finds in the tables, before it is put into a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pandas as pd

from sharpscope.analysis.claims.estimate import Estimated
from sharpscope.analysis.claims.verdict import Effect, Word
from sharpscope.analysis.resampling import Floats, Integers


class NotEvaluable(Exception):  # noqa: N818  # an outcome, not an error
    """The tables hold nothing that a claim could be judged on; the message says what is missing."""


@dataclass(frozen=True)
class Check:
    """One estimate against the range that is claimed for it, open ends infinite; ``name`` is for reasons."""

    name: str
    estimate: Estimated
    low: float = -inf
    high: float = inf

    def outcome(self) -> Word:
        """Return whether the interval lies in the range, outside of it, or across one of its ends."""
        if not self.estimate.has_interval:
            return "inconclusive"
        if self.estimate.low > self.low and self.estimate.high < self.high:
            return "supported"
        if self.estimate.high < self.low or self.estimate.low > self.high:
            return "contradicted"
        return "inconclusive"


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

    The claim holds where all ``checks`` do. ``rows`` were used, of those ``selected`` (diverged ones included).
    ``unit`` is what a cluster is called, the claim's own ``cluster`` unless given.
    ``settled``, a word and its reason, replaces the verdict of the checks where no interval decides.
    ``would_change`` replaces the sentence on what would change the verdict. ``notes`` are sentences for the reader.
    """

    effect: Effect
    checks: tuple[Check, ...]
    rows: pd.DataFrame
    selected: pd.DataFrame
    clusters: int
    others: tuple[Effect, ...] = ()
    relation: Relation | None = None
    settled: tuple[Word, str] | None = None
    would_change: str = ""
    unit: str = ""
    notes: tuple[str, ...] = ()
