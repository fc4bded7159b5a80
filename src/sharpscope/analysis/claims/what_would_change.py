"""What would change a verdict: how far the interval is from the threshold, and how many seeds would settle it."""

from __future__ import annotations

from math import isnan

from sharpscope.analysis.claims.finding import Check, correction
from sharpscope.analysis.claims.power import MOST_SEEDS, seeds_needed, spread_of


def would_change(
    checks: tuple[Check, ...], level: float, cluster: str, within: tuple[Check, ...] = ()
) -> str:
    """Return one sentence on what would change the verdict of these checks.

    ``within``: the checks that would show the same numbers to be too small to matter, where the claim says what does.
    An open claim is closed by whichever of the two takes fewer.

    >>> from sharpscope.analysis.claims.estimate import student
    >>> import numpy as np
    >>> would_change((Check("gain", student(np.array([1.0])), low=0.0),), 0.95, "seed")
    'At least 2 seeds would: they give the gain an interval.'
    """
    if not checks:
        return ""
    without = [check for check in checks if check.estimate.confidence is None]
    if without:
        found = without[0].estimate
        number = max(found.needed, 2) if found.needed > found.clusters else found.clusters + 1
        return f"At least {number} {cluster}s would: they give the {without[0].name} an interval."
    alpha = 1 - level
    contradicting = [check for check in checks if correction(checks) * check.p_contradicted <= alpha]
    undecided = [check for check in checks if check.p_supported > alpha and check not in contradicting]
    if contradicting or not undecided:
        # A supported claim falls with its weakest check; a contradicted one stands on its strongest.
        margins = [(_margin(check, level), check) for check in contradicting or checks]
        margin, check = (max if contradicting else min)(margins, key=lambda pair: pair[0][0])
        return (
            f"A shift of {margin[0]:.3g} in the {check.name} would: so far is the interval's nearer end from the "
            f"threshold {margin[1]:.3g}."
        )
    check = undecided[0]
    if isnan(check.estimate.interval(level)[0]):
        reached = f"at the level of {100 * level:.1f} % {check.estimate.clusters}"
        return f"More {cluster}s would: {reached} give the {check.name} no interval."
    nearer, other = check.distances()
    start = f"The interval of the {check.name} holds the threshold {check.nearest_end:.3g}"
    spread = spread_of(check.estimate)
    if spread is None:
        return f"{start}: more {cluster}s would narrow it."
    needed, ending = seeds_needed(nearer, spread, level=level, other=other), "settle it"
    negligible = _until_negligible(within, level)
    if negligible is not None and (needed is None or negligible[0] < needed):
        needed, widest = negligible
        matters = f"{widest.low:.3g} to {widest.high:.3g}"
        start = f"The interval of the {widest.name} reaches beyond what is too small to matter, {matters}"
        ending = "leave it within"
    if needed is None:
        return (
            f"{start}, and the estimate lies so close to it that fewer than {MOST_SEEDS} {cluster}s would hardly "
            "settle it."
        )
    return (
        f"{start}: if effect and spread are as estimated, {max(needed, check.estimate.clusters + 1)} {cluster}s in "
        f"all would {ending} with a chance of 80 %. {_BEFOREHAND.get(cluster, _LOOKS)}"
    )


def _until_negligible(within: tuple[Check, ...], level: float) -> tuple[int, Check] | None:
    """Return how many clusters leave all within what is too small to matter, and the check that takes them."""
    found = []
    for check in within:
        spread = spread_of(check.estimate)
        if spread is None or not check.low < check.estimate.value < check.high:
            return None
        nearer, other = check.distances()
        needed = seeds_needed(nearer, spread, level=level, other=other)
        if needed is None:
            return None
        found.append((needed, check))
    return max(found, key=lambda pair: pair[0], default=None)


_LOOKS = "Plan the looks before adding them."
_BEFOREHAND = {
    "configuration": "Decide their number beforehand: looks are made up for where seeds are added alone."
}
"""What to do before adding data, by what is added; looks count seeds."""


def _margin(check: Check, level: float) -> tuple[float, float]:
    """Return the distance from the interval to the nearest end of the claimed range, and that end."""
    ends = check.estimate.interval(level)
    return min((min(abs(value - end) for value in ends), end) for end in check.ends)
