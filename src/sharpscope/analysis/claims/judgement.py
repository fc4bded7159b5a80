"""From checks to a verdict's word, p-value and reason: of one claim, and of several that must all hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, isinf, isnan

from sharpscope.analysis.claims.finding import Check, Named, correction, within
from sharpscope.analysis.claims.looks import Rule
from sharpscope.analysis.claims.verdict import NAN, Effect, Verdict, Word
from sharpscope.analysis.claims.what_would_change import would_change


@dataclass(frozen=True)
class Judgement:
    """The checks of one claim, and what they say of it.

    ``checks`` must all hold. ``never`` and ``held_back`` are those of a `Finding`. ``rule`` says how sure the claim
    must be. ``matters``: the smallest ``effect`` of interest, None where none is declared.

    - Supported where all checks are: that needs no correction for their number (Berger, *Multiparameter hypothesis
      testing and acceptance sampling*, Technometrics 24, 1982).
    - Contradicted where any check is, its p-value multiplied by the `correction` for their number.

    One check decides, and its number is `shown`: of several the weakest, which lies least on the claimed side.
    """

    checks: tuple[Check, ...]
    rule: Rule
    effect: Named
    never: tuple[Check, ...] = ()
    held_back: str = ""
    matters: float | None = None

    @property
    def p_supported(self) -> float:
        """The smallest α at which the claim would be supported, NaN where a check has no interval."""
        found = [self.rule.p_value(check.p_supported) for check in self.checks]
        return NAN if _unknown(found) else max(found)

    @property
    def p_contradicted(self) -> float:
        """The smallest α at which the claim would be contradicted by a check."""
        found = [check.p_contradicted for check in self.checks]
        return NAN if _unknown(found) else self.rule.p_value(min(1.0, correction(self.checks) * min(found)))

    @cached_property
    def within(self) -> tuple[Check, ...]:
        """The checks against what matters."""
        return within(self.checks, self.effect, self.matters)

    @property
    def p_negligible(self) -> float:
        """The smallest α at which all that is checked would be within what matters; 1 where that is not declared."""
        return max((self.rule.p_value(check.p_supported) for check in self.within), default=1.0)

    @cached_property
    def word(self) -> Word:
        """The verdict."""
        alpha = 1 - self.rule.level
        if _unknown([self.p_supported]):
            return "inconclusive"
        if self.p_negligible <= alpha:
            return "negligible"
        if self.p_contradicted <= alpha:
            return "contradicted"
        if self.p_supported <= alpha:
            if self._contrary():
                return "contradicted"
            return "inconclusive" if self.held_back else "supported"
        return "inconclusive"

    @property
    def p_value(self) -> float:
        """The smallest α at which the claim would be decided one way or the other."""
        word = self.word
        if word == "negligible":
            return self.p_negligible
        if word == "contradicted" and self.p_contradicted > 1 - self.rule.level:
            return max(self.p_supported, self.rule.p_value(self._contrary()[0].p_supported))
        if word == "inconclusive" and self.held_back:
            return max(self.p_contradicted, self.p_supported)
        return min(self.p_supported, self.p_contradicted)

    @property
    def deciding(self) -> Check | None:
        """The check that the verdict rests on, one without an interval if there is one; None: the effect itself."""
        word = self.word
        if _unknown([self.p_supported]):
            return None if self._is_effect() else self._without_interval()[0]
        if word == "negligible":
            return max(self.within, key=lambda check: check.p_supported)
        if word == "contradicted" and self.p_contradicted > 1 - self.rule.level:
            return self._contrary()[0]
        return None if self._is_effect() else self._weakest()

    def shown(self) -> Effect:
        """Return the number that decides, with an interval that leaves out a threshold exactly where it decides."""
        check = self.deciding
        if check is None or (self._is_effect() and check not in self.never):
            return self.effect.effect(self.rule.interval_level)
        return Effect(check.name, check.estimate.value, *self._ends(check))

    def would_change(self, cluster: str) -> str:
        """Return what would change the verdict, in a sentence; see `would_change`."""
        level, check = self.rule.interval_level, self.deciding
        if check is None or self.word == "inconclusive":
            return would_change(self.checks, level, cluster, self.within)
        corrected = self.word == "contradicted" and check in self.checks
        return would_change(
            (check,), 1 - (1 - level) / correction(self.checks) if corrected else level, cluster
        )

    def reason(self, cluster: str) -> str:
        """Return why, in a sentence."""
        word, check = self.word, self.deciding
        if word == "negligible" and check is not None:
            return self._why(check, cluster)
        if check is not None and check in self.never:
            low, high = self._ends(check)
            return (
                f"End to end the claim holds, but the {check.name} goes the other way, "
                f"{check.estimate.value:.3g} [{low:.3g}, {high:.3g}]: a hump."
            )
        if word == "supported":
            return " ".join(self._why(check, cluster) for check in self.checks)
        if self.held_back and self.p_supported <= 1 - self.rule.level:
            return self.held_back
        return self._why((self._without_interval() or [self._weakest()])[0], cluster)

    def _is_effect(self) -> bool:
        """Return whether the only check is of the effect itself."""
        return [check.name for check in self.checks] == [self.effect.name]

    def _without_interval(self) -> list[Check]:
        return [check for check in self.checks if check.estimate.confidence is None]

    def _weakest(self) -> Check:
        return max(self.checks, key=lambda check: (check.p_supported, -check.p_contradicted))

    def _ends(self, check: Check) -> tuple[float, float]:
        """Return the interval of a check; of m > 2 the end away from the threshold is that of level 1 - 2α/m.

        With that end the weakest of several contradicts, and being picked as the weakest biases it to that side. The
        end towards the threshold needs no correction, and where all checks are supported both of a range hold (Hsu &
        Berger, *Stepwise confidence intervals without multiplicity adjustment*, JASA 94, 1999).
        """
        level, times = self.rule.interval_level, correction(self.checks)
        low, high = check.estimate.interval(level)
        if times == 1 or check not in self.checks:
            return low, high
        wide = check.estimate.interval(1 - (1 - level) / times)
        supported = self.word == "supported"
        if isnan(wide[0]):  # a confidence sequence whose clusters are too few for the corrected level
            return (low, high) if supported else wide
        nearer = check.estimate.below(check.low) - check.estimate.above(check.high)
        if isinf(check.high) or (isfinite(check.low) and nearer > 0):
            return low, min(wide[1], check.high) if supported else wide[1]
        return max(wide[0], check.low) if supported else wide[0], high

    def _contrary(self) -> list[Check]:
        """Return the checks that contradict although the others hold, the clearest first."""
        found = [check for check in self.never if self.rule.p_value(check.p_supported) <= 1 - self.rule.level]
        return sorted(found, key=lambda check: check.p_supported)

    def _why(self, check: Check, cluster: str) -> str:
        found, word = check.estimate, self.word
        low, high = self._ends(check)
        if low != low:
            if found.alike:
                return (
                    f"All {found.clusters} {cluster}s give the {check.name} the same value to the last digit, so "
                    f"that nothing says how far others would lie: it takes {found.needed} that agree, or a spread."
                )
            if 1 < found.clusters < found.needed:
                return (
                    f"{found.clusters} {cluster}s give the {check.name} no interval that holds its level: "
                    f"it takes {found.needed}."
                )
            few = f"A single {cluster} gives" if found.clusters == 1 else f"Too few {cluster}s give"
            level = "" if found.confidence is None else f" of {100 * self.rule.interval_level:.1f} %"
            return f"{few} the {check.name} no interval{level}."
        place = {"supported": "lies", "negligible": "lies", "contradicted": "does not lie"}.get(
            word, "lies only partly"
        )
        if isinf(check.low) or isinf(check.high):
            claimed = f"below {check.high:.3g}" if isinf(check.low) else f"above {check.low:.3g}"
        else:
            claimed = f"between {check.low:.3g} and {check.high:.3g}"
        ending = ", within what matters" if word == "negligible" else ""
        return f"The interval of the {check.name}, {low:.3g} to {high:.3g}, {place} {claimed}{ending}."


def against(parts: Sequence[Verdict]) -> list[float]:
    """Return, for each part of a claim, the p-value with which it contradicts the whole; 1 where it does not.

    The smallest is multiplied by `times`. A part that no interval decides (an identity, "for every seed")
    contradicts without a correction.
    """
    factor = times(parts)
    return [
        1.0
        if part.verdict != "contradicted"
        else min(1.0, factor * part.p_value)
        if isfinite(part.p_value)
        else 0.0
        for part in parts
    ]


def times(parts: Sequence[Verdict]) -> float:
    """Return by what the smallest p-value against a conjunction is multiplied: the parts' sides/2, at least 1.

    That is the first step of Holm's procedure with p-values of one side, as in `correction`.
    """
    return max(1.0, sum(part.sides for part in parts if isfinite(part.p_value)) / 2)


def conjunction(parts: Sequence[Verdict], alpha: float) -> tuple[Word, str, Verdict, float]:
    """Return word, reason, the part that decides, and the p-value of several claims that must all hold."""
    p_against = against(parts)
    known = [part.p_value for part in parts if isfinite(part.p_value)]
    smallest = p_against.index(min(p_against))
    if p_against[smallest] <= alpha:
        part = parts[smallest]
        p = p_against[smallest] if isfinite(part.p_value) else NAN
        return "contradicted", f"Part {part.id} is contradicted: {part.reason}", part, p
    words = [part.verdict for part in parts]
    if set(words) == {"supported"}:
        weakest = max(parts, key=lambda part: part.p_value if isfinite(part.p_value) else -1.0)
        return "supported", f"All {len(parts)} parts are supported.", weakest, max(known, default=NAN)
    word = next(word for word in _LEAST_KNOWN_FIRST if word in words)
    part = parts[words.index(word)]
    reason = f"Part {part.id} is {word}: {part.reason}"
    if word == "contradicted":
        reason = (
            f"Part {part.id} alone would be contradicted, but one of {len(known)} parts is so by chance more often: "
            f"its p-value times {times(parts):g} is {p_against[words.index(word)]:.2g}. {part.reason}"
        )
    if word == "not evaluable (untrained)" or (word == "not evaluable" and set(words) == {word}):
        return word, f"Part {part.id}: {part.reason}", part, NAN
    if word == "negligible":
        return word, reason, part, part.p_value
    return "inconclusive", reason, part, max(known, default=NAN)


_LEAST_KNOWN_FIRST: tuple[Word, ...] = (
    "not evaluable (untrained)",
    "negligible",
    "contradicted",
    "inconclusive",
    "not evaluable",
)
"""Which part says what is known of a whole that is neither supported nor contradicted."""


def _unknown(values: Sequence[float]) -> bool:
    return any(value != value for value in values)
