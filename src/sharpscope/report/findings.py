"""What was found, in plain sentences: the main finding with its interval and control, and verdicts on claims."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from sharpscope.analysis.claims.verdict import Control, Effect, Verdict
from sharpscope.report.numbers import coefficient, counted, interval, listed, name_of, number, probability
from sharpscope.report.outcomes import pick


@dataclass(frozen=True)
class MeasureFinding:
    """What was found of one measure: its title, τ_b, and what becomes of it given training loss."""

    title: str
    tau: str
    meaning: str
    control: str


@dataclass(frozen=True)
class OutcomeFinding:
    """What was found about one outcome: a headline, a line per measure, and how to take it."""

    target: str
    headline: str
    lines: tuple[MeasureFinding, ...]
    conclusion: str


def findings(
    found: pd.DataFrame, targets: Sequence[str], titles: Mapping[str, str], given: str = "train_loss"
) -> list[OutcomeFinding]:
    """Return a finding per target, measures in order of the size of their τ_b.

    A measure is said to correlate where the 95 % interval of its τ_b leaves out zero, and to do so beyond
    training loss only where the partial τ_b and the partial ρ both do, with the same sign: τ_b alone leaves
    a remainder where the control explains everything (see `Partial`).
    """
    return [finding for target in targets if (finding := _finding(found, target, titles, given)) is not None]


def _finding(
    found: pd.DataFrame, target: str, titles: Mapping[str, str], given: str
) -> OutcomeFinding | None:
    rows = found[(found["target"] == target) & (found["given"] == "") & (found["method"] == "kendall")]
    rows = rows[np.isfinite(rows["value"])]
    if not len(rows):
        return None
    rows = rows.reindex(rows["value"].abs().sort_values(ascending=False, kind="stable").index)
    outcome = name_of(target)
    higher = "a larger gap" if target == "gap" else f"a higher {outcome}"
    lower = "a smaller gap" if target == "gap" else f"a lower {outcome}"
    outcome = f"the {outcome}" if target == "gap" else outcome
    lines, clear, beyond = [], [], []
    for _, row in rows.iterrows():
        measure = str(row["measure"])
        title = titles.get(measure, measure)
        low, high = float(row["low"]), float(row["high"])
        spread = interval(low, high)
        tau = f"τ_b = {coefficient(float(row['value']))}{f' {spread}' if spread else ', no interval'}"
        sign = int(low > 0) - int(high < 0)
        if sign:
            clear.append(title)
            meaning = f"higher values go with {higher if sign > 0 else lower}"
        elif spread:
            meaning = "no clear relation: the interval includes zero"
        else:
            meaning = "too few independent runs to say"
        control, kept = _control(found, measure, target, given, sign)
        if kept:
            beyond.append(title)
        lines.append(MeasureFinding(title, tau, meaning, control))
    n, clusters = int(rows["n"].max()), int(rows["clusters"].max())
    of = (
        f"{counted(n, 'run')} in {counted(clusters, 'independent group')}"
        if clusters < n
        else counted(n, "run")
    )
    total = counted(len(rows), "measure")
    if not np.isfinite(rows["low"]).any():
        headline = f"{of} are too few to say whether any measure goes with {outcome}."
    elif len(rows) == 1:
        headline = f"{lines[0].title} {'goes' if clear else 'does not clearly go'} with {outcome}."
    elif not clear:
        headline = f"None of {total} clearly goes with {outcome}."
    else:
        headline = f"{len(clear)} of {total} {'goes' if len(clear) == 1 else 'go'} with {outcome}."
    return OutcomeFinding(target, headline, tuple(lines), _conclusion(clear, beyond, outcome, of, given))


def _control(found: pd.DataFrame, measure: str, target: str, given: str, sign: int) -> tuple[str, bool]:
    """Return what the control leaves of a correlation, in words, and whether it leaves it standing."""
    control = name_of(given)
    tau = pick(found, measure, target, given, "kendall")
    rho = pick(found, measure, target, given, "spearman")
    if tau is None or rho is None or not np.isfinite([tau["value"], rho["value"]]).all():
        why = "" if tau is None else str(tau["note"])
        return f"given {control}: not available{f' ({why})' if why else ''}", False
    value = f"given {control} {coefficient(tau['value'])} {interval(tau['low'], tau['high'])}".rstrip()
    signs = {int(row["low"] > 0) - int(row["high"] < 0) for row in (tau, rho)}
    if not np.isfinite([tau["low"], rho["low"]]).all():
        return value, False
    if len(signs) > 1 or signs == {0}:
        if not sign:
            return f"{value}, unclear too", False
        rest = (
            ""
            if 0 not in signs or len(signs) == 1
            else f" (partial ρ {coefficient(rho['value'])} {interval(rho['low'], rho['high'])})"
        )
        return f"{value}{rest}: no longer clear", False
    kept = signs.pop()
    if not sign:
        return f"{value}: clear only with the control", False
    return (f"{value}: still there", True) if kept == sign else (f"{value}: the sign turns round", False)


def _conclusion(clear: list[str], beyond: list[str], outcome: str, of: str, given: str) -> str:
    control = name_of(given)
    basis = f"From {of}; each interval is 95 % on its own, not jointly."
    if not clear:
        return basis
    if not beyond:
        kept = "it does" if len(clear) == 1 else "any of them does"
        return f"Among runs of equal {control} it is not clear that {kept}. {basis}"
    verb = "does" if len(beyond) == 1 else "do"
    if len(beyond) == len(clear):
        who = (
            "It still does"
            if len(clear) == 1
            else ("Both still do" if len(clear) == 2 else f"All {len(clear)} still do")
        )
        return f"{who} among runs of equal {control}. {basis}"
    return f"Among runs of equal {control} only {listed(beyond)} still {verb}. {basis}"


def verdict_rows(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return what a page prints of each verdict, in words; ``parts`` are those of a claim that has several."""
    return [
        {
            "id": v.id,
            "anchor": re.sub(r"[^\w.-]+", "-", v.id),
            "statement": v.statement,
            "verdict": v.verdict,
            "caveat": v.caveat,
            "scale": "" if v.scale == "own" else v.scale,
            "effect": "" if v.effect is None else effect_words(v.effect),
            "reason": v.reason,
            "sureness": _sureness(v),
            "control": "" if v.control is None else _control_words(v.control),
            "confounds": list(v.confounds),
            "would_change": v.would_change,
            "parts": verdict_rows(v.parts),
        }
        for v in verdicts
    ]


def verdicts_summary(verdicts: Sequence[Verdict]) -> str:
    """Return how many claims came to which verdict, in one sentence.

    >>> verdicts_summary([])
    ''
    """
    counts: dict[str, int] = {}
    for verdict in verdicts:
        counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
    if not counts:
        return ""
    said = listed([f"{n} {word}" for word, n in sorted(counts.items(), key=lambda pair: -pair[1])])
    return f"{counted(len(verdicts), 'claim')}: {said}."


def _sureness(verdict: Verdict) -> str:
    """Say how sure a verdict is: its p-value, alone and among all claims, the level of its intervals, the look."""
    said = []
    if isfinite(verdict.p_value):
        among = f", q = {probability(verdict.q_value)}" if isfinite(verdict.q_value) else ""
        said.append(f"p = {probability(verdict.p_value)}{among}")
    if verdict.effect is not None and isfinite(verdict.effect.low):
        said.append(f"{'interval' if said else 'Interval'} at {number(100 * verdict.level, 3)} %")
    said += [verdict.look] if verdict.look else []
    text = "; ".join(said).replace("= <", "< ")
    return f"{text}." if text else ""


def effect_words(effect: Effect) -> str:
    """Return an effect with its unit and interval.

    >>> effect_words(Effect("slope", 0.5, 0.25, 0.75, "per decade"))
    'slope 0.5 per decade [0.25, 0.75]'
    """
    interval = f" [{number(effect.low)}, {number(effect.high)}]" if isfinite(effect.low) else ""
    return f"{effect.name} {number(effect.value)}{f' {effect.unit}' if effect.unit else ''}{interval}"


def _control_words(control: Control) -> str:
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
