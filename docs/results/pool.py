"""The page on the pool of models: does a larger batch flatten, and what predicts the gap, by every measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sharpscope.analysis.claims import Evidence, assess, read_claims
from sharpscope.analysis.claims.verdict import Effect
from sharpscope.analysis.league import league
from sharpscope.report.numbers import number

WAYS = {"supported": "**flattens**", "contradicted": "**sharpens**", "negligible": "changes it too little"}


def does_a_larger_batch_flatten(results: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """Return the page that asks it of every measure on the same models, with training loss held fixed and not.

    By every measure the trend over batch size is judged like any claim: within each optimizer and rate.
    """
    evidence = Evidence(results)
    after = list(results.columns)[list(results.columns).index("gap") + 1 :]
    measures = [name for name in after if not name.endswith("_stderr")]
    lines = [
        "# Does a larger batch flatten?",
        "",
        f"The same models, every measure ({record['key']}, scale {record['scale']}).",
        "",
        record["note"].strip(),
        "",
        "The ratio of the measure from the smallest to the largest batch, among runs of one seed, optimizer and",
        "learning rate: below 1 the larger batch ends flatter, above 1 sharper. Intervals: 95 %, honest for the",
        "number of seeds.",
        f"The last column is a rank correlation with the training loss held fixed. {_where_runs_stopped(results)}",
        "",
    ]
    for title, where in (("SGD", {"optimizer": "sgd"}), ("Every optimizer", {})):
        lines += [
            f"## {title}",
            "",
            "| measure | ratio over the batch sizes | a larger batch | rank correlation given training loss |",
            "|---|---|---|---|",
        ]
        for measure in measures:
            claim = {
                "id": measure,
                "statement": "A larger batch flattens.",
                "kind": "trend",
                "matters": 0.1,
                "x": "batch_size",
                "y": measure,
                "direction": "falling",
                "within": ["optimizer", "lr"],
                "where": where,
            }
            (verdict,) = assess(
                read_claims([claim]), evidence, record["scale"], requires=record["requires"] or None
            )
            partial = "" if verdict.control is None else verdict.control.note
            if verdict.control is not None and verdict.control.partial is not None:
                partial = _interval(verdict.control.partial)
            effect = "" if verdict.effect is None else _interval(verdict.effect)
            way = WAYS.get(verdict.verdict, verdict.verdict)
            lines.append(f"| {measure} | {effect} | {way} | {partial} |")
        lines.append("")
    axes = [axis for axis in ("optimizer", "lr", "batch_size") if results[axis].nunique() > 1]
    lines += [
        "## Which measure predicts the generalisation gap?",
        "",
        "First comes the measure whose τ_b stays furthest from zero with certainty. Sign error: of the changes of",
        "one setting, the share in which measure and gap move apart, on average and at worst.",
        "",
        "| rank | measure | τ_b | granulated τ | partial τ given training loss | sign error (worst) |",
        "|---|---|---|---|---|---|",
    ]
    for row in league(results, measures, axes).to_dict("records"):
        cells = [_cell(row, name) for name in ("tau", "granulated", "partial_tau")]
        ranks = f"{row['rank']} [{row['rank_low']}, {row['rank_high']}]"
        sign = f"{number(row['sign_error'], 2)} ({number(row['worst_sign_error'], 2)})"
        lines.append(f"| {ranks} | {row['measure']} | {' | '.join(cells)} | {sign} |")
    return "\n".join(lines) + "\n"


def _where_runs_stopped(runs: pd.DataFrame) -> str:
    """Say how far the control by a common training loss reaches: which runs met it, and where the others ended."""
    short = runs.loc[runs["stop_reason"] != "train_loss", "train_loss"]
    line = (
        f"{len(runs) - len(short)} of {len(runs)} runs stopped as soon as an epoch ended below the same loss"
    )
    if short.empty:
        return f"{line}, so what can still vary is how far below."
    low, high = number(float(short.min())), number(float(short.max()))
    return f"{line}; the others ended above it, at {low} to {high}."


def _cell(row: dict[Any, Any], name: str) -> str:
    return _interval(Effect(name, row[name], row[f"{name}_low"], row[f"{name}_high"]))


def _interval(effect: Effect) -> str:
    ends = f" [{number(effect.low, 2)}, {number(effect.high, 2)}]" if math.isfinite(effect.low) else ""
    return f"{number(effect.value, 2)}{ends}" if math.isfinite(effect.value) else "–"
