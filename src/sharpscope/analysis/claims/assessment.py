"""From claims and tables to verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isinf

from sharpscope.analysis.claims.confounds import confounds
from sharpscope.analysis.claims.control import control_of
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.finding import Check, NotEvaluable
from sharpscope.analysis.claims.kinds import Conjunction, Single
from sharpscope.analysis.claims.verdict import Verdict, Word
from sharpscope.analysis.claims.what_would_change import would_change


def assess(claims: Sequence[Single | Conjunction], evidence: Evidence, scale: str = "") -> list[Verdict]:
    """Return a verdict per claim, in their order; ``scale`` is passed through.

    Missing tables, columns or runs make a claim ``not evaluable`` and are never an error. The same claims and
    tables give the same verdicts, whatever the order of the rows.
    """
    return [
        _of_all(claim, evidence, scale) if isinstance(claim, Conjunction) else _of_one(claim, evidence, scale)
        for claim in claims
    ]


def _of_one(claim: Single, evidence: Evidence, scale: str) -> Verdict:
    try:
        finding = claim.find(evidence)
    except NotEvaluable as missing:
        return Verdict(
            id=claim.id,
            statement=claim.statement,
            kind=claim.kind,
            verdict="not evaluable",
            reason=_sentence(str(missing)),
            effect=None,
            others=(),
            rows=0,
            clusters=0,
            scale=scale,
            control=None,
            confounds=(),
            would_change="Runs that it is about would.",
        )
    unit = finding.unit or claim.cluster
    word, reason = finding.settled or _combined(finding.checks, unit)
    return Verdict(
        id=claim.id,
        statement=claim.statement,
        kind=claim.kind,
        verdict=word,
        reason=reason,
        effect=finding.effect,
        others=finding.others,
        rows=len(finding.rows),
        clusters=finding.clusters,
        scale=scale,
        control=control_of(claim, finding),
        confounds=confounds(finding, unit),
        would_change=finding.would_change or would_change(finding.checks, claim.level, unit),
    )


def _of_all(claim: Conjunction, evidence: Evidence, scale: str) -> Verdict:
    """Return the verdict on a conjunction; effect and control are those of the part that decides it."""
    parts = []
    for number, part in enumerate(claim.claims, 1):
        where = {**claim.where, **part.where}
        named = part.model_copy(update={"id": part.id or f"{claim.id}.{number}", "where": where})
        parts.append(_of_one(named, evidence, scale))
    words = [part.verdict for part in parts]
    word: Word = "inconclusive"
    if "contradicted" in words:
        word = "contradicted"
    elif set(words) == {"supported"}:
        word = "supported"
    elif set(words) == {"not evaluable"}:
        word = "not evaluable"
    deciding = next((part for part in parts if part.verdict == word), None)
    deciding = deciding or next(part for part in parts if part.verdict != "supported")
    if word == "supported":
        reason = f"All {len(parts)} parts are supported."
    else:
        reason = f"Part {deciding.id} is {deciding.verdict}: {deciding.reason}"
    return replace(
        deciding,
        id=claim.id,
        statement=claim.statement,
        kind=claim.kind,
        verdict=word,
        reason=reason,
        confounds=tuple(dict.fromkeys(sentence for part in parts for sentence in part.confounds)),
        parts=tuple(parts),
    )


def _combined(checks: tuple[Check, ...], cluster: str) -> tuple[Word, str]:
    """Return the verdict of checks that must all hold, and why."""
    outcomes = [check.outcome() for check in checks]
    for word in _GRAVEST_FIRST:
        if word in outcomes:
            return word, _why(checks[outcomes.index(word)], word, cluster)
    return "supported", " ".join(_why(check, "supported", cluster) for check in checks)


_GRAVEST_FIRST: tuple[Word, ...] = ("contradicted", "inconclusive")


def _why(check: Check, word: Word, cluster: str) -> str:
    found = check.estimate
    if not found.has_interval:
        few = f"a single {cluster} gives" if found.clusters == 1 else f"too few {cluster}s give"
        return _sentence(f"{few} the {check.name} no interval")
    place = {"supported": "lies", "contradicted": "does not lie"}.get(word, "lies only partly")
    if isinf(check.low) or isinf(check.high):
        claimed = f"below {check.high:.3g}" if isinf(check.low) else f"above {check.low:.3g}"
    else:
        claimed = f"between {check.low:.3g} and {check.high:.3g}"
    return f"The interval of the {check.name}, {found.low:.3g} to {found.high:.3g}, {place} {claimed}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
