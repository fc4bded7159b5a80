"""The control beside a claim: the runs' training losses, and what remains of a relation with the loss held fixed."""

from __future__ import annotations

from math import log

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.claim import BaseClaim
from sharpscope.analysis.claims.expression import evaluate_expression
from sharpscope.analysis.claims.finding import Finding, Relation
from sharpscope.analysis.claims.ranks_within import partial_within, rank_correlations, spline_p_value
from sharpscope.analysis.claims.verdict import NAN, Control, Effect
from sharpscope.analysis.resampling import Floats, Integers
from sharpscope.errors import InputError

APART = 1.5
"""Training losses whose neighbours differ by more than this factor stopped at different levels."""

FEWEST_AT_A_LEVEL = 6
"""A level of training loss with fewer runs has no correlation of its own."""


def control_of(claim: BaseClaim, finding: Finding) -> Control:
    """Return the control of what a claim found."""
    runs = last_of_each(finding.rows)
    losses, accuracies = (extent(runs, name) for name in ("train_loss", "train_accuracy"))

    def without(note: str) -> Control:
        return Control(claim.control, None, losses, accuracies, note)

    relation = finding.relation
    if relation is None:
        return without("the claim relates no two quantities")
    try:
        z = evaluate_expression(claim.control, relation.rows)
    except InputError:
        return without(f"the runs have no {claim.control}")
    keep = np.isfinite(z)
    if keep.sum() < 3:
        return without(f"fewer than three runs have a {claim.control}")
    kept, z = _rows_of(relation, keep), z[keep]
    found, why = partial_within(kept, z)
    note = f"{claim.control} {why}" if why else ""
    if found is None:
        return without(note)
    name = f"partial rank correlation given {claim.control}"
    low, high = found.interval(claim.level)
    spline = spline_p_value(kept, z)
    survives = None
    if np.isfinite([low, spline]).all():
        survives = bool((low > 0 or high < 0) and spline <= 1 - claim.level)
    partial = Effect(name, found.value, low, high)
    return Control(
        claim.control, partial, losses, accuracies, note, spline, survives, _at_each_level(kept, z, claim)
    )


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


def loss_levels(losses: Floats) -> Integers:
    """Return the level that each training loss belongs to, numbered upwards; all zero where there is one.

    A level ends where the next larger loss is more than `APART` times as large. Losses that spread without a gap, or
    wider within a level than that factor, are one level.

    >>> loss_levels(np.array([0.1, 0.011, 0.01, 0.105])).tolist()
    [1, 0, 0, 1]
    """
    one = np.zeros(len(losses), dtype=np.int64)
    if not (losses > 0).all():
        return one
    order = np.argsort(losses, kind="stable")
    logs = np.log(losses[order])
    level = np.concatenate([[0], np.cumsum(np.diff(logs) > log(APART))])
    if any(np.ptp(logs[level == index]) > log(APART) for index in np.unique(level)):
        return one
    found = one.copy()
    found[order] = level
    return found


def _at_each_level(relation: Relation, z: Floats, claim: BaseClaim) -> tuple[Effect, ...]:
    """Return the rank correlation within blocks among the runs of each level of loss, where there are several."""
    level = loss_levels(z)
    names = np.unique(level)
    if claim.control != "train_loss" or not 1 < len(names) <= 6:
        return ()
    found = []
    for name in names:
        here = level == name
        if here.sum() >= FEWEST_AT_A_LEVEL:
            part = _rows_of(relation, here)
            value = float(rank_correlations(part, z[here])[0, 0])
            found.append(
                Effect(
                    f"rank correlation of {int(here.sum())} runs at a loss of {np.median(z[here]):.3g}", value
                )
            )
    return tuple(found)


def _rows_of(relation: Relation, keep: np.ndarray) -> Relation:
    columns = (relation.x, relation.y, relation.blocks, relation.clusters)
    return Relation(relation.rows[keep], *(values[keep] for values in columns))
