from __future__ import annotations

import math

import pytest

from sharpscope.measures.bracketing import crossing


@pytest.mark.parametrize("level", [1e-9, 0.3, 1.0, 7.0, 1e9])
def test_the_crossing_is_bracketed_to_the_tolerance(level: float) -> None:
    low, high = crossing(lambda step: step > level, 1.0, 1e-4)
    assert low <= level < high
    assert high - low <= 1e-4 * low


def test_functions_that_do_not_cross() -> None:
    low, high = crossing(lambda _: True, 1.0, 0.1)
    assert low == 0.0
    assert high < 1e-15
    low, high = crossing(lambda _: False, 1.0, 0.1)
    assert low > 1e15
    assert math.isinf(high)
