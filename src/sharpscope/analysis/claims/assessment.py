"""From claims and tables to verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from sharpscope.analysis.claims.confounds import caveat_of, confounds
from sharpscope.analysis.claims.control import control_of, last_of_each
from sharpscope.analysis.claims.evidence import Evidence
from sharpscope.analysis.claims.finding import Finding, Named, NotEvaluable, sides
from sharpscope.analysis.claims.judgement import Judgement, conjunction
from sharpscope.analysis.claims.kinds import Conjunction, Single
from sharpscope.analysis.claims.looks import Looks, Rule
from sharpscope.analysis.claims.requirements import TRAINED, check_requires, missed, required_columns
from sharpscope.analysis.claims.verdict import NAN, Verdict, Word, with_false_discovery
from sharpscope.analysis.claims.what_would_change import would_change
from sharpscope.errors import InputError


def assess(
    claims: Sequence[Single | Conjunction],
    evidence: Evidence,
    scale: str = "",
    *,
    requires: Mapping[str, Any] | None = None,
    looks: Looks | None = None,
) -> list[Verdict]:
    """Return a verdict per claim, in their order; ``scale`` is passed through.

    ``requires``: what the runs must have reached (`check_requires`), for claims that do not say so themselves;
    where neither does, a training loss clearly below that of one answer to every sample, if the table has both.
    ``looks``: the looks taken at these runs while seeds were added. Missing tables, columns or runs make a claim
    ``not evaluable`` and are never an error. The same claims and tables give the same verdicts, whatever the order
    of the rows.
    """
    context = _Context(evidence, scale, None if requires is None else check_requires(requires), looks)
    verdicts = [
        context.of_all(claim) if isinstance(claim, Conjunction) else context.of_one(claim) for claim in claims
    ]
    return with_false_discovery(verdicts)


class _Context:
    """What all claims of one assessment share."""

    def __init__(
        self, evidence: Evidence, scale: str, requires: dict[str, Any] | None, looks: Looks | None
    ) -> None:
        self._evidence, self._scale, self._requires, self._looks = evidence, scale, requires, looks

    def of_one(self, claim: Single) -> Verdict:
        rule = Rule(claim.level, self._looks)
        try:
            finding = claim.find(self._evidence)
            untrained = self._untrained(claim, finding)
        except NotEvaluable as missing:
            return self._without(claim, "not evaluable", str(missing), "Runs that it is about would.")
        unit = finding.unit or claim.cluster
        word: Word
        level = rule.interval_level
        effect = replace(finding.effect, estimate=rule.of(finding.effect.estimate))
        shown = effect.effect(level)
        checks = tuple(replace(check, estimate=rule.of(check.estimate)) for check in finding.checks)
        if untrained:
            word, reason, p = "not evaluable (untrained)", untrained, NAN
            change = "Runs that trained would: for longer, at other rates, or on fewer images."
        elif finding.settled is not None:
            (word, reason), p = finding.settled, NAN
            change = finding.would_change or would_change(checks, level, unit)
        else:
            judged = Judgement(
                checks=checks,
                rule=rule,
                effect=effect,
                never=tuple(replace(check, estimate=rule.of(check.estimate)) for check in finding.never),
                held_back=finding.held_back,
                matters=claim.matters,
            )
            word, reason, p, shown = judged.word, judged.reason(unit), judged.p_value, judged.shown()
            change = finding.would_change if word == "inconclusive" else ""
            change = change or judged.would_change(unit)
        others = [
            replace(other, estimate=rule.of(other.estimate)).effect(level)
            if isinstance(other, Named)
            else other
            for other in (effect, *finding.others)
        ]
        return Verdict(
            id=claim.id,
            statement=claim.statement,
            kind=claim.kind,
            verdict=word,
            reason=reason,
            effect=shown,
            others=tuple(other for other in others if other.name != shown.name),
            rows=len(finding.rows),
            clusters=finding.clusters,
            scale=self._scale,
            control=control_of(claim, finding),
            confounds=confounds(finding, unit),
            would_change=change,
            p_value=p,
            caveat=caveat_of(finding, unit, self._look()),
            level=level,
            look=self._look(),
            sides=sides(checks),
        )

    def of_all(self, claim: Conjunction) -> Verdict:
        """Return the verdict on a conjunction; effect and control are those of the part that decides it."""
        parts = []
        for number, part in enumerate(claim.claims, 1):
            update: dict[str, Any] = {
                "id": part.id or f"{claim.id}.{number}",
                "statement": part.statement or f"Part {number} of {len(claim.claims)}: {part.kind}.",
                "where": {**claim.where, **part.where},
            }
            if part.requires is None and claim.requires is not None:
                update["requires"] = claim.requires
            parts.append(self.of_one(part.model_copy(update=update)))
        word, reason, deciding, p = conjunction(parts, 1 - min(part.level for part in claim.claims))
        return replace(
            deciding,
            id=claim.id,
            statement=claim.statement,
            kind=claim.kind,
            verdict=word,
            reason=reason,
            p_value=p,
            caveat=deciding.caveat,
            confounds=tuple(dict.fromkeys(sentence for part in parts for sentence in part.confounds)),
            parts=tuple(parts),
        )

    def _look(self) -> str:
        return "" if self._looks is None else self._looks.words()

    def _untrained(self, claim: Single, finding: Finding) -> str:
        """Return why the runs compared did not train as required; "" where they did."""
        requires = claim.requires if claim.requires is not None else self._requires
        runs = last_of_each(finding.rows)
        results = self._evidence.results
        if "run_id" in runs.columns and "run_id" in results.columns:
            # What a run reached is what it had at its end, also where the claim is about its epochs.
            runs = results[results["run_id"].isin(set(runs["run_id"]))]
        if requires is None:
            known = set(required_columns(TRAINED)) <= set(runs.columns) and claim.kind != "invariance"
            known = known and bool(pd.to_numeric(runs["constant_loss"], errors="coerce").notna().all())
            requires = TRAINED if known else {}
        try:
            return missed(runs, requires)
        except InputError as error:
            raise NotEvaluable(f"{error} among the runs, and the claim requires it") from error

    def _without(self, claim: Single, word: Word, reason: str, change: str) -> Verdict:
        return Verdict(
            id=claim.id,
            statement=claim.statement,
            kind=claim.kind,
            verdict=word,
            reason=_sentence(reason),
            effect=None,
            others=(),
            rows=0,
            clusters=0,
            scale=self._scale,
            control=None,
            confounds=(),
            would_change=change,
            look=self._look(),
        )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
