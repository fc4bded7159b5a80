"""Arithmetic over columns, and everything that is not arithmetic refused."""

import numpy as np
import pandas as pd
import pytest

from sharpscope.analysis.claims.expression import check_expression, columns_of, evaluate_expression
from sharpscope.errors import InputError

TABLE = pd.DataFrame({"lr": [0.1, 0.4], "batch": [100, 250], "worst-case": [7.0, 8.0], "name": ["a", "b"]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr", [0.1, 0.4]),
        ("2/lr", [20, 5]),
        ("-lr + batch*2**2", [399.9, 999.6]),
        ("log10(batch) - sqrt(lr)", [2 - np.sqrt(0.1), np.log10(250) - np.sqrt(0.4)]),
        ("worst-case", [7, 8]),  # a column by that name, not a difference
        ("batch-lr", [99.9, 249.6]),
        ("3", [3, 3]),
        ("name", [np.nan, np.nan]),
        ("log(lr - 0.4)", [np.nan, -np.inf]),
    ],
)
def test_values(text, expected):
    assert check_expression(text) == text
    assert evaluate_expression(text, TABLE) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "lr.__class__*1",
        "(lambda: 1)()",
        "lr*[1][0]",
        "open(lr)",
        "log(lr, 2)",
        "log(lr)(lr)",
        "'a'*lr",
        "True*lr",
        "1j*lr",
        "lr if (lr) else 2",
        "(lr := 2)",
        "lr//2",
        "2/",
        "(" * 400 + "lr" + ")" * 400,
        "",
        "  ",
    ],
)
def test_no_code_is_read(text):
    with pytest.raises(InputError):
        check_expression(text)


@pytest.mark.parametrize(
    "text",
    ["1/0", "9**9**9**9", "lr + 1/0", "lr * log(0)", "sqrt(0 - 1) + lr", "exp(1e9)*lr", f"lr*{'9' * 400}"],
)
def test_a_part_without_columns_must_have_a_finite_value(text):
    with pytest.raises(InputError, match="finite value"):
        check_expression(text)


@pytest.mark.parametrize("text", ["'x'*10000000000", "+" * 600 + "lr", "lr+" * 300 + "lr"])
def test_what_would_fill_the_memory_or_the_stack_is_refused_unread(text):
    with pytest.raises(InputError):
        check_expression(text)


def test_columns_that_overflow_give_infinity_and_no_exception():
    assert evaluate_expression("lr/0", TABLE).tolist() == [np.inf, np.inf]
    assert evaluate_expression("10**(lr*1e6)", TABLE).tolist() == [np.inf, np.inf]


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="'rho'"):
        evaluate_expression("rho/lr", TABLE)


def test_columns():
    assert columns_of("2*log(lr)/batch + lr") == ["lr", "batch"]
    assert columns_of("worst case (of 8)") == ["worst case (of 8)"]
