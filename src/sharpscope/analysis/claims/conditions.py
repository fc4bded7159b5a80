"""Which rows of a table a claim is about: column → value, list of values, or bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from sharpscope.errors import InputError

Scalar = str | bool | int | float


@dataclass(frozen=True)
class Bounds:
    """From ``low`` to ``high``, both included."""

    low: float
    high: float


def check_bounds(given: Any) -> tuple[float, float]:
    """Return ``{min = ..., max = ...}`` as two numbers, infinite where one is left out; raise `InputError` else.

    >>> check_bounds({"min": 2})
    (2.0, inf)
    """
    if not isinstance(given, Mapping) or not given or set(given) - {"min", "max"}:
        raise InputError(f"bounds are {{ min = ..., max = ... }} or one of the two; received {_shown(given)}")
    for value in given.values():
        if not _is_number(value):
            raise InputError(f"bounds are finite numbers; received {value!r}")
    low, high = float(given.get("min", -math.inf)), float(given.get("max", math.inf))
    if low > high:
        raise InputError(f"min must not exceed max; received min = {low:g} and max = {high:g}")
    return low, high


def check_conditions(given: dict[str, Any]) -> dict[str, list[Scalar] | Bounds]:
    """Return conditions as lists of allowed values and `Bounds`; raise `InputError` for anything else.

    >>> check_conditions({"optimizer": "sgd", "lr": {"max": 0.1}})
    {'optimizer': ['sgd'], 'lr': Bounds(low=-inf, high=0.1)}
    """
    checked: dict[str, list[Scalar] | Bounds] = {}
    for name, condition in given.items():
        if isinstance(condition, Bounds):
            checked[name] = condition
        elif isinstance(condition, Mapping):
            checked[name] = Bounds(*check_bounds(condition))
        else:
            values = condition if isinstance(condition, list) else [condition]
            if not values or not all(isinstance(v, str | bool) or _is_number(v) for v in values):
                raise InputError(
                    f"{name} takes a value, a list of values, or {{ min = ..., max = ... }}; "
                    f"received {_shown(condition)}"
                )
            checked[name] = values
    return checked


Conditions = Annotated[dict[str, Any], AfterValidator(check_conditions)]
"""Column → the value, one of several values, or the bounds that a row must hold."""


def holds(table: pd.DataFrame, conditions: Mapping[str, list[Scalar] | Bounds]) -> pd.Series[bool]:
    """Return which rows meet all conditions; numbers are compared to nine digits, a missing value meets none.

    Raises `InputError` for a column the table has not.

    >>> table = pd.DataFrame({"lr": [0.1, 0.2, 0.4], "optimizer": ["sgd", "sam", "sgd"]})
    >>> holds(table, check_conditions({"lr": {"max": 0.3}, "optimizer": ["sgd", "asam"]})).tolist()
    [True, False, False]
    """
    kept = pd.Series(True, index=table.index)
    for name, condition in conditions.items():
        if name not in table.columns:
            raise InputError(f"there is no column {name!r}")
        column = table[name]
        if isinstance(condition, Bounds):
            numbers = pd.to_numeric(column, errors="coerce").astype(float)
            slack = 1e-9 * numbers.abs()  # 0.1 * 3 is within max = 0.3
            kept &= (numbers >= condition.low - slack) & (numbers <= condition.high + slack)
        else:
            matches = pd.Series(False, index=table.index)
            for value in condition:
                matches |= _equals(column, value)
            kept &= matches
    return kept


def _equals(column: pd.Series[Any], value: Scalar) -> pd.Series[bool]:
    if isinstance(value, bool | str):
        # A flag may come back from a table as True or as "True".
        wanted = {value, str(value)} if isinstance(value, bool) else {value}
        return column.map(lambda cell: isinstance(cell, str | bool | np.bool_) and cell in wanted).astype(
            bool
        )
    numbers = pd.to_numeric(
        column.map(lambda cell: None if isinstance(cell, bool) else cell), errors="coerce"
    )
    return pd.Series(np.isclose(numbers.astype(float), value, rtol=1e-9, atol=0), index=column.index)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
