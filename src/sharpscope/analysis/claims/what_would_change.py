"""What would change a verdict: how far the interval is from the threshold, and how many seeds would settle it."""

from __future__ import annotations

from math import isfinite, sqrt

from sharpscope.analysis.claims.estimate import quantile
from sharpscope.analysis.claims.finding import Check

MOST_SEEDS = 500
"""A larger number of seeds is called not feasible: at ten minutes a run it is more than three days a setting."""


def would_change(checks: tuple[Check, ...], level: float, cluster: str) -> str:
    """Return one sentence on what would change the verdict of these checks."""
    undecided = [check for check in checks if check.outcome() == "inconclusive"]
    contradicting = [check for check in checks if check.outcome() == "contradicted"]
    if contradicting or not undecided:
        # A supported claim falls with its weakest check; a contradicted one stands on its strongest.
        margins = [(_margin(check), check) for check in contradicting or checks]
        margin, check = (max if contradicting else min)(margins, key=lambda pair: pair[0][0])
        return (
            f"A shift of {margin[0]:.3g} in the {check.name} would: so far is the interval's nearer end from the "
            f"threshold {margin[1]:.3g}."
        )
    check = undecided[0]
    if not check.estimate.has_interval:
        return f"At least two {cluster}s would: they give the {check.name} an interval."
    straight = check.estimate.straight
    value, low, high = (
        straight(part) for part in (check.estimate.value, check.estimate.low, check.estimate.high)
    )
    distance, threshold = min((abs(value - straight(end)), end) for end in _ends(check))
    start = f"The interval of the {check.name} holds the threshold {threshold:.3g}"
    if check.estimate.limit == "configurations":
        return f"{start} because single settings move the estimate that much: more settings would narrow it."
    needed = _seeds_needed(max(high - value, value - low), check.estimate.clusters, distance, level)
    if needed is None:
        return f"{start}, and the estimate lies so close to it that no feasible number of {cluster}s would settle it."
    return f"{start}: with the same spread, about {needed} {cluster}s in all would settle it."


def _margin(check: Check) -> tuple[float, float]:
    """Return the distance from the interval to the nearest end of the claimed range, and that end."""
    ends = (check.estimate.low, check.estimate.high)
    return min((min(abs(value - end) for value in ends), end) for end in _ends(check))


def _ends(check: Check) -> list[float]:
    return [end for end in (check.low, check.high) if isfinite(end)]


def _seeds_needed(reach: float, clusters: int, distance: float, level: float) -> int | None:
    if distance <= 0 or reach <= 0:
        return None
    deviation = reach * sqrt(clusters) / quantile(clusters, level)
    for k in range(clusters + 1, MOST_SEEDS + 1):
        if quantile(k, level) * deviation / sqrt(k) < distance:
            return k
    return None
