"""Verdicts in words, for the page of a study and for the index of several."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from sharpscope.analysis.claims.verdict import Control, Effect, Verdict
from sharpscope.report.numbers import number


def verdict_rows(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """Return what a page prints of each verdict, in words."""
    return [
        {
            "id": v.id,
            "statement": v.statement,
            "verdict": v.verdict,
            "scale": "" if v.scale == "own" else v.scale,
            "effect": "" if v.effect is None else effect_words(v.effect),
            "reason": v.reason,
            "control": "" if v.control is None else _control(v.control),
            "confounds": list(v.confounds),
            "would_change": v.would_change,
        }
        for v in verdicts
    ]


def effect_words(effect: Effect) -> str:
    """Return an effect with its unit and interval.

    >>> effect_words(Effect("slope", 0.5, 0.25, 0.75, "per decade"))
    'slope 0.5 per decade [0.25, 0.75]'
    """
    interval = f" [{number(effect.low)}, {number(effect.high)}]" if isfinite(effect.low) else ""
    return f"{effect.name} {number(effect.value)}{f' {effect.unit}' if effect.unit else ''}{interval}"


def _control(control: Control) -> str:
    said = []
    if control.partial is not None:
        said.append(f"Given {control.given}: {effect_words(control.partial)}.")
    if isfinite(control.losses[0]):
        said.append(f"Training losses of {number(control.losses[0])} to {number(control.losses[1])}.")
    if isfinite(control.accuracies[0]):
        said.append(
            f"Training accuracies of {number(control.accuracies[0])} to {number(control.accuracies[1])}."
        )
    return " ".join([*said, *([control.note] if control.note else [])])
