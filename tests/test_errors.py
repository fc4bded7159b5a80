from __future__ import annotations

import math

import pytest

from sharpscope.errors import InputError, require_at_least, require_one_of, require_positive


@pytest.mark.parametrize("value", [0, 0.0, -1, math.inf, -math.inf, math.nan])
def test_what_is_not_positive_and_finite_is_refused_with_rule_value_and_remedy(value: float) -> None:
    with pytest.raises(InputError, match=rf"^rate must be positive and finite, received {value}; try 1$"):
        require_positive("rate", value, "try 1")


def test_what_is_allowed_passes() -> None:
    require_positive("rate", 1e-300, "")
    require_at_least("steps", 3, 3, "")
    require_one_of("norm", "l2", ("l2", "linf"))


@pytest.mark.parametrize("value", [2, math.nan])
def test_what_is_too_small_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="steps must be at least 3"):
        require_at_least("steps", value, 3, "raise it")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="norm must be one of l2, linf, received 'l1'; choose one"):
        require_one_of("norm", "l1", ("l2", "linf"))
