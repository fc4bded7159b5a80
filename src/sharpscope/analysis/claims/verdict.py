"""The verdict on a claim: its word, effect, p-value, control and caveats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import numpy as np
import pandas as pd

Word = Literal[
    "supported",
    "contradicted",
    "negligible",
    "inconclusive",
    "not evaluable",
    "not evaluable (untrained)",
]
"""The words of a verdict; `Verdict` says what each means."""

NAN = float("nan")

FALSE_DISCOVERIES = 0.05
"""The share of false ones among the decided claims of a report that Benjamini & Hochberg's procedure allows."""


@dataclass(frozen=True)
class Effect:
    """A named number with its interval; ``low`` and ``high`` are NaN where there is none."""

    name: str
    value: float
    low: float = NAN
    high: float = NAN
    unit: str = ""


@dataclass(frozen=True)
class Control:
    """How far the runs had come when they were measured, and what is left of a relation given that.

    ``partial``: the rank correlation of the claim's two quantities with ``given`` held fixed, None where the claim
    relates no two, or where ``note`` says why there is none. ``spline_p``: the p-value of the correlation of what a
    spline of ``given`` leaves of either quantity, NaN where there is none; a hump that ranks do not see is taken out
    by it. ``survives``: whether both find something at 5 %, None where either is unknown. ``within``: the rank
    correlation among the runs that stopped at each of several levels of training loss. ``losses`` and
    ``accuracies``: the smallest and largest mean training loss and accuracy among the settings compared, NaN where
    unknown.
    """

    given: str
    partial: Effect | None
    losses: tuple[float, float]
    accuracies: tuple[float, float]
    note: str = ""
    spline_p: float = NAN
    survives: bool | None = None
    within: tuple[Effect, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A claim judged.

    ``verdict``:

    - ``supported``: the interval of the effect lies on the claimed side;
    - ``contradicted``: it lies on the other;
    - ``negligible``: it lies within the smallest effect that matters, on whichever side;
    - ``inconclusive``: none of these, or there is no interval;
    - ``not evaluable``: the runs that the claim is about are missing;
    - ``not evaluable (untrained)``: more than a tenth of them did not train as the claim requires.

    ``reason`` says why, and ``caveat`` in a few words what must be known beside the word. ``p_value``: the smallest
    α at which intervals of level 1 - α would decide the claim, the planned looks and the number of parts taken into
    account. ``q_value``: the smallest share of false discoveries at which Benjamini & Hochberg's procedure over the
    claims judged together would call it decided. ``level`` is that of the intervals shown; ``look`` says which look
    at the study this is. ``rows`` used form ``clusters`` independent groups. ``scale`` is that of the runs.
    ``others`` are further effects. ``parts``: the verdicts on a conjunction's parts. ``sides``: 1 where chance
    contradicts the claim on one side of its interval alone, in half of the cases that the p-value counts; else 2.
    """

    id: str
    statement: str
    kind: str
    verdict: Word
    reason: str
    effect: Effect | None
    others: tuple[Effect, ...]
    rows: int
    clusters: int
    scale: str
    control: Control | None
    confounds: tuple[str, ...]
    would_change: str
    parts: tuple[Verdict, ...] = ()
    p_value: float = NAN
    q_value: float = NAN
    caveat: str = ""
    level: float = 0.95
    look: str = ""
    sides: int = 2


def open_claims(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the ids of the claims that more seeds may still decide."""
    return [verdict.id for verdict in verdicts if verdict.verdict == "inconclusive"]


def with_false_discovery(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with the q-values of all of them together; those without a p-value keep NaN.

    q of the i-th smallest of m p-values: the smallest over j >= i of p_j m / j (Benjamini & Hochberg, *Controlling
    the false discovery rate*, JRSS B 57, 1995). The claims of one paper depend on one another, positively as a
    rule, for which the procedure holds as well (Benjamini & Yekutieli, Annals of Statistics 29, 2001).
    """
    p = np.array([verdict.p_value for verdict in verdicts])
    known = np.isfinite(p)
    q = np.full(len(p), NAN)
    order = np.argsort(p[known], kind="stable")
    m = len(order)
    scaled = p[known][order] * m / np.arange(1, m + 1)
    falling = np.minimum.accumulate(scaled[::-1])[::-1]
    found = np.empty(m)
    found[order] = np.minimum(falling, 1.0)
    q[known] = found
    return [replace(verdict, q_value=float(value)) for verdict, value in zip(verdicts, q, strict=True)]


def false_discovery_sentence(verdicts: Sequence[Verdict]) -> str:
    """Return which decided claims Benjamini & Hochberg's procedure would leave open; "" where there is none."""
    decided = [v for v in verdicts if v.verdict in ("supported", "contradicted", "negligible")]
    left_open = [v.id for v in decided if isfinite(v.q_value) and v.q_value > FALSE_DISCOVERIES]
    if not left_open:
        return ""
    tested = sum(isfinite(v.q_value) for v in verdicts)
    return (
        f"Among {tested} claims judged together, of which one in twenty is decided by chance where nothing is there, "
        f"{', '.join(left_open)} would not count as decided (Benjamini–Hochberg, 5 % false discoveries)."
    )


def verdicts_table(verdicts: Sequence[Verdict], *, parts: bool = True) -> pd.DataFrame:
    """Return one row per verdict and, unless ``parts`` is False, one per part below it.

    Columns: ``id``, ``part_of`` (the id of the whole, "" for a claim of its own), ``statement``, ``kind``,
    ``verdict``, ``caveat``, ``reason``, ``effect`` (its name), ``value``, ``low``, ``high``, ``unit``, ``p_value``,
    ``q_value``, ``level``, ``look``, ``rows``, ``clusters``, ``scale``, ``control`` (its name), ``partial``,
    ``partial_low``, ``partial_high``, ``spline_p``, ``loss_low``, ``loss_high``, ``accuracy_low``,
    ``accuracy_high``, ``confounds`` (one per line), ``would_change``.
    """
    rows = []
    for verdict in verdicts:
        rows.append(_row(verdict))
        if parts:
            rows += [_row(part, verdict.id) for part in verdict.parts]
    names = [*_row(_NONE)]
    numbers = [name for name in names if isinstance(_row(_NONE)[name], float)]
    return pd.DataFrame(rows, columns=names).astype(dict.fromkeys(numbers, float))


def _row(verdict: Verdict, part_of: str = "") -> dict[str, object]:
    effect = verdict.effect or Effect("", NAN)
    control = verdict.control or Control("", None, (NAN, NAN), (NAN, NAN))
    partial = control.partial or Effect("", NAN)
    return {
        "id": verdict.id,
        "part_of": part_of,
        "statement": verdict.statement,
        "kind": verdict.kind,
        "verdict": verdict.verdict,
        "caveat": verdict.caveat,
        "reason": verdict.reason,
        "effect": effect.name,
        "value": effect.value,
        "low": effect.low,
        "high": effect.high,
        "unit": effect.unit,
        "p_value": verdict.p_value,
        "q_value": verdict.q_value,
        "level": verdict.level,
        "look": verdict.look,
        "rows": verdict.rows,
        "clusters": verdict.clusters,
        "scale": verdict.scale,
        "control": control.given,
        "partial": partial.value,
        "partial_low": partial.low,
        "partial_high": partial.high,
        "spline_p": control.spline_p,
        "loss_low": control.losses[0],
        "loss_high": control.losses[1],
        "accuracy_low": control.accuracies[0],
        "accuracy_high": control.accuracies[1],
        "confounds": "\n".join(verdict.confounds),
        "would_change": verdict.would_change,
    }


_NONE = Verdict("", "", "", "not evaluable", "", None, (), 0, 0, "", None, (), "")
