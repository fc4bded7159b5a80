"""Sentences on what may explain a finding other than the claim."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sharpscope.analysis.caveats import UNEQUAL_LOSSES, UNTRAINED, untrained
from sharpscope.analysis.claims.control import extent, last_of_each
from sharpscope.analysis.claims.expression import evaluate_expression
from sharpscope.analysis.claims.finding import Finding
from sharpscope.analysis.claims.ranks_within import rank_correlations
from sharpscope.analysis.tables import finished, unfinished

FEW_SEEDS = 3
"""A finding from this many seeds or fewer says so: Student's 97.5 % quantile is then 4.3 or more, instead of 2."""

STRONG = 0.5
"""A rank correlation of training loss with the claim's quantity beyond this is worth a sentence."""


def confounds(finding: Finding, cluster: str) -> tuple[str, ...]:
    """Return the sentences a reader must know beside a finding, gravest first."""
    runs = last_of_each(finding.rows)
    return (
        *finding.notes,
        *_divergence(finding.selected),
        *_untrained(runs),
        *_unequal_losses(finding, runs),
        *_stopping(runs),
        *_seeds(finding.clusters, cluster, runs),
        *(
            f"The seeds {', '.join(seeds)} have the same values in every setting, to the last digit: if they are "
            "copies, they count as one."
            for seeds in _alike(finding)
        ),
    )


def _divergence(selected: pd.DataFrame) -> Iterator[str]:
    if "status" not in selected.columns or "run_id" not in selected.columns:
        return
    runs = selected.drop_duplicates("run_id")
    done = finished(runs)
    if done.all():
        return
    texts = [
        f"{words} and {'is' if words.startswith('1 ') else 'are'} left out"
        for words in unfinished(runs).values()
    ]
    if texts and "configuration" in runs.columns:
        lost = runs["configuration"].nunique() - runs["configuration"][done].nunique()
        if lost:
            texts[-1] += f"; {lost} setting{'' if lost == 1 else 's'} never finished"
    yield from (f"{text}." for text in texts)


def _untrained(runs: pd.DataFrame) -> Iterator[str]:
    if bad := int(untrained(runs).sum()):
        yield (
            f"{bad} of {len(runs)} runs learned next to nothing: their training loss is no more than "
            f"{1 - UNTRAINED:.0%} below that of one answer to every sample."
        )


def _unequal_losses(finding: Finding, runs: pd.DataFrame) -> Iterator[str]:
    low, high = extent(runs, "train_loss")
    if not (np.isfinite([low, high]).all() and high > UNEQUAL_LOSSES * low):
        return
    factor = f", a factor of {high / low:.3g}" if low > 0 else ""
    several = "configuration" in runs.columns and runs["configuration"].nunique() > 1
    who = "settings compared" if several else "runs"
    text = f"The {who} stopped at unequal training losses, from {low:.3g} to {high:.3g}{factor}"
    relation = finding.relation
    if relation is not None and "train_loss" in relation.rows.columns:
        z = evaluate_expression("train_loss", relation.rows)
        if np.isfinite(z).all():
            r = rank_correlations(relation, z)[0, 1]
            if abs(r) > STRONG:
                text += f", and the loss goes with what is compared (rank correlation {r:+.2f})"
    yield f"{text}."


def _stopping(runs: pd.DataFrame) -> Iterator[str]:
    if "epochs" in runs.columns:
        epochs = pd.to_numeric(runs["epochs"], errors="coerce").dropna()
        if len(epochs) and epochs.min() < epochs.max():
            yield f"The runs trained for unequal times, from {epochs.min():g} to {epochs.max():g} epochs."
    if "stop_reason" in runs.columns:
        reasons = runs["stop_reason"].dropna().astype(str).value_counts(sort=False).sort_index()
        if len(reasons) > 1:
            listed = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
            yield f"The runs stopped for different reasons: {listed}."


def _seeds(clusters: int, cluster: str, runs: pd.DataFrame) -> Iterator[str]:
    if cluster != "seed" and "seed" in runs.columns and runs["seed"].nunique() == 1:
        yield "All runs share one seed, so that nothing is known of others."
    if 0 < clusters <= FEW_SEEDS:
        yield f"Only {clusters} {cluster}{'' if clusters == 1 else 's'}."


def _alike(finding: Finding) -> Iterator[list[str]]:
    """Return each group of seeds whose values are equal in all of two or more settings."""
    relation = finding.relation
    if relation is None or not {"configuration", "seed"} <= set(relation.rows.columns):
        return
    table = relation.rows[["configuration", "seed"]].assign(y=relation.y)
    wide = table.groupby(["seed", "configuration"])["y"].mean().unstack()  # a row per seed
    wide = wide[wide.nunique(axis=1) > 1]
    alike: dict[bytes, list[str]] = {}
    for seed, values in zip(wide.index, wide.to_numpy(dtype=np.float64), strict=True):
        alike.setdefault(values.tobytes(), []).append(f"{seed:g}" if isinstance(seed, float) else str(seed))
    yield from (seeds for seeds in alike.values() if len(seeds) > 1)


def caveat_of(finding: Finding, cluster: str, look: str) -> str:
    """Return in a few words what must be known beside a verdict's word, gravest first; "" where nothing must."""
    runs = last_of_each(finding.rows)
    found = []
    if look.startswith("unplanned"):
        found.append(look)
    if bad := int(untrained(runs).sum()):
        found.append(f"{bad} of {len(runs)} runs untrained")
    selected = finding.selected
    if {"status", "run_id"} <= set(selected.columns):
        all_runs = selected.drop_duplicates("run_id")
        found += unfinished(all_runs).values()
    low, high = extent(runs, "train_loss")
    if np.isfinite([low, high]).all() and high > UNEQUAL_LOSSES * low:
        found.append("unequal training losses")
    if 0 < finding.clusters <= FEW_SEEDS:
        found.append(f"{finding.clusters} {cluster}{'' if finding.clusters == 1 else 's'}")
    found += [f"seeds {', '.join(seeds)} alike" for seeds in _alike(finding)]
    return "; ".join(found)
