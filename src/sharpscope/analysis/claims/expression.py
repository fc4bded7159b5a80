"""Arithmetic over a table's columns, written as text: ``2/lr``, ``lr/batch_size``, ``log(lambda_max)``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from sharpscope.analysis.resampling import Floats
from sharpscope.errors import InputError

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "log10": np.log10,
    "sqrt": np.sqrt,
}


def check_expression(text: str) -> str:
    """Return ``text`` where it is a column's name or an expression; raise `InputError` otherwise.

    An expression holds columns, numbers, ``+ - * / **``, brackets and the functions abs, exp, log, log10 and
    sqrt. Nothing else is read, and no code is ever run. Text without any of ``+ * / ( )`` is a column's name, or
    else a difference. A part without columns must have a finite value: ``1/0`` is refused.

    >>> check_expression("2/lr")
    '2/lr'
    >>> check_expression("__import__('os')")
    Traceback (most recent call last):
    ...
    sharpscope.errors.InputError: an expression holds columns, numbers, + - * / ** and abs, exp, log, log10, sqrt;
    received "__import__('os')"
    """
    if not text.strip():
        raise InputError("a column or expression may not be empty; name a column")
    if set(text) & set("+*/()"):
        _check_constants(_parsed(text), text)
    return text


Expression = Annotated[str, AfterValidator(check_expression)]
"""A column's name or arithmetic over columns, as `check_expression` accepts it."""


def columns_of(text: str) -> list[str]:
    """Return the columns an expression needs, each once.

    >>> columns_of("log(lr/batch_size) + 0*lr")
    ['lr', 'batch_size']
    """
    if not set(text) & set("+-*/()") and not text.strip().replace(".", "", 1).isdigit():
        return [text]
    try:
        tree = _parsed(text)
    except InputError:  # a name with a hyphen, "worst-case (ρ)"
        return [text]
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return list(dict.fromkeys(names))


def evaluate_expression(text: str, table: pd.DataFrame) -> Floats:
    """Return the expression's value in every row, NaN where a column is missing there or is no number.

    A column that is called exactly as ``text`` comes before any reading of it as arithmetic. Raises
    `InputError` for a column the table has not.

    >>> evaluate_expression("2/lr", pd.DataFrame({"lr": [0.1, 0.5]})).tolist()
    [20.0, 4.0]
    """
    if text in table.columns:
        return _numbers(table[text])
    missing = [name for name in columns_of(text) if name not in table.columns]
    if missing:
        raise InputError(f"there is no column {', '.join(map(repr, missing))}")
    with np.errstate(all="ignore"):
        found = np.asarray(_value(_parsed(text), table), dtype=np.float64)
    return np.broadcast_to(found, (len(table),)).copy()


_LONGEST = 500
"""Characters of the longest expression; parsing and evaluating recurse, and this keeps both far from the limit."""


def _parsed(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise InputError(
            f"an expression has at most {_LONGEST} characters, received {len(text)}; shorten it, or name a column"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refusal(text) from None
    for node in ast.walk(tree):
        allowed = (
            isinstance(node, ast.Name | ast.Load | ast.BinOp | ast.UnaryOp)
            or type(node) in _OPERATORS
            or (isinstance(node, ast.Constant) and type(node.value) in (int, float))
            or (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in _FUNCTIONS
                and len(node.args) == 1
                and not node.keywords
            )
        )
        if not allowed:
            raise _refusal(text)
    return tree


def _check_constants(node: ast.expr, text: str) -> None:
    """Raise `InputError` where a part of an expression that holds no column has no finite value."""
    parts = [
        part for part in ast.walk(node) if isinstance(part, ast.Constant | ast.BinOp | ast.UnaryOp | ast.Call)
    ]
    for part in parts:
        functions = {id(call.func) for call in ast.walk(part) if isinstance(call, ast.Call)}
        if any(isinstance(inner, ast.Name) and id(inner) not in functions for inner in ast.walk(part)):
            continue
        with np.errstate(all="ignore"):
            if not np.isfinite(_value(part, pd.DataFrame())):
                raise InputError(
                    f"every part of an expression must have a finite value, received {_shown(text)} in which "
                    f"{_shown(ast.unparse(part))} has none; change its numbers"
                )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _refusal(text: str) -> InputError:
    return InputError(
        f"an expression holds columns, numbers, + - * / ** and {', '.join(_FUNCTIONS)}; received {_shown(text)}"
    )


def _value(node: ast.expr, table: pd.DataFrame) -> Any:
    if isinstance(node, ast.Constant):
        try:  # a NumPy scalar overflows and divides by zero as a column does, without an exception
            return np.float64(node.value)  # type: ignore[arg-type]  # _parsed lets numbers alone through
        except OverflowError:
            return np.float64(np.inf)
    if isinstance(node, ast.Name):
        return _numbers(table[node.id])
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, table), _value(node.right, table))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_value(node.operand, table))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return _FUNCTIONS[node.func.id](_value(node.args[0], table))


def _numbers(column: pd.Series[Any]) -> Floats:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
