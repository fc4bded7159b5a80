"""Where an increasing function of a step crosses a level: a bracket by doubling or halving, then bisection."""

from __future__ import annotations

import math
from collections.abc import Callable

MOST_DOUBLINGS = 60
"""Times the first step is doubled or halved before the search gives up: a factor of 10^18."""


def crossing(above: Callable[[float], bool], first: float, rtol: float) -> tuple[float, float]:
    """Return (low, high) with above(high) and not above(low), high − low ≤ ``rtol`` · low, searched from ``first``.

    (0, high) where even the smallest step tried is above, (low, ∞) where no step tried is. Where ``above`` changes
    more than once, some crossing is found.

    >>> low, high = crossing(lambda step: step > 3, 1.0, 1e-6)
    >>> round(low, 4), round(high, 4)
    (3.0, 3.0)
    >>> crossing(lambda step: False, 1.0, 0.1)[1]
    inf
    """
    low, high = _bracket(above, first)
    while math.isfinite(high) and low > 0 and high - low > rtol * low:
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return low, high


def _bracket(above: Callable[[float], bool], first: float) -> tuple[float, float]:
    step = first
    if above(step):
        for _ in range(MOST_DOUBLINGS):
            step /= 2
            if not above(step):
                return step, 2 * step
        return 0.0, step
    for _ in range(MOST_DOUBLINGS):
        step *= 2
        if above(step):
            return step / 2, step
    return step, math.inf
