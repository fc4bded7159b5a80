"""The keys that claims of every kind share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from sharpscope.analysis.claims.conditions import Conditions, check_bounds
from sharpscope.analysis.claims.evidence import Evidence, Source
from sharpscope.analysis.claims.finding import Finding
from sharpscope.analysis.claims.requirements import Requirements
from sharpscope.errors import InputError
from sharpscope.serialization import StrictConfig

Side = Literal["greater", "less"]
Direction = Literal["rising", "falling"]
Positive = Annotated[float, Field(gt=0)]


def _range(given: dict[str, Any]) -> dict[str, float]:
    low, high = check_bounds(given)
    if low == high:
        raise InputError(f"a range needs min below max; received both at {low:g}")
    return {key: float(value) for key, value in given.items()}


Range = Annotated[dict[str, Any], AfterValidator(_range)]
"""A claimed range of an effect, ``{min, max}``, open on the side that is left out."""


class NamedClaim(StrictConfig):
    """The keys of every claim, of one part or of several.

    - ``id``: its name in reports, ``P1`` or one's own; a part of another claim needs none.
    - ``statement``: what is claimed, in one sentence.
    - ``where``: which rows it is about, column → value, list of values, or ``{min, max}``.
    """

    id: str = ""
    statement: str = ""
    where: Conditions = Field(default_factory=dict)


class BaseClaim(NamedClaim, ABC):
    """The further keys of every claim that is no conjunction.

    - ``source``: the table its columns are of: ``results`` (one row per run), ``history`` (per epoch) or ``tracks``
      (measures followed over training). The runs' settings can be named in all three.
    - ``cluster``: the column whose values are independent of one another, the seed by default.
    - ``control``: what a relation is also shown with held fixed.
    - ``requires``: what the runs compared must have reached, see `Requirements`; without it, what the experiment
      requires.
    - ``matters``: the smallest effect of interest, in the effect's unit; for a ratio as a share, 0.1 for a factor of
      1.1. An effect whose interval lies within it is negligible.
    - ``level``: of its intervals.
    """

    source: Source = "results"
    cluster: str = "seed"
    control: str = "train_loss"
    requires: Requirements | None = None
    matters: Positive | None = None
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @abstractmethod
    def find(self, evidence: Evidence) -> Finding:
        """Return what the tables say; raise `NotEvaluable` where they hold nothing to judge on."""


def direction_sign(direction: str) -> int:
    """Return 1 for a claim that something is greater, rising or wider, -1 for the opposite."""
    return 1 if direction in ("greater", "rising", "wider") else -1


def beyond(neutral: float, sign: int) -> tuple[float, float]:
    """Return the values that a claim with this sign (`direction_sign`) is about: those above ``neutral``, or below.

    >>> beyond(1.0, -1)
    (-inf, 1.0)
    """
    return (neutral, inf) if sign > 0 else (-inf, neutral)
