"""Which rows meet conditions."""

import numpy as np
import pandas as pd
import pytest

from sharpscope.analysis.claims.conditions import check_conditions, holds
from sharpscope.errors import InputError

TABLE = pd.DataFrame(
    {
        "lr": [0.1 * 3, 0.1, np.nan, 1.0],
        "optimizer": ["sgd", "sam", None, "sgd"],
        "flag": pd.Series([True, "True", False, None], dtype=object),
        "mixed": pd.Series(["full", 128, 64.0, True], dtype=object),
    }
)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [1, 1, 1, 1]),
        ({"lr": 0.3}, [1, 0, 0, 0]),
        ({"lr": {"max": 0.3}}, [1, 1, 0, 0]),
        ({"lr": {"min": 0.3}}, [1, 0, 0, 1]),
        ({"lr": {"min": 0.2, "max": 0.5}}, [1, 0, 0, 0]),
        ({"lr": [0.1, 1]}, [0, 1, 0, 1]),
        ({"optimizer": "sgd", "lr": 1}, [0, 0, 0, 1]),
        ({"flag": True}, [1, 1, 0, 0]),
        ({"flag": False}, [0, 0, 1, 0]),
        ({"mixed": ["full", 64]}, [1, 0, 1, 0]),
        ({"mixed": 1}, [0, 0, 0, 0]),  # True is no number
    ],
)
def test_rows(conditions, expected):
    assert holds(TABLE, check_conditions(conditions)).tolist() == [bool(e) for e in expected]


@pytest.mark.parametrize(
    "conditions",
    [
        {"lr": None},
        {"lr": []},
        {"lr": [None]},
        {"lr": {}},
        {"lr": {"least": 1}},
        {"lr": {"min": "1"}},
        {"lr": {"min": 2, "max": 1}},
        {"lr": float("nan")},
        {"lr": {"max": float("inf")}},
        {"lr": {"min": True}},
    ],
)
def test_refusals(conditions):
    with pytest.raises(InputError):
        check_conditions(conditions)


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="'rho'"):
        holds(TABLE, check_conditions({"rho": 1}))
