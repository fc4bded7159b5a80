"""The verdict on a claim: its word, effect, control and caveats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

Word = Literal["supported", "contradicted", "inconclusive", "not evaluable"]

NAN = float("nan")


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
    relates no two, or where ``note`` says why there is none. ``losses`` and ``accuracies``: the smallest and largest
    mean training loss and accuracy among the settings compared, NaN where unknown.
    """

    given: str
    partial: Effect | None
    losses: tuple[float, float]
    accuracies: tuple[float, float]
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim judged.

    ``verdict``: ``supported`` where the interval of the effect lies on the claimed side, ``contradicted`` where it
    lies on the other, ``inconclusive`` where it does neither or there is none, ``not evaluable`` where the runs it
    is about are missing; ``reason`` says why. ``rows`` used form ``clusters`` independent groups. ``scale`` is that
    of the runs. ``others`` are further effects. ``parts``: the verdicts on a conjunction's parts.
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


def verdicts_table(verdicts: Sequence[Verdict], *, parts: bool = False) -> pd.DataFrame:
    """Return one row per verdict, and with ``parts`` one per part below it.

    Columns: ``id``, ``statement``, ``kind``, ``verdict``, ``reason``, ``effect`` (its name), ``value``, ``low``,
    ``high``, ``unit``, ``rows``, ``clusters``, ``scale``, ``control`` (its name), ``partial``, ``partial_low``,
    ``partial_high``, ``loss_low``, ``loss_high``, ``accuracy_low``, ``accuracy_high``, ``confounds`` (one per line),
    ``would_change``.
    """
    rows = []
    for verdict in verdicts:
        rows.append(_row(verdict))
        if parts:
            rows += [_row(part) for part in verdict.parts]
    names = [*_row(_NONE)]
    numbers = [name for name in names if isinstance(_row(_NONE)[name], float)]
    return pd.DataFrame(rows, columns=names).astype(dict.fromkeys(numbers, float))


def _row(verdict: Verdict) -> dict[str, object]:
    effect = verdict.effect or Effect("", NAN)
    control = verdict.control or Control("", None, (NAN, NAN), (NAN, NAN))
    partial = control.partial or Effect("", NAN)
    return {
        "id": verdict.id,
        "statement": verdict.statement,
        "kind": verdict.kind,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "effect": effect.name,
        "value": effect.value,
        "low": effect.low,
        "high": effect.high,
        "unit": effect.unit,
        "rows": verdict.rows,
        "clusters": verdict.clusters,
        "scale": verdict.scale,
        "control": control.given,
        "partial": partial.value,
        "partial_low": partial.low,
        "partial_high": partial.high,
        "loss_low": control.losses[0],
        "loss_high": control.losses[1],
        "accuracy_low": control.accuracies[0],
        "accuracy_high": control.accuracies[1],
        "confounds": "\n".join(verdict.confounds),
        "would_change": verdict.would_change,
    }


_NONE = Verdict("", "", "", "not evaluable", "", None, (), 0, 0, "", None, (), "")
