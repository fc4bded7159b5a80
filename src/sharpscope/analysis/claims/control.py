"""The control beside a claim: the runs' training losses, and what remains of a relation with the loss held fixed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.expression import evaluate_expression
from sharpscope.analysis.claims.finding import Finding, Relation
from sharpscope.analysis.claims.ranks_within import partial_within
from sharpscope.analysis.claims.verdict import NAN, Control, Effect
from sharpscope.errors import InputError


def control_of(claim: BaseClaim, finding: Finding) -> Control:
    """Return the control of what a claim found."""
    runs = last_of_each(finding.rows)
    spread = [extent(runs, name) for name in ("train_loss", "train_accuracy")]
    partial, note = _partial(finding.relation, claim.control, claim.level)
    return Control(claim.control, partial, spread[0], spread[1], note)


def last_of_each(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run, its last."""
    return rows.drop_duplicates("run_id", keep="last") if "run_id" in rows.columns else rows


def extent(rows: pd.DataFrame, name: str) -> tuple[float, float]:
    """Return the smallest and the largest mean of a column among configurations, NaN where it is unknown.

    Among the runs themselves where they share one configuration.
    """
    if name not in rows.columns:
        return NAN, NAN
    values = pd.to_numeric(rows[name], errors="coerce").astype(float)
    several = "configuration" in rows.columns and rows["configuration"].nunique() > 1
    groups = rows["configuration"] if several else pd.Series(rows.index, rows.index)
    means = values[np.isfinite(values)].groupby(groups).mean()
    return (float(means.min()), float(means.max())) if len(means) else (NAN, NAN)


def _partial(relation: Relation | None, given: str, level: float) -> tuple[Effect | None, str]:
    """Return the partial rank correlation of the claim's two quantities, or why there is none."""
    if relation is None:
        return None, "the claim relates no two quantities"
    try:
        z = evaluate_expression(given, relation.rows)
    except InputError:
        return None, f"the runs have no {given}"
    keep = np.isfinite(z)
    if keep.sum() < 3:
        return None, f"fewer than three runs have a {given}"
    kept = Relation(
        relation.rows[keep],
        relation.x[keep],
        relation.y[keep],
        relation.blocks[keep],
        relation.clusters[keep],
    )
    found, why = partial_within(kept, z[keep], level)
    note = f"{given} {why}" if why else ""
    if found is None:
        return None, note
    return Effect(f"partial rank correlation given {given}", found.value, found.low, found.high), note
